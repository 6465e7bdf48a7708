"""A provider takes a question and comes to no answer: who writes, stops or kills meanwhile gets what is theirs."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.models import Action
from tests.acceptance.conversation import Shop
from tests.acceptance.invariants import actions, assert_all_is_well
from tests.acceptance.platform import (
    Process,
    all_is_answered,
    all_is_recorded,
    customer,
    eventually,
    number,
    owner,
    process,
)
from tests.conftest import until
from tests.doubles.ai_server import AIServer, NeverAnswers, Says, Script, Trickles

CHAT = number(1)
# Longer than any test waits: what ends sooner has not waited for the provider.
FOR_EVER, SHORT = "1h", "0.3s"

pytestmark = pytest.mark.parametrize("hang", [NeverAnswers(), Trickles()], ids=["silent", "trickling"])


@pytest.fixture
async def provider() -> AsyncIterator[AIServer]:
    async with AIServer().serving() as server:
        yield server


def a_shop(folder: Path, dsn: str, provider: AIServer, *, deadline: str = FOR_EVER) -> Shop:
    made = Shop(folder=folder, dsn=dsn)
    made.configure(f"""\
tenants: [{{instance_name: shop, owner: "+5511999990000", llm_provider: openai}}]
ai: {{base_url: "{provider.url}/v1", api: chat, model: m, deadline: {deadline}}}
flows: {{default: "Soon."}}
pace: {{debounce: 0.1s, typing: false, per_account: null}}
""")
    return made


@pytest.fixture
def shop(tmp_path: Path, dsn: str, provider: AIServer) -> Shop:
    return a_shop(tmp_path, dsn, provider)


async def ask(daemon: Process, provider: AIServer, message_id: str = "M1") -> None:
    """A customer's question, and with it the provider has begun to hang."""
    await daemon.connects()
    daemon.hear(customer(CHAT, message_id, "Are you open?"))
    await eventually(lambda: len(provider.calls) == 1)


async def gives_up(provider: AIServer) -> None:
    async with asyncio.timeout(60):
        await provider.calls[0].hung_up.wait()


async def assert_well_ended(daemon: Process, shop: Shop) -> dict[str, list[Action]]:
    """What was decided by then."""
    await all_is_answered(shop)
    finished = await daemon.ends(signal.SIGTERM)
    assert (finished.code, "Traceback" in finished.err) == (0, False), finished.err
    await assert_all_is_well(shop.dsn)
    return await actions(shop.dsn)


async def test_the_customer_s_next_message_asks_anew_with_both(
    shop: Shop, provider: AIServer, hang: Script
) -> None:
    provider.then(hang, Says(text="Until six."))
    async with process(shop) as daemon:
        await ask(daemon, provider)
        daemon.hear(customer(CHAT, "M2", "And on Sunday?"))
        await gives_up(provider)
        await eventually(lambda: len(daemon.said) == 1)
        asked = str(provider.calls[1].body["messages"])
        assert "Are you open?" in asked
        assert "And on Sunday?" in asked
        decided = await assert_well_ended(daemon, shop)
    assert decided == {"M1": [Action.JOINED], "M2": [Action.AI_REPLIED]}
    assert [said.text for said in daemon.said] == ["Until six."]


async def test_the_owner_takes_the_chat_over_at_once(shop: Shop, provider: AIServer, hang: Script) -> None:
    provider.then(hang)
    async with process(shop) as daemon:
        await ask(daemon, provider)
        daemon.hear(owner(CHAT, "takeover"))
        await gives_up(provider)
        decided = await assert_well_ended(daemon, shop)
    assert decided == {"M1": [Action.SUPERSEDED], "takeover": [Action.PAUSED]}
    assert daemon.said == []


async def test_others_are_answered_meanwhile(shop: Shop, provider: AIServer, hang: Script) -> None:
    """As many hang as would take all connections to the database, if they held one each."""
    hanging = range(2, 32)
    provider.then(*(hang for _ in hanging), Says(text="Until six."))
    async with process(shop) as daemon:
        await daemon.connects()
        daemon.hear(*(customer(number(n), f"M{n}") for n in hanging))
        await eventually(lambda: len(provider.calls) == len(hanging))
        daemon.hear(customer(CHAT, "M1"))
        await eventually(lambda: len(daemon.said) == 1)
        await until(daemon.is_ready)
        assert (await actions(shop.dsn))["M1"] == [Action.AI_REPLIED]
        provider.then(Says(text="Sorry, until six."))
        finished = await daemon.ends(signal.SIGTERM)
        assert (finished.code, "Traceback" in finished.err) == (0, False), finished.err
    async with process(shop) as second:
        await eventually(lambda: len(second.said) == len(hanging))
        decided = await assert_well_ended(second, shop)
    assert set(map(tuple, decided.values())) == {(Action.AI_REPLIED,)}
    assert sorted(daemon.sent + second.sent) == [number(n) for n in range(1, 32)]


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
async def test_who_starts_again_after_a_stop_or_a_kill_answers(
    shop: Shop, provider: AIServer, hang: Script, end: signal.Signals
) -> None:
    provider.then(hang, Says(text="Until six."))
    async with process(shop) as first:
        await ask(first, provider)
        finished = await first.ends(end)
    assert finished.code == (0 if end is signal.SIGTERM else -signal.SIGKILL)
    assert "Traceback" not in finished.err
    await gives_up(provider)
    async with process(shop) as second:
        await eventually(lambda: len(second.said) == 1)
        decided = await assert_well_ended(second, shop)
    assert decided == {"M1": [Action.AI_REPLIED]}
    assert (first.said, [said.text for said in second.said]) == ([], ["Until six."])


async def test_what_takes_too_long_has_failed_and_the_next_is_answered(
    tmp_path: Path, dsn: str, provider: AIServer, hang: Script
) -> None:
    provider.then(hang)
    shop = a_shop(tmp_path, dsn, provider, deadline=SHORT)
    async with process(shop) as impatient:
        await impatient.connects()
        impatient.hear(customer(CHAT, "M1", "Are you open?"))
        await all_is_recorded(shop, ["M1"])
        decided = await assert_well_ended(impatient, shop)
    assert (decided, impatient.said) == ({"M1": [Action.FAILED]}, [(CHAT, "Soon.")])
    provider.then(Says(text="Until six."))
    async with process(a_shop(tmp_path, dsn, provider)) as patient:
        await patient.connects()
        patient.hear(customer(CHAT, "M2", "Hello?"))
        await eventually(lambda: len(patient.said) == 1)
        decided = await assert_well_ended(patient, shop)
    assert decided == {"M1": [Action.FAILED], "M2": [Action.AI_REPLIED]}
    assert [said.text for said in patient.said] == ["Until six."]
