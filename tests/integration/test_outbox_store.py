"""The outbox's tables: a claim is the durable fence, a status moves only forward, and a receipt is never lost."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
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
    Outgoing,
    Status,
)
from storage.outbox import LEASE, BadReceipt, NotQueued, OutboxStore
from tests.conftest import until
from tests.integration.store_world import (
    ANA_BOTH,
    ANA_LID,
    BEN,
    LONG_AGO,
    NOW,
    SHOP,
    World,
    ids,
    receipt,
    said,
    typed,
)

LATER = NOW + timedelta(minutes=1)
SENT, DELIVERED, READ = Status.SENT, Status.DELIVERED, Status.READ


@pytest.fixture
async def world(db: Database) -> World:
    world = await World.open(db)
    await world.record(said("M1"))
    return world


async def claim(world: World, chat_id: ChatId, *, now: datetime = NOW) -> Claim:
    return await world.outbox.claim(await world.due(chat_id, now=now), now, LONG_AGO)


async def sent(world: World, chat_id: ChatId, external_id: str) -> MessageId:
    message_id = await world.queue(chat_id)
    due = await world.due(chat_id)
    assert await world.outbox.claim(due, NOW, LONG_AGO) is Claim.CLAIMED
    await world.outbox.mark_sent(due, ExternalId(external_id), NOW, overlapped=False)
    return message_id


async def unknown(world: World, chat_id: ChatId) -> MessageId:
    """A send of which nobody knows whether it went out."""
    message_id = await world.queue(chat_id)
    due = await world.due(chat_id)
    assert await world.outbox.claim(due, NOW, LONG_AGO) is Claim.CLAIMED
    await world.outbox.settle(due, Status.UNKNOWN, "no answer", NOW)
    return message_id


# -- claiming ---------------------------------------------------------------


async def test_of_twenty_claims_one_succeeds(world: World) -> None:
    chat_id = await world.meet()
    await world.queue(chat_id)
    due = await world.due(chat_id)
    stores = [OutboxStore(world.db, world.account, world.lease) for _ in range(20)]  # as many processes
    claims = await asyncio.gather(*(store.claim(due, NOW, LONG_AGO) for store in stores))
    assert sorted(claims) == [Claim.CLAIMED, *[Claim.GONE] * 19]


async def excluded(world: World, chat_id: ChatId) -> None:
    async with world.db.transaction() as connection:
        await world.sessions.exclude(connection, chat_id, True, NOW)


async def opted_out(world: World, chat_id: ChatId) -> None:
    async with world.db.transaction() as connection:
        await world.sessions.opt_out(connection, chat_id, True, NOW)


async def reset(world: World, chat_id: ChatId) -> None:
    async with world.db.transaction() as connection:
        await world.sessions.reset(connection, chat_id, NOW)


async def taken_over(world: World, chat_id: ChatId) -> None:
    await world.record(typed("H1"))


async def written_to_late(world: World, chat_id: ChatId) -> None:
    await world.record(typed("H1", at=NOW - timedelta(days=1)))


async def paused(world: World, chat_id: ChatId) -> None:
    await world.pause(chat_id)


async def paused_and_resumed(world: World, chat_id: ChatId) -> None:
    await world.pause(chat_id)
    [asked] = await world.record(said("R"))
    await world.resume(chat_id, asked.message)


CHANGES = [excluded, opted_out, reset, taken_over, written_to_late, paused, paused_and_resumed]


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: c.__name__)
async def test_what_was_queued_before_the_chat_changed_is_not_claimed(world: World, change: type) -> None:
    chat_id = await world.meet()
    message_id = await world.queue(chat_id)
    due = await world.due(chat_id)
    await change(world, chat_id)
    assert await world.outbox.claim(due, NOW, LONG_AGO) is Claim.CANCELLED
    row = await world.row(message_id)
    assert row["status"] == "cancelled"
    assert row["due_at"] is None
    assert row["error"]


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: c.__name__)
async def test_what_is_not_fenced_is_claimed_whatever_has_changed(world: World, change: type) -> None:
    chat_id = await world.meet()
    await world.queue(chat_id, fenced=False)
    await change(world, chat_id)
    assert await claim(world, chat_id) is Claim.CLAIMED


async def test_sql_alone_is_fence_enough(world: World) -> None:
    """A pause that is written by hand, and cancels nothing, is obeyed, also by what has the chat's epoch."""
    chat_id = await world.meet()
    await world.queue(chat_id)
    await world.db.execute(
        "UPDATE sidestep.chat_state SET is_paused = true, pause_reason = 'manual_pause', epoch = epoch + 1"
    )
    await world.db.execute("UPDATE sidestep.outbox SET epoch = epoch + 1")
    assert await claim(world, chat_id) is Claim.CANCELLED


async def test_nothing_is_claimed_during_a_global_pause_and_all_is_after_it(world: World) -> None:
    chat_id = await world.meet()
    await world.queue(chat_id)
    due = await world.due(chat_id)
    await world.set_global_pause(True)
    assert await world.outbox.claim(due, NOW, LONG_AGO) is Claim.CANCELLED
    await world.set_global_pause(False)
    await world.queue(chat_id)
    assert await claim(world, chat_id) is Claim.CLAIMED


async def test_a_pause_of_one_tenant_is_not_another_s(world: World) -> None:
    other = await World.open(world.db, replace(SHOP, instance_name="other"))
    await other.set_global_pause(True)
    chat_id = await world.meet()
    await world.queue(chat_id)
    assert await claim(world, chat_id) is Claim.CLAIMED


async def test_what_is_too_old_is_cancelled_not_sent(world: World) -> None:
    chat_id = await world.meet()
    message_id = await world.queue(chat_id)
    due = await world.due(chat_id)
    assert await world.outbox.claim(due, LATER, NOW + timedelta(seconds=1)) is Claim.CANCELLED
    assert (await world.row(message_id))["error"] == "too old to be of use"


async def test_a_chat_s_oldest_is_due_first_and_never_overtaken(world: World) -> None:
    chat_id = await world.meet()
    first, second = await world.queue(chat_id, "first"), await world.queue(chat_id, "second")
    due = await world.due(chat_id)
    assert due.id == first
    await world.outbox.claim(due, NOW, LONG_AGO)
    await world.outbox.settle(due, Status.QUEUED, "not connected", LATER)
    assert await world.outbox.next_due(chat_id, NOW) is None
    assert await world.outbox.due_chats(NOW) == [chat_id]
    again = await world.due(chat_id, now=LATER)
    assert (again.id, again.attempts) == (first, 1)
    await world.outbox.settle(again, Status.FAILED, "refused", LATER)
    assert (await world.due(chat_id)).id == second


async def test_due_chats_are_those_of_this_account(world: World) -> None:
    ana, ben = await world.meet(), await world.meet(BEN)
    await world.queue(ana)
    assert await world.outbox.due_chats(NOW) == [ana]
    assert await world.outbox.due_chats(NOW - timedelta(seconds=1)) == []
    await world.queue(ben)
    assert sorted(await world.outbox.due_chats(NOW)) == sorted([ana, ben])


async def test_text_media_metadata_and_answers_are_kept(world: World) -> None:
    chat_id = await world.meet()
    [answered] = await world.messages.undecided(world.account)
    outgoing = Outgoing(
        text="the menu", media_url="https://example.com/menu.pdf", metadata={"job": "menu", "n": [1, None]}
    )
    message_id = await world.outbox.enqueue(chat_id, outgoing, NOW, answers=[answered.id])
    due = await world.due(chat_id)
    assert (due.outgoing.text, due.outgoing.media_url) == ("the menu", "https://example.com/menu.pdf")
    assert due.answers == (answered.id,)
    [_, message] = await world.messages.history(world.tenant.tenant_id, chat_id, 5)
    assert message.id == message_id
    assert message.metadata == {"job": "menu", "n": [1, None]}


# -- taking back ------------------------------------------------------------


async def test_replies_are_taken_back_all_or_none(world: World) -> None:
    chat_id = await world.meet()
    replies = [await world.queue(chat_id, f"{n}") for n in range(3)]
    assert await claim(world, chat_id) is Claim.CLAIMED
    with pytest.raises(NotQueued):
        await world.withdraw(chat_id, *replies)
    assert [await world.status(r) for r in replies] == [Status.SENDING, Status.QUEUED, Status.QUEUED]
    await world.withdraw(chat_id, *replies[1:])
    assert [await world.status(r) for r in replies[1:]] == [Status.CANCELLED] * 2
    with pytest.raises(NotQueued):
        await world.withdraw(chat_id, *replies[1:])


async def test_an_answer_that_comes_too_late_to_take_another_s_place_leaves_nothing(world: World) -> None:
    chat_id = await world.meet()
    first = await world.queue(chat_id)
    [asked] = await world.record(said("M2"))
    decisions = [Decision(message_id=asked.message.id, action=Action.KEYWORD_REPLIED)]

    async def answer() -> list[MessageId] | None:
        return await world.outbox.answer(
            chat_id, 0, decisions, ids([asked]), [Outgoing(text="both")], NOW, withdraws=[first]
        )

    await world.db.execute("UPDATE sidestep.outbox SET status = 'sending'")
    with pytest.raises(NotQueued):
        await answer()
    assert await world.action(asked.message.id) is None
    assert await world.count("outbox") == 1
    await world.db.execute("UPDATE sidestep.outbox SET status = 'queued'")
    assert await answer()
    row = await world.row(first)
    assert (row["status"], row["error"]) == ("cancelled", "answered together with a later message")


async def test_a_reply_is_either_taken_back_or_claimed(world: World) -> None:
    chat_id = await world.meet()
    for _ in range(30):
        message_id = await world.queue(chat_id)
        due = await world.due(chat_id)
        back, taken = await asyncio.gather(
            world.withdraw(chat_id, message_id), world.outbox.claim(due, NOW, LONG_AGO),
            return_exceptions=True,
        )  # fmt: skip
        assert taken is (Claim.CANCELLED if back is None else Claim.CLAIMED)
        assert await world.status(message_id) is (Status.CANCELLED if back is None else Status.SENDING)


# -- receipts ---------------------------------------------------------------

ORDERS = [o for n in (1, 2, 3, 4) for o in itertools.product([SENT, DELIVERED, READ], repeat=n)]


async def test_receipts_in_any_order_and_number_end_in_the_furthest_and_never_go_back(world: World) -> None:
    chat_id = await world.meet()
    for n, order in enumerate(ORDERS):
        message_id = await sent(world, chat_id, f"3EB{n}")
        reached = [SENT]
        for status in order:
            changes = await world.outbox.receive(receipt(f"3EB{n}", status), NOW)
            now = await world.status(message_id)
            assert [c.status for c in changes] == ([now] if now is not reached[-1] else [])
            reached.append(now)
        rank = [SENT, DELIVERED, READ].index
        assert reached == sorted(reached, key=rank)
        assert reached[-1] == max([SENT, *order], key=rank)


@pytest.mark.parametrize(
    "order", [[DELIVERED], [READ, DELIVERED], [DELIVERED, READ, DELIVERED], [SENT, READ]]
)
async def test_receipts_that_come_before_the_send_is_recorded_are_applied_then(
    world: World, order: list[Status]
) -> None:
    chat_id = await world.meet()
    message_id = await world.queue(chat_id)
    due = await world.due(chat_id)
    await world.outbox.claim(due, NOW, LONG_AGO)
    for status in order:
        assert await world.outbox.receive(receipt("3EB0", status), NOW) == []
    furthest = max(order, key=[SENT, DELIVERED, READ].index)
    assert await world.outbox.mark_sent(due, ExternalId("3EB0"), LATER, overlapped=False) is furthest
    assert await world.status(message_id) is furthest
    assert await world.count("early_receipts") == 0


async def test_receipts_and_the_send_s_end_at_once_lose_nothing(world: World) -> None:
    chat_id = await world.meet()
    for n in range(30):
        message_id = await world.queue(chat_id)
        due = await world.due(chat_id)
        await world.outbox.claim(due, NOW, LONG_AGO)
        await asyncio.gather(
            world.outbox.receive(receipt(f"3EB{n}", READ), NOW),
            world.outbox.mark_sent(due, ExternalId(f"3EB{n}"), NOW, overlapped=False),
            world.outbox.receive(receipt(f"3EB{n}", DELIVERED), NOW),
        )
        assert await world.status(message_id) is READ


async def test_marking_sent_twice_is_marking_it_once(world: World) -> None:
    chat_id = await world.meet()
    message_id = await world.queue(chat_id)
    due = await world.due(chat_id)
    await world.outbox.claim(due, NOW, LONG_AGO)
    await world.outbox.mark_sent(due, ExternalId("3EB0"), NOW, overlapped=False)
    await world.outbox.receive(receipt("3EB0", READ), NOW)
    assert await world.outbox.mark_sent(due, ExternalId("3EB0"), LATER, overlapped=False) is None
    assert (await world.row(message_id))["sent_at"] == NOW


async def test_a_send_that_is_settled_at_this_very_moment_is_not_told_of_twice(world: World) -> None:
    """By a receipt that could only mean it, under another id: whoever told of that has told that it left."""
    message_id = await world.queue(await world.meet())
    due = await world.due(await world.meet())
    await world.outbox.claim(due, NOW, LONG_AGO)

    async def waits_for_it() -> bool:
        return bool(
            await world.db.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        )

    async with world.db.transaction() as connection:
        await connection.execute(
            "UPDATE sidestep.outbox SET status = 'read', due_at = NULL WHERE id = $1", message_id
        )
        marking = asyncio.create_task(world.outbox.mark_sent(due, ExternalId("3EB0"), NOW, overlapped=False))
        await until(waits_for_it)
    assert await marking is None
    assert await world.status(message_id) is Status.READ


async def test_what_the_platform_says_in_the_end_beats_what_was_inferred(world: World) -> None:
    chat_id = await world.meet()
    message_id = await world.queue(chat_id)
    due = await world.due(chat_id)
    await world.outbox.claim(due, NOW, LONG_AGO)
    await world.outbox.settle(due, Status.UNKNOWN, "no answer", NOW)
    await world.outbox.receive(receipt("OTHER", DELIVERED), LATER)
    await world.outbox.mark_sent(due, ExternalId("3EB0"), LATER, overlapped=False)
    row = await world.row(message_id)
    assert (row["external_id"], row["inferred"]) == ("3EB0", False)


async def test_a_receipt_counts_under_either_address_of_the_chat(world: World) -> None:
    await world.record(said("M2", by=ANA_BOTH))
    message_id = await sent(world, await world.meet(), "3EB0")
    await world.outbox.receive(receipt("3EB0", DELIVERED, chat=ANA_LID), NOW)
    assert await world.status(message_id) is DELIVERED


async def test_a_receipt_from_another_chat_changes_nothing(world: World) -> None:
    await world.record(said("B1", by=BEN))
    message_id = await sent(world, await world.meet(), "3EB0")
    assert await world.outbox.receive(receipt("3EB0", READ, chat=BEN), NOW) == []
    assert await world.status(message_id) is SENT


async def test_a_receipt_about_the_owner_s_own_message_changes_nothing(world: World) -> None:
    message_id = await unknown(world, await world.meet())
    await world.record(typed("H1"))
    assert await world.outbox.receive(receipt("H1", READ), NOW) == []
    assert await world.status(message_id) is Status.UNKNOWN


async def test_an_unknown_send_is_settled_by_the_receipt_that_can_only_mean_it(world: World) -> None:
    message_id = await unknown(world, await world.meet())
    [change] = await world.outbox.receive(receipt("3EB0", DELIVERED), LATER)
    assert (change.id, change.status, change.external_id) == (message_id, DELIVERED, "3EB0")
    row = await world.row(message_id)
    assert row["inferred"]
    assert (row["error"], row["sent_at"]) == (None, NOW)
    await world.outbox.receive(receipt("3EB0", READ), LATER)
    assert await world.status(message_id) is READ


@pytest.mark.parametrize("second", [unknown, None])
async def test_where_a_receipt_can_mean_two_sends_it_settles_none(world: World, second: object) -> None:
    chat_id = await world.meet()
    first = await unknown(world, chat_id)
    if second is None:
        await world.queue(chat_id)
        assert await claim(world, chat_id) is Claim.CLAIMED
    else:
        await unknown(world, chat_id)
    assert await world.outbox.receive(receipt("3EB0", DELIVERED), LATER) == []
    assert await world.status(first) is Status.UNKNOWN
    assert await world.count("early_receipts") == 1


async def test_what_is_unknown_in_one_chat_is_not_settled_by_another_s_receipt(world: World) -> None:
    await world.record(said("B1", by=BEN))
    message_id = await unknown(world, await world.meet())
    await world.outbox.receive(receipt("3EB0", DELIVERED, chat=BEN), LATER)
    assert await world.status(message_id) is Status.UNKNOWN


async def test_early_receipts_are_forgotten_by_age(world: World) -> None:
    await world.outbox.receive(receipt("3EB0", DELIVERED), NOW)
    await world.outbox.receive(receipt("3EB1", DELIVERED), LATER)
    assert await world.outbox.forget_receipts(LATER) == 1
    assert await world.count("early_receipts") == 1


# -- leases -----------------------------------------------------------------


async def test_a_lease_that_ended_makes_the_send_unknown_and_a_late_answer_settles_it(world: World) -> None:
    chat_id = await world.meet()
    message_id = await world.queue(chat_id)
    due = await world.due(chat_id)
    await world.outbox.claim(due, NOW, LONG_AGO)
    assert await world.outbox.abandon(NOW + LEASE - timedelta(seconds=1)) == []
    assert await world.outbox.abandon(NOW + LEASE) == [(chat_id, message_id)]
    assert await world.status(message_id) is Status.UNKNOWN
    assert await world.outbox.mark_sent(due, ExternalId("3EB0"), LATER, overlapped=True) is SENT
    assert (await world.row(message_id))["overlapped"]


async def test_what_is_settled_is_never_settled_again(world: World) -> None:
    chat_id = await world.meet()
    message_id = await world.queue(chat_id)
    due = await world.due(chat_id)
    await world.outbox.claim(due, NOW, LONG_AGO)
    await world.outbox.settle(due, Status.FAILED, "refused", NOW)
    await world.outbox.settle(due, Status.QUEUED, "not connected", NOW)
    row = await world.row(message_id)
    assert (row["status"], row["failed_at"], row["due_at"]) == ("failed", NOW, None)
    assert await world.outbox.next_due(chat_id, LATER) is None


@pytest.mark.parametrize("external_id", ["\x00", "\ud800"])
async def test_of_a_receipt_that_postgresql_refuses_nothing_is_kept(world: World, external_id: str) -> None:
    message_id = await sent(world, await world.meet(), "3EB0")
    bad = replace(receipt("3EB0", READ), external_ids=(ExternalId("3EB0"), ExternalId(external_id)))
    with pytest.raises(BadReceipt):
        await world.outbox.receive(bad, NOW)
    assert await world.status(message_id) is SENT
    [change] = await world.outbox.receive(receipt("3EB0", READ), NOW)
    assert change.status is READ


async def test_a_receipt_from_before_the_send_settles_nothing(world: World) -> None:
    chat_id = await world.meet()
    message_id = await world.queue(chat_id)
    due = await world.due(chat_id)
    assert await world.outbox.claim(due, NOW, NOW) is Claim.CLAIMED
    await world.outbox.settle(due, Status.UNKNOWN, "cut off", NOW)
    await world.outbox.receive(receipt("OLD", Status.READ, at=NOW - timedelta(days=7)), NOW)
    assert await world.status(message_id) is Status.UNKNOWN


@pytest.mark.parametrize("text", ["", " ", "\n", "\u200b\u2060"])
async def test_nothing_that_nobody_could_see_is_queued(world: World, text: str) -> None:
    with pytest.raises(ValueError, match="empty"):
        await world.queue(await world.meet(), text)


async def test_an_admin_s_lid_is_known_again_after_a_restart(world: World) -> None:
    admin, lid = Jid("5511999990001@s.whatsapp.net"), Jid("77@lid")
    await world.record(said("M1", by=Address(jid=lid, alt=admin)))
    assert await world.sessions.lids_of([admin]) == [Address(jid=admin, alt=lid)]
