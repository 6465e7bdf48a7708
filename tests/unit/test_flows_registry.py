"""What counts as a command, from whom, and which flow answers a turn."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from flows.commands.command import STAFF
from flows.contract import Outcome, Reply, Turn
from flows.keywords import KeywordFlow, KeywordRule
from flows.registry import COMMANDS, Flows, Recognised, choose, recognise
from storage.models import Action, MessageType, Role
from tests.unit.flow_world import ANA, OWN, TENANT, outcome_of, said, turn

OF_STAFF = sorted(name for name, command in COMMANDS.items() if command.roles >= STAFF)
OF_CUSTOMERS = sorted(name for name, command in COMMANDS.items() if Role.CUSTOMER in command.roles)


@dataclass(frozen=True, slots=True)
class Echo:
    """Stands for a flow with a model."""

    name: str = "ai"
    action: Action = Action.AI_REPLIED

    async def run(self, turn: Turn) -> AsyncIterator[Outcome]:
        yield Reply(text=turn.text)


FLOWS = Flows(
    keywords=KeywordFlow([KeywordRule(match=("price",), answer="From 10.")], default="Hello!"),
    ai={"anthropic": Echo()},
)
WITH_MODEL = replace(TENANT, llm_provider="anthropic")


def named(text: str, role: Role, *, own_chat: bool = False) -> str | None:
    found = recognise(text, role, own_chat=own_chat)
    return found.name if found and not found.refused else None


def test_the_staff_and_customers_have_their_own_commands() -> None:
    assert " ".join(OF_STAFF) == (
        "automatic exclude failed global help include pause reset resume resume-after search stats status why"
    )
    assert " ".join(OF_CUSTOMERS) == "help human start stop"


@pytest.mark.parametrize("name", OF_STAFF)
@pytest.mark.parametrize("role", [Role.OWNER, Role.ADMIN])
def test_owners_and_admins_give_the_staffs_commands(name: str, role: Role) -> None:
    assert named(f"/{name}", role) == name


@pytest.mark.parametrize(
    "text",
    [
        *(
            "/pause",
            "/PAUSE",
            " /Pause  ",
            "/pause 2h",
            "/pause.",
            "/pause!",
            "/pausé",
            "/pause\u0301",
            "/pause, 2h",
        ),
        *("\u200f/pause 2h", "\ufeff /pause\u200b", "／pause", "/pause\u00a02h", "/pause\n2h", "/pause,2h"),
    ],
)
def test_what_nobody_means_by_a_command_does_not_matter(text: str) -> None:
    assert named(text, Role.OWNER) == "pause"


def test_arguments_are_what_follows() -> None:
    for text in ("/pause   Ana  Souza until 18:00 ", "/pause: Ana Souza\nuntil 18:00"):
        found = recognise(text, Role.OWNER)
        assert found is not None
        assert found.arguments == "Ana Souza until 18:00"


@pytest.mark.parametrize(
    "text",
    [
        "pause",
        "hello /pause",
        "/ pause",
        "/pausing",
        "/etc/hosts",
        "//pause",
        "/",
        "",
        "/pause/2h",
        "/reset " + "your router like this, " * 10,
    ],
)
def test_all_else_that_an_owner_writes_is_the_owner_speaking(text: str) -> None:
    assert recognise(text, Role.OWNER) is None


@pytest.mark.parametrize("name", ["stop", "human", "start"])
def test_a_customers_command_is_none_from_the_owner(name: str) -> None:
    assert recognise(f"/{name}", Role.OWNER) is None


@pytest.mark.parametrize("text", ["/puase Ana", "//pause", "/pause2h", "(/pause)"])
async def test_a_mistyped_command_in_ones_own_chat_is_told_so(text: str) -> None:
    mistyped = recognise(text, Role.OWNER, own_chat=True)
    assert mistyped is not None
    result = await outcome_of(mistyped, turn(text, role=Role.OWNER, chat=OWN, own_chat=True))
    assert "Nothing has changed" in result.text
    assert not result.effects


@pytest.mark.parametrize("name", [name for name in OF_STAFF if name not in OF_CUSTOMERS])
async def test_a_customer_who_gives_the_staffs_command_is_refused_in_silence(name: str) -> None:
    text = f"/{name} resume 5511"
    result = await outcome_of(choose(turn(text), FLOWS), turn(text))
    assert result.action is Action.COMMAND_REFUSED
    assert (result.replies, result.notices, result.effects) == ((), (), ())


@pytest.mark.parametrize(
    "text",
    [
        *(
            "/human",
            "/human please, it is urgent",
            "/Human\nmy order is late",
            "/human.",
            "/human!",
            "/Human, please",
        ),
        *("\u200f/human", "／human", "/humán🙏", "*/human*"),
    ],
)
def test_a_customers_command_may_be_followed_by_anything(text: str) -> None:
    assert named(text, Role.CUSTOMER) == "human"


def test_an_unknown_slash_of_a_customers_is_something_said() -> None:
    assert recognise("/price", Role.CUSTOMER) is None
    assert choose(turn("/price"), FLOWS) is FLOWS.keywords


def test_a_keyword_goes_before_the_model() -> None:
    assert choose(turn("the price?", tenant=WITH_MODEL), FLOWS) is FLOWS.keywords


def test_the_model_of_the_tenants_provider_answers_the_rest() -> None:
    assert choose(turn("hi", tenant=WITH_MODEL), FLOWS).name == "ai"


@pytest.mark.parametrize("provider", ["none", "openai"])
def test_without_a_model_the_default_answers(provider: str) -> None:
    assert choose(turn("hi", tenant=replace(TENANT, llm_provider=provider)), FLOWS) is FLOWS.keywords


def test_a_command_is_recognised_at_the_end_of_a_burst() -> None:
    flow = choose(turn("hello", "/human"), FLOWS)
    assert isinstance(flow, Recognised)
    assert flow.name == "human"


def test_a_caption_is_never_a_command() -> None:
    assert choose(turn(said("/human", kind=MessageType.IMAGE)), FLOWS) is FLOWS.keywords


@pytest.mark.parametrize(("chat", "own"), [(ANA, False), (OWN, True)])
async def test_an_owner_who_speaks_gets_no_answer(chat: object, own: bool) -> None:
    spoken = turn(
        "the price is 10", role=Role.OWNER, chat=OWN if own else ANA, own_chat=own, tenant=WITH_MODEL
    )
    result = await outcome_of(choose(spoken, FLOWS), spoken)
    assert result.action is Action.HUMAN_SPOKE
    assert not result.replies


def test_an_admin_who_asks_is_answered_like_a_customer() -> None:
    asked = turn("hi", role=Role.ADMIN, chat=OWN, own_chat=True, tenant=WITH_MODEL)
    assert choose(asked, FLOWS).name == "ai"


def test_no_sdk_is_loaded_until_a_model_is_built() -> None:
    program = (
        "import sys, flows.registry, flows.ai.chat, flows.ai.providers as p\n"
        "assert not {'anthropic', 'openai'} & set(sys.modules)\n"
        "p.build_model('openai', api_key='k')\n"
        "assert 'openai' in sys.modules and 'anthropic' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
