"""Changes on the path: what a customer takes back or corrects before the answer is answered as it reads then, once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from bot.clock import VirtualClock
from bot.events import Decided
from flows.contract import Outcome, Reply, Turn
from storage.database import Database
from storage.decisions import explain
from storage.models import Action, Author, MessageType
from tests.integration.path_world import Path
from tests.integration.store_world import NOW, SHOP, World, said
from tests.integration.test_changes import edit, from_phone, reaction, revoke

SECOND = timedelta(seconds=1)
ANSWER, DEFAULT = "From 10 to 50.", "Ask me about prices."


@pytest.fixture
async def path(db: Database) -> Path:
    return Path.build(db, await World.open(db))


async def decisions(path: Path) -> dict[str | None, tuple[Action, str | None]]:
    return {e.external_id: (e.action, e.detail) for e in path.told if isinstance(e, Decided)}


@dataclass
class Slow:
    """A flow that thinks for five seconds, then says what it was asked; it remembers what it was told before."""

    clock: VirtualClock | None = None
    name: str = "ai"
    action: Action = Action.AI_REPLIED
    read: list[Sequence[str | None]] = field(default_factory=list)

    async def run(self, turn: Turn) -> AsyncIterator[Outcome]:
        self.read.append([m.text for m in await turn.reader.history(turn.chat.chat_id, 10)])
        assert self.clock is not None
        await self.clock.sleep(5 * SECOND)
        yield Reply(text=f"to {turn.text}")


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
async def thinking(db: Database, slow: Slow) -> Path:
    world = await World.open(db, replace(SHOP, llm_provider="anthropic"))
    path = Path.build(db, world, ai={"anthropic": slow})
    slow.clock = path.clock
    return path


async def until_thinking(path: Path) -> None:
    """The debounce is over, and an answer is being made."""
    await path.pipeline.inbox.drained()
    await path.clock.advance(3 * SECOND)


async def test_an_edit_before_the_answer_is_what_is_answered(path: Path) -> None:
    async with path.running():
        path.see(said("M1", "prize?"), edit("E1", "M1", "price?"))
        await path.settle()
        assert path.said == [ANSWER]
        assert await decisions(path) == {
            "E1": (Action.IGNORED_UNSUPPORTED, None),
            "M1": (Action.KEYWORD_REPLIED, "price"),
        }


async def test_an_edit_while_the_answer_is_made_makes_it_start_over(thinking: Path, slow: Slow) -> None:
    async with thinking.running():
        thinking.see(said("M1", "ten cakes"))
        await until_thinking(thinking)
        thinking.see(edit("E1", "M1", "twelve cakes"))
        await thinking.settle()
        assert thinking.said == ["to twelve cakes"]
        assert slow.read == [["ten cakes"], ["twelve cakes"]]


async def test_an_edit_after_the_answer_changes_the_record_alone(path: Path) -> None:
    async with path.running():
        path.see(said("M1", "price?"))
        await path.settle()
        path.see(edit("E1", "M1", "prices?"))
        await path.settle()
        assert path.said == [ANSWER]
        history = await path.world.messages.history(path.world.tenant.tenant_id, await path.world.meet(), 10)
        assert [m.text for m in history] == ["prices?", ANSWER]


async def test_an_edit_while_the_bot_types_is_read_with_the_next_message(thinking: Path, slow: Slow) -> None:
    async with thinking.running():
        thinking.see(said("M1", "ten cakes, please"))
        await until_thinking(thinking)
        await thinking.clock.advance(4 * SECOND)
        assert thinking.transport.typing
        thinking.see(edit("E1", "M1", "twelve cakes"), said("M2", "thanks"))
        await thinking.settle()
        assert thinking.said == ["to twelve cakes\nthanks"]


@pytest.mark.parametrize("first", [True, False])
async def test_what_is_revoked_before_the_answer_is_not_answered(path: Path, first: bool) -> None:
    async with path.running():
        both = [said("M1", "price?"), revoke("R1", "M1")]
        path.see(*(both if first else reversed(both)))
        await path.settle()
        assert path.said == []
        assert (await decisions(path))["M1"] == (Action.SUPERSEDED, "revoked")
        assert await path.world.messages.undecided(path.world.account) == []


async def test_of_a_burst_the_rest_is_answered(thinking: Path, slow: Slow) -> None:
    async with thinking.running():
        thinking.see(said("M1", "one"), said("M2", "two"), said("M3", "three"))
        await until_thinking(thinking)
        thinking.see(revoke("R1", "M3"))
        await thinking.settle()
        assert thinking.said == ["to one\ntwo"]
        assert slow.read[-1] == ["one", "two"]
        told = await decisions(thinking)
        assert told["M3"] == (Action.SUPERSEDED, "revoked")
        assert (told["M1"][0], told["M2"][0]) == (Action.JOINED, Action.AI_REPLIED)


async def test_what_is_revoked_while_the_bot_types_gets_no_answer_any_more(path: Path) -> None:
    async with path.running():
        path.see(said("M1", "price?"))
        await path.pipeline.inbox.drained()
        await path.clock.advance(2 * SECOND)
        assert path.transport.typing
        path.see(revoke("R1", "M1"))
        await path.settle()
        assert path.said == []
        assert not path.transport.typing
        path.see(said("M2", "hello?"))
        await path.settle()
        assert path.said == [DEFAULT]


async def test_a_change_that_was_recorded_before_a_crash_counts_after_it(path: Path) -> None:
    await path.world.record(said("M1", "prize?"), said("M2", "hm"))
    await path.world.record(edit("E1", "M1", "price?"), revoke("R1", "M2"))
    async with path.running():
        await path.pipeline.recover()
        await path.settle()
        assert path.said == [ANSWER]
        assert (await decisions(path))["M2"] == (Action.SUPERSEDED, "revoked")


async def test_a_reaction_neither_delays_an_answer_nor_starts_it_over(thinking: Path, slow: Slow) -> None:
    async with thinking.running():
        thinking.see(said("M1", "one"))
        await until_thinking(thinking)
        thinking.see(reaction("R1", "M1", "👍"))
        await thinking.settle()
        assert thinking.said == ["to one"]
        assert len(slow.read) == 1


async def test_what_the_owner_changes_takes_nothing_over_and_the_model_follows(path: Path) -> None:
    async with path.running():
        path.see(said("M1", "price?"))
        await path.settle()
        [answer] = path.transport.sent
        path.see(from_phone(edit("E1", answer.external_id, "From 20 to 50.")))
        path.see(from_phone(reaction("R1", "M1", "👍")))
        path.see(said("M2", "hello?"))
        await path.settle()
        assert path.said == [ANSWER, DEFAULT]
        told = await decisions(path)
        assert told["E1"] == told["R1"] == (Action.HUMAN_SPOKE, None)
        assert not (await path.world.session(await path.world.meet())).is_paused
        path.see(from_phone(revoke("V1", path.transport.sent[1].external_id)))
        await path.settle()
        history = await path.world.messages.history(path.world.tenant.tenant_id, await path.world.meet(), 10)
        assert [(m.author, m.text) for m in history if m.type is MessageType.TEXT] == [
            (Author.CUSTOMER, "price?"),
            (Author.BOT, "From 20 to 50."),
            (Author.CUSTOMER, "hello?"),
        ]


async def test_why_tells_what_changed_a_message_and_its_answer(path: Path) -> None:
    async with path.running():
        path.see(said("M1", "price?"))
        await path.settle()
        [answer] = path.transport.sent
        path.see(edit("E1", "M1", "prices?", 1), reaction("R1", answer.external_id, "👍", 2))
        path.see(from_phone(revoke("V1", answer.external_id, 3)))
        await path.settle()
    world = path.world
    [story] = await explain(world.db, world.sessions, world.tenant.tenant_id, "M1")
    assert [(c.type, c.author, c.text, c.at) for c in story.changes] == [
        (MessageType.EDIT, Author.CUSTOMER, "prices?", NOW + SECOND)
    ]
    [reply] = story.replies
    assert [(c.type, c.author, c.text) for c in reply.changes] == [
        (MessageType.REACTION, Author.CUSTOMER, "👍"),
        (MessageType.REVOKE, Author.HUMAN, None),
    ]
