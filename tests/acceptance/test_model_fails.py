"""A model that gives no answer: the customer gets the default one, `why` tells so, and the owner hears of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from storage.models import Action
from tests.acceptance.conversation import (
    CONFIG,
    DEFAULT,
    IDLE,
    PRICES,
    Line,
    Shop,
    Transcript,
    advance,
    customer,
)
from tests.acceptance.invariants import assert_all_is_well
from tests.doubles.ai_server import AIServer, NeverAnswers, Refuses, Says, Script

RESUME = "    auto_resume_after: 2h\n"
SHORT, LONG = "0.3s", "1h"
# A try later than the deadline allows: it is given up at once, by no clock of the machine's.
DOWN = Refuses(status=500, type="api_error", headers={"retry-after": "86400"})
WRONG_KEY = Refuses(status=401, type="authentication_error")


@pytest.fixture
async def server() -> AsyncIterator[AIServer]:
    async with AIServer().serving() as running:
        yield running


def with_model(shop: Shop, server: AIServer, keys: str = "", *, deadline: str = LONG) -> None:
    shop.configure(
        CONFIG.replace(RESUME, f"{RESUME}    llm_provider: openai\n")
        + f"ai: {{base_url: '{server.url}/v1', model: m, deadline: {deadline}{keys}}}\n"
    )


def asking(*ids: str) -> list[Line]:
    """A customer asks something new each time, and waits for the answer."""
    return [line for each in ids for line in (customer(f"Is there cake, {each}?", id=each), IDLE)]


async def talk(shop: Shop, *lines: Line) -> Transcript:
    """A chat from the first line to the last; the log may tell of failures."""
    async with shop.conversation() as conversation:
        conversation.say(*lines)
        heard = await conversation.ended()
    assert heard.code == 0
    return heard


@pytest.mark.parametrize(
    ("script", "deadline", "code"),
    [
        (DOWN, LONG, "provider_trouble"),
        (NeverAnswers(), SHORT, "deadline_exceeded"),
        (WRONG_KEY, LONG, "bad_credentials"),
    ],
    ids=["down", "silent", "wrong key"],
)
async def test_the_customer_gets_the_default_answer_and_why_tells_so(
    shop: Shop, server: AIServer, script: Script, deadline: str, code: str
) -> None:
    with_model(shop, server, deadline=deadline)
    server.then(script)
    heard = await talk(shop, *asking("Q1"), customer("price", id="Q2"), IDLE)
    assert heard.said_to() == [DEFAULT, PRICES]
    assert heard.decided("Q1") == [Action.FAILED]
    assert heard.replies[0].in_reply_to == ("Q1",)
    story = "\n".join(await shop.why("Q1"))
    assert f"failed ({code}: openai gave no answer, flows.default was said instead)" in story
    assert ": sent" in story
    await assert_all_is_well(shop.dsn)


@pytest.mark.parametrize("keys", [", fallback: silence", ""], ids=["silence", "no default"])
async def test_nothing_is_said_where_the_owner_wants_that_and_the_owner_hears_all_the_same(
    shop: Shop, server: AIServer, keys: str
) -> None:
    with_model(shop, server, keys)
    if not keys:
        config = shop.folder / "config.yaml"
        config.write_text(config.read_text(encoding="utf-8").replace(f'"{DEFAULT}"', '""'), encoding="utf-8")
    server.then(DOWN)
    heard = await talk(shop, *asking("Q1", "Q2", "Q3"))
    assert heard.replies == []
    assert [heard.decided(each) for each in ("Q1", "Q2", "Q3")] == [[Action.FAILED]] * 3
    [told] = heard.notices
    assert told.endswith("Until that is mended customers get no answer in place of the model's answers.")


async def test_an_outage_is_told_of_once_until_the_model_answers_again(shop: Shop, server: AIServer) -> None:
    with_model(shop, server)
    server.then(*[DOWN] * 4, Says(text="Yes."), DOWN)
    heard = await talk(shop, *asking("1", "2", "3", "4", "5", "6", "7", "8", "9"))
    assert heard.said_to() == [*[DEFAULT] * 4, "Yes.", *[DEFAULT] * 4]
    for told in heard.notices:
        assert told.startswith("I cannot answer with openai: it has given no answer since ")
        assert told.endswith(
            "(provider trouble). Until that is mended customers get flows.default in place of "
            "the model's answers."
        )
    assert len(heard.notices) == 2
    await assert_all_is_well(shop.dsn)


async def test_two_messages_are_enough_where_few_come(shop: Shop, server: AIServer) -> None:
    with_model(shop, server)
    server.then(DOWN)
    heard = await talk(shop, *asking("1"), advance("6m"), *asking("2"), advance("6m"), *asking("3"))
    assert len(heard.notices) == 1


async def test_a_key_that_is_not_accepted_is_told_of_at_once_and_once_a_day(
    shop: Shop, server: AIServer
) -> None:
    with_model(shop, server)
    server.then(WRONG_KEY)
    heard = await talk(shop, *asking("1", "2", "3", "4"))
    [told] = heard.notices
    assert told.startswith("I cannot answer with openai: it does not accept the key.")
