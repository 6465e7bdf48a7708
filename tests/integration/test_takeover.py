"""Takeover: the owner's line, the pause, the epoch and the end of what was queued are one commit, and final."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from storage.database import Database
from storage.models import (
    Action,
    Address,
    ChatId,
    Claim,
    Decision,
    ExternalId,
    Jid,
    MessageId,
    MessageType,
    Outgoing,
    PauseReason,
    Session,
    Status,
)
from tests.integration.store_world import AFTER, ANA, ANA_LID, LONG_AGO, NOW, World, ids, said, typed

LATER = NOW + timedelta(minutes=5)


@pytest.fixture
async def world(db: Database) -> World:
    return await World.open(db)


async def test_message_pause_epoch_and_the_end_of_the_queue_are_one_commit(world: World) -> None:
    [customer] = await world.record(said("M1"))
    chat_id = customer.message.chat_id
    queued = await world.queue(chat_id)
    before = await world.session(chat_id)
    [human] = await world.record(typed("H1"))
    after = await world.session(chat_id)
    assert human.action is Action.PAUSED
    assert (after.is_paused, after.pause_reason) == (True, PauseReason.HUMAN_TAKEOVER)
    assert (after.paused_at, after.last_human_at, after.epoch) == (NOW, NOW, before.epoch + 1)
    assert await world.status(queued) is Status.CANCELLED
    commits = await world.db.fetch(
        """
        SELECT xmin::text FROM sidestep.messages WHERE id = $1
        UNION SELECT xmin::text FROM sidestep.decisions WHERE message_id = $1
        UNION SELECT xmin::text FROM sidestep.chat_state UNION SELECT xmin::text FROM sidestep.outbox
        """,
        human.message.id,
    )
    assert len(commits) == 1


async def asked_and_answered(world: World, *, replies: int = 1) -> MessageId:
    """A question that is decided, with its answer queued."""
    [question] = await world.record(said("M1"))
    chat_id, asked = question.message.chat_id, question.message.id
    decided = Decision(message_id=asked, action=Action.KEYWORD_REPLIED)
    answer = [Outgoing(text=f"part {n}") for n in range(replies)]
    assert await world.outbox.answer(chat_id, 0, [decided], [asked], answer, NOW)
    return asked


@pytest.mark.parametrize("claimed", [False, True])
@pytest.mark.parametrize(("before", "asks"), [(timedelta(hours=3), True), (-timedelta(seconds=1), False)])
async def test_only_what_was_written_after_a_line_asks_again_for_its_answer(
    world: World, claimed: bool, before: timedelta, asks: bool
) -> None:
    asked = await asked_and_answered(world)
    due = await world.due(await world.meet())
    if claimed:
        assert await world.outbox.claim(due, NOW, LONG_AGO) is Claim.CLAIMED
    await world.record(typed("H1", at=NOW - before), now=LATER)
    if claimed:  # the sender sees the mark, and does not send
        await world.outbox.settle(due, Status.QUEUED, "a human is writing", LATER)
    assert await world.status(due.id) is Status.CANCELLED
    assert [m.id for m in await world.messages.reopened(world.account)] == ([asked] if asks else [])


async def test_what_is_answered_in_part_does_not_ask_again(world: World) -> None:
    await asked_and_answered(world, replies=2)
    due = await world.due(await world.meet())
    assert await world.outbox.claim(due, NOW, LONG_AGO) is Claim.CLAIMED
    await world.outbox.mark_sent(due, ExternalId("R1"), NOW, overlapped=False)
    await world.record(typed("H1", at=NOW - timedelta(hours=3)), now=LATER)
    assert await world.messages.reopened(world.account) == []


async def test_the_owner_may_write_first_in_a_chat_never_seen_before(world: World) -> None:
    [human] = await world.record(typed("H1", to=ANA_LID))
    session = await world.session(human.message.chat_id)
    assert human.action is Action.PAUSED
    assert session.is_paused
    assert session.epoch == 1
    assert await world.meet(ANA_LID) == human.message.chat_id


async def test_the_second_line_is_human_spoke_and_makes_the_pause_longer(world: World) -> None:
    await world.record(typed("H1"))
    [second] = await world.record(typed("H2", at=LATER), now=LATER)
    session = await world.session(second.message.chat_id)
    assert second.action is Action.HUMAN_SPOKE
    assert (session.paused_at, session.last_human_at, session.epoch) == (NOW, LATER, 2)
    assert await world.sessions.resume_due(NOW + AFTER) == []
    assert len(await world.sessions.resume_due(LATER + AFTER)) == 1


async def test_of_two_lines_in_one_batch_the_first_takes_over(world: World) -> None:
    recorded = await world.record(said("M1"), typed("H1"), said("M2"), typed("H2"))
    assert [r.action for r in recorded] == [None, Action.PAUSED, None, Action.HUMAN_SPOKE]
    assert (await world.session(recorded[0].message.chat_id)).epoch == 1


async def test_each_chat_of_a_batch_is_taken_over_for_itself(world: World) -> None:
    recorded = await world.record(typed("H1"), typed("H2", to=ANA_LID), typed("H3"))
    assert [r.action for r in recorded] == [Action.PAUSED, Action.PAUSED, Action.HUMAN_SPOKE]


async def test_a_line_older_than_the_return_raises_the_epoch_and_pauses_nothing(world: World) -> None:
    [customer] = await world.record(said("M1"))
    chat_id = customer.message.chat_id
    queued = await world.queue(chat_id)
    [human] = await world.record(typed("H1", at=NOW - AFTER))
    session = await world.session(chat_id)
    assert human.action is Action.HUMAN_SPOKE
    assert not session.is_paused
    assert (session.epoch, session.last_human_at) == (1, NOW - AFTER)
    assert await world.status(queued) is Status.CANCELLED


async def test_a_line_just_younger_than_the_return_pauses_for_the_rest(world: World) -> None:
    [human] = await world.record(typed("H1", at=NOW - AFTER + timedelta(seconds=1)))
    assert human.action is Action.PAUSED
    assert await world.sessions.resume_due(NOW) == []
    assert len(await world.sessions.resume_due(NOW + timedelta(seconds=1))) == 1


async def test_a_late_line_and_a_fresh_one_in_one_batch_take_over_by_the_fresh_one(world: World) -> None:
    late, fresh = await world.record(typed("H1", at=NOW - timedelta(days=1)), typed("H2"))
    assert [late.action, fresh.action] == [Action.HUMAN_SPOKE, Action.PAUSED]
    assert (await world.session(late.message.chat_id)).last_human_at == NOW


async def test_a_late_line_does_not_shorten_a_takeover(world: World) -> None:
    await world.record(typed("H1"))
    await world.record(typed("H0", at=NOW - timedelta(days=1)))
    assert (await world.session(await world.meet())).last_human_at == NOW


async def test_a_line_from_the_future_does_not_pause_for_ever(world: World) -> None:
    await world.record(typed("H1", at=NOW + timedelta(days=3650)))
    assert (await world.session(await world.meet())).last_human_at == NOW
    assert len(await world.sessions.resume_due(NOW + AFTER)) == 1


async def test_a_repeat_of_the_owner_s_line_pauses_nothing_again(world: World) -> None:
    await world.record(typed("H1"))
    await world.sessions.resume_due(NOW + AFTER)
    [again] = await world.record(typed("H1", at=NOW), now=NOW + AFTER)
    session = await world.session(again.message.chat_id)
    assert again.action is Action.DUPLICATE
    assert not session.is_paused
    assert session.epoch == 2


async def test_what_takes_nothing_over_pauses_nothing(world: World) -> None:
    reaction = typed("H1", type=MessageType.REACTION)
    calm = type(reaction)(event=reaction.event, author=reaction.author, action=Action.HUMAN_SPOKE)
    [recorded] = await world.record(calm)
    session = await world.session(recorded.message.chat_id)
    assert recorded.action is Action.HUMAN_SPOKE
    assert not session.is_paused
    assert session.epoch == 0


async def test_the_human_that_a_customer_waited_for_takes_the_chat_over(world: World) -> None:
    chat_id = await world.meet()
    await world.pause(chat_id, PauseReason.CUSTOMER_REQUEST)
    [human] = await world.record(typed("H1"))
    session = await world.session(chat_id)
    assert human.action is Action.PAUSED
    assert session.pause_reason is PauseReason.HUMAN_TAKEOVER
    assert session.last_human_at == NOW


async def test_a_human_in_a_chat_paused_by_hand_changes_no_reason(world: World) -> None:
    chat_id = await world.meet()
    await world.pause(chat_id, PauseReason.MANUAL_PAUSE)
    [human] = await world.record(typed("H1"))
    session = await world.session(chat_id)
    assert human.action is Action.HUMAN_SPOKE
    assert session.pause_reason is PauseReason.MANUAL_PAUSE
    assert session.last_human_at == NOW


async def take_over_unread(world: World, chat_id: ChatId, at: datetime, now: datetime) -> Session:
    async with world.db.transaction() as connection:
        await world.sessions.take_over(connection, chat_id, at, now)
    return await world.session(chat_id)


async def test_a_human_whose_words_cannot_be_read_takes_over_all_the_same(world: World) -> None:
    [customer] = await world.record(said("M1"))
    queued = await world.queue(customer.message.chat_id)
    session = await take_over_unread(world, customer.message.chat_id, NOW, LATER)
    assert (session.is_paused, session.pause_reason) == (True, PauseReason.HUMAN_TAKEOVER)
    assert (session.paused_at, session.last_human_at, session.epoch) == (LATER, NOW, 1)
    assert await world.status(queued) is Status.CANCELLED
    assert len(await world.sessions.resume_due(NOW + AFTER)) == 1


async def test_unread_words_change_no_other_pause_and_old_ones_make_none(world: World) -> None:
    [customer] = await world.record(said("M1"))
    chat_id = customer.message.chat_id
    old = await take_over_unread(world, chat_id, LONG_AGO, NOW)
    assert (old.is_paused, old.epoch) == (False, 1)
    async with world.db.transaction() as connection:
        await world.sessions.pause(connection, chat_id, PauseReason.MANUAL_PAUSE, NOW, None)
    by_hand = await take_over_unread(world, chat_id, LATER, LATER)
    assert (by_hand.pause_reason, by_hand.paused_at) == (PauseReason.MANUAL_PAUSE, NOW)
    assert (by_hand.last_human_at, by_hand.epoch) == (LATER, 3)


async def claimed_next(world: World, chat_id: ChatId) -> Claim | None:
    """What a claim of the chat's next message came to; None where none is queued."""
    due = await world.outbox.next_due(chat_id, NOW)
    return None if due is None else await world.outbox.claim(due, NOW, LONG_AGO)


async def test_three_hundred_races_no_claim_succeeds_after_the_takeover_has_returned(world: World) -> None:
    """Claims go on and on while the owner's line is recorded; each is compared with the takeover's return."""
    before = during = 0
    for n in range(300):
        address = Address(jid=Jid(f"55113{n:08}@s.whatsapp.net"))
        await world.record(said(f"M{n}", by=address))
        chat_id = await world.meet(address)
        for _ in range(3):
            await world.queue(chat_id)
        returned = asyncio.Event()

        async def take_over(
            n: int = n, address: Address = address, returned: asyncio.Event = returned
        ) -> None:
            await world.record(typed(f"H{n}", to=address))
            returned.set()

        for _ in range(n % 3):
            assert await claimed_next(world, chat_id) is Claim.CLAIMED
            before += 1
        takeover = asyncio.create_task(take_over())
        while True:
            was_over = returned.is_set()
            if (claim := await claimed_next(world, chat_id)) is None:
                break
            assert not (was_over and claim is Claim.CLAIMED)
            before += claim is Claim.CLAIMED
            during += claim is Claim.CANCELLED
        await takeover
        queued = await world.db.fetchval("SELECT count(*) FROM sidestep.outbox WHERE status = 'queued'")
        assert queued == 0
    # Not all were first, so that the race was one.
    assert during or before < 900


async def test_a_takeover_never_waits_for_a_send_that_is_under_way(world: World) -> None:
    [customer] = await world.record(said("M1"))
    message_id = await world.queue(customer.message.chat_id)
    due = await world.due(customer.message.chat_id)
    assert await world.outbox.claim(due, NOW, LONG_AGO) is Claim.CLAIMED
    async with asyncio.timeout(60):
        await world.record(typed("H1"))
    assert await world.status(message_id) is Status.SENDING


async def test_twenty_lines_at_once_take_over_once(world: World) -> None:
    recorded = await asyncio.gather(*(world.record(typed(f"H{n}")) for n in range(20)))
    actions = [r.action for batch in recorded for r in batch]
    assert sorted(a for a in actions if a) == [*[Action.HUMAN_SPOKE] * 19, Action.PAUSED]
    assert len({i for batch in recorded for i in ids(batch)}) == 20
    assert (await world.session(await world.meet(ANA))).epoch == 20
