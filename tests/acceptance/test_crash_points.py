"""Killed at every named point of a message's path, then started again on what is left."""

from __future__ import annotations

import signal
from collections import Counter

import pytest

from bot.crashpoints import VARIABLE, Point
from storage.models import Action, Status
from tests.acceptance.conversation import (
    IDLE,
    Conversation,
    Line,
    Shop,
    StatusLine,
    Transcript,
    advance,
    customer,
    owner,
)
from tests.acceptance.invariants import actions, assert_all_is_well, outbox_by_status

CHATS, TAKEN = range(6), (0, 1)
# What may have started: a claim is for one send, and each chat makes one at a time.
IN_DOUBT = {Point.CLAIMED, Point.SENT}


def number(chat: int) -> str:
    return f"+55119777700{chat:02}"


def a_day() -> list[Line]:
    """Six customers ask; in two chats the owner steps in, and is silent until the bot is back."""
    lines: list[Line] = [customer("price?", chat=number(c), id=f"first-{c}") for c in CHATS]
    lines.append(IDLE)
    lines += [owner("I am here", chat=number(c), id=f"owner-{c}") for c in TAKEN]
    lines += [customer("hours?", chat=number(c), id=f"second-{c}") for c in CHATS]
    lines += [IDLE, advance("3h")]
    lines += [customer("and the price?", chat=number(c), id=f"third-{c}") for c in CHATS]
    lines.append(IDLE)
    return lines


async def killed_at(shop: Shop, point: Point, times: int, *lines: Line) -> Transcript:
    async with shop.conversation(**{VARIABLE: f"{point}:{times}"}) as conversation:
        conversation.say(*lines)
        return await died(conversation)


async def died(conversation: Conversation) -> Transcript:
    transcript = await conversation.ended()
    assert transcript.code == -signal.SIGKILL, transcript.err
    return transcript


async def assert_the_day_is_whole(shop: Shop, *runs: Transcript) -> None:
    await assert_all_is_well(shop.dsn)
    decided = await actions(shop.dsn)
    answered = {f"{turn}-{c}" for turn in ("first", "third") for c in CHATS}
    answered |= {f"second-{c}" for c in CHATS if c not in TAKEN}
    assert {i: decided[i] for i in answered} == {i: [Action.KEYWORD_REPLIED] for i in answered}
    for chat in TAKEN:
        assert Action.PAUSED in decided[f"owner-{chat}"]
        assert decided[f"second-{chat}"] == [Action.IGNORED_PAUSED]
    told = Counter(i for run in runs for reply in run.replies for i in reply.in_reply_to)
    assert [i for i, times in told.items() if times > 1] == []
    statuses = await outbox_by_status(shop.dsn)
    assert statuses[Status.SENT] + statuses.get(Status.UNKNOWN, 0) == len(answered)


@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.parametrize(
    "point",
    [Point.SEEN, Point.RECORDED, Point.PROPOSED, Point.DECIDED, Point.CLAIMED, Point.SENT, Point.MARKED],
)
async def test_the_day_goes_on_where_it_was_cut(shop: Shop, point: Point, times: int) -> None:
    first = await killed_at(shop, point, times, *a_day())
    second = await shop.chat(*a_day())
    await assert_the_day_is_whole(shop, first, second)
    unknown = (await outbox_by_status(shop.dsn)).get(Status.UNKNOWN, 0)
    if point in IN_DOUBT:
        assert 1 <= unknown <= len(CHATS)
    else:
        # Other chats' sends may have been under way.
        assert unknown < len(CHATS)


async def test_a_pause_that_ended_by_clock_has_ended(shop: Shop) -> None:
    first = await killed_at(shop, Point.RESUMED, 1, *a_day())
    assert len(await actions(shop.dsn)) >= len(CHATS) * 2
    await assert_the_day_is_whole(shop, first, await shop.chat(*a_day()))


async def test_killed_again_while_it_recovers_it_recovers_all_the_same(shop: Shop) -> None:
    first = await killed_at(shop, Point.SENT, 1, *a_day())
    second = await killed_at(shop, Point.RECOVERING, 1)
    await assert_the_day_is_whole(shop, first, second, await shop.chat(*a_day()))


async def test_a_receipt_is_kept_before_anybody_is_told(shop: Shop) -> None:
    async with shop.conversation(**{VARIABLE: Point.RECEIVED}) as conversation:
        conversation.say(customer("price?", id="Q"), IDLE)
        reply = await conversation.reply()
        conversation.say({"receipt": "read", "id": reply.id})
        killed = await died(conversation)
    assert Status.READ not in [o.status for o in killed.outputs if isinstance(o, StatusLine)]
    assert await outbox_by_status(shop.dsn) == {Status.READ: 1}
    await shop.chat(IDLE)
    await assert_all_is_well(shop.dsn)


async def test_a_point_that_nobody_knows_is_named(shop: Shop) -> None:
    finished = await shop.run("chat", "--jsonl", stdin=b"", **{VARIABLE: "sending"})
    assert finished.code != 0
    assert f"{VARIABLE}=sending: must be one of seen, recorded," in finished.err
