"""Killed at any moment and started again: nothing recorded is lost, and nobody is answered twice."""

from __future__ import annotations

import signal
from collections import Counter

import pytest

from storage.models import Action, Status
from tests.acceptance.conversation import (
    CUSTOMER,
    IDLE,
    PRICES,
    Conversation,
    Decision,
    Line,
    Output,
    Reply,
    Shop,
    Transcript,
    advance,
    customer,
    owner,
)
from tests.acceptance.invariants import assert_all_is_well, outbox_by_status, recorded_ids
from tests.conftest import connected, until

CHATS, ROUNDS = 40, 5
IDS = {f"{chat}-{turn}" for chat in range(CHATS) for turn in range(ROUNDS)}

CUT_OFF_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


def two_hundred_messages() -> list[Line]:
    """Forty customers write five lines each; the bot answers after every round."""
    lines: list[Line] = []
    for turn in range(ROUNDS):
        lines += [
            customer("price?", chat=f"+55119777700{chat:02}", id=f"{chat}-{turn}") for chat in range(CHATS)
        ]
        lines.append(IDLE)
    return lines


async def kill(conversation: Conversation) -> Transcript:
    conversation.signal(signal.SIGKILL)
    transcript = await conversation.ended()
    assert transcript.code == -signal.SIGKILL
    return transcript


def decided_ids(transcript: Transcript) -> set[str]:
    return {o.id for o in transcript.outputs if isinstance(o, Decision)}


async def assert_each_answered_once(shop: Shop, *outputs: Output) -> None:
    """By the database at rest, and by what the processes together have told."""
    await assert_all_is_well(shop.dsn)
    answers = Counter(i for o in outputs if isinstance(o, Reply) for i in o.in_reply_to)
    assert [i for i, count in answers.items() if count > 1] == []
    statuses = await outbox_by_status(shop.dsn)
    assert set(statuses) <= {Status.SENT, Status.UNKNOWN}
    # One account sends one message at a time: one send at most can have been cut off.
    assert statuses.get(Status.UNKNOWN, 0) <= 1


@pytest.mark.parametrize("outputs", [1, 87, 455])
async def test_killed_among_its_answers_it_finishes_them(shop: Shop, outputs: int) -> None:
    async with shop.conversation() as conversation:
        conversation.say(*two_hundred_messages())
        for _ in range(outputs):
            await conversation.next()
        killed = await kill(conversation)
    recorded = await recorded_ids(shop.dsn)
    assert decided_ids(killed) <= set(recorded)
    after = await shop.chat()
    assert await recorded_ids(shop.dsn) == recorded
    await assert_each_answered_once(shop, *killed.outputs, *after.outputs)


@pytest.mark.parametrize("recorded", [1, 57, 199])
async def test_killed_while_recording_it_takes_the_rest_when_it_comes_again(
    shop: Shop, recorded: int
) -> None:
    async with shop.conversation() as conversation:
        conversation.say(*two_hundred_messages())

        async def has_recorded() -> bool:
            return len(await recorded_ids(shop.dsn)) >= recorded

        await until(has_recorded)
        killed = await kill(conversation)
    after = await shop.chat(*two_hundred_messages())
    ids = await recorded_ids(shop.dsn)
    assert set(ids) == IDS
    assert len(ids) == len(IDS)
    await assert_each_answered_once(shop, *killed.outputs, *after.outputs)


async def test_an_answer_that_was_queued_is_sent_once_by_the_next(shop: Shop) -> None:
    async with shop.conversation() as conversation:
        # The debounce is over, and the bot would type a little longer.
        conversation.say(customer("price", id="Q"), advance("2.1s"))
        assert isinstance(await conversation.next(), Decision)
        killed = await kill(conversation)
    assert killed.replies == []
    assert await outbox_by_status(shop.dsn) == {Status.QUEUED: 1}
    after = await shop.chat()
    assert [(r.in_reply_to, r.text) for r in after.replies] == [(("Q",), PRICES)]
    assert (await shop.chat()).outputs == ()
    await assert_all_is_well(shop.dsn)


async def test_a_question_in_its_debounce_is_answered_by_the_next(shop: Shop) -> None:
    async with shop.conversation() as conversation:
        conversation.say(customer("price", id="Q"))

        async def has_recorded() -> bool:
            return await recorded_ids(shop.dsn) == ["Q"]

        await until(has_recorded)
        await kill(conversation)
    assert [r.in_reply_to for r in (await shop.chat()).replies] == [("Q",)]


async def test_a_send_that_was_cut_off_is_unknown_and_never_repeated(shop: Shop) -> None:
    async with connected(shop.dsn) as connection, shop.conversation() as conversation:
        conversation.say(customer("price", id="Q"), advance("2.1s"))
        await conversation.next()
        # From here on what is sent cannot be recorded: that needs the platform's id in this table.
        async with connection.transaction():
            await connection.execute("LOCK TABLE sidestep.message_keys IN SHARE MODE")
            conversation.say(IDLE)

            async def is_sending() -> bool:
                return await outbox_by_status(shop.dsn) == {Status.SENDING: 1}

            await until(is_sending)
            killed = await kill(conversation)
            # Else the server would still carry out what the dead process had asked for.
            await connection.execute(CUT_OFF_OTHERS)
    assert killed.replies == []
    after = await shop.chat()
    assert (after.replies, [o.status for o in after.outputs if hasattr(o, "status")]) == (
        [],
        [Status.UNKNOWN],
    )
    assert await outbox_by_status(shop.dsn) == {Status.UNKNOWN: 1}
    assert (await shop.chat(IDLE)).outputs == ()
    await assert_all_is_well(shop.dsn)


async def test_a_takeover_outlives_the_kill_and_still_ends_by_clock(shop: Shop) -> None:
    async with shop.conversation() as conversation:
        conversation.say(customer("price", id="Q"), owner("I am here", id="takeover"))
        while not (isinstance(output := await conversation.next(), Decision) and output.id == "takeover"):
            pass
        await kill(conversation)
    after = await shop.chat(
        *(customer("price", id="early"), IDLE, advance("3h"), customer("price", id="late"), IDLE)
    )
    assert after.decided("early") == [Action.IGNORED_PAUSED]
    assert after.decided("takeover") == [Action.RESUMED]
    assert [r.in_reply_to for r in after.replies] == [("late",)]
    assert after.said_to(CUSTOMER) == [PRICES]
    await assert_all_is_well(shop.dsn)
