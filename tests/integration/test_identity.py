"""Identity: a phone number and a LID of one person lead to one contact and one chat, in whatever order we learn."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import asyncpg
import pytest

from storage.database import Database
from storage.messages import BadArrival, MessageStore
from storage.models import (
    Action,
    Address,
    ChatId,
    Claim,
    Decision,
    ExternalId,
    Jid,
    Merge,
    Outgoing,
    PauseReason,
    Status,
)
from tests.integration.store_world import (
    ANA,
    ANA_BOTH,
    ANA_LID,
    BEN,
    NOW,
    TEAM,
    World,
    ids,
    receipt,
    said,
    typed,
)

STEPPED_IN, LATER = NOW + timedelta(minutes=1), NOW + timedelta(minutes=10)
ANA_SWAPPED = Address(jid=ANA.jid, alt=ANA_LID.jid)


@pytest.fixture
async def world(db: Database) -> World:
    return await World.open(db)


async def contacts(world: World) -> list[tuple[object, ...]]:
    rows = await world.db.fetch(
        "SELECT jid, lid, phone, push_name FROM sidestep.contacts ORDER BY contact_id"
    )
    return [tuple(r) for r in rows]


async def live_chats(world: World) -> set[ChatId]:
    return {ChatId(r["chat_id"]) for r in await world.db.fetch("SELECT chat_id FROM sidestep.chat_state")}


async def merge(world: World) -> list[Merge]:
    """Ana's two chats turn out to be one."""
    _, merges = await world.messages.record(world.account, [said("BOTH", by=ANA_BOTH)], LATER)
    return merges


async def two_chats(world: World) -> tuple[ChatId, ChatId]:
    """Ana is known by number and by LID, and nobody knows yet that it is her both times."""
    [by_phone] = await world.record(said("P1", "by phone"))
    [by_lid] = await world.record(said("L1", "by LID", by=ANA_LID))
    assert by_phone.message.chat_id != by_lid.message.chat_id
    return by_phone.message.chat_id, by_lid.message.chat_id


ORDERS = [
    [ANA, ANA_BOTH],
    [ANA_LID, ANA_BOTH],
    [ANA, ANA_SWAPPED],
    [ANA_LID, ANA_SWAPPED],
    [ANA_BOTH, ANA, ANA_LID],
    [ANA_SWAPPED, ANA_LID, ANA],
    [ANA, ANA_LID, ANA_BOTH],
    [ANA_LID, ANA, ANA_SWAPPED],
    [ANA, ANA_LID, ANA_BOTH, ANA, ANA_LID],
]


@pytest.mark.parametrize("order", ORDERS)
async def test_whatever_the_order_it_ends_in_one_contact_and_one_chat(
    world: World, order: list[Address]
) -> None:
    for n, address in enumerate(order):
        await world.record(said(f"M{n}", by=address, push_name="Ana"))
    assert await contacts(world) == [(ANA.jid, ANA_LID.jid, "5511988880001", "Ana")]
    assert len(await live_chats(world)) == 1
    assert len({await world.meet(a) for a in order}) == 1
    assert len(await world.messages.undecided(world.account)) == len(order)


async def test_twenty_at_once_end_in_one_contact_and_one_chat(world: World) -> None:
    order = [*[ANA, ANA_BOTH, ANA_LID] * 6, ANA_LID, ANA]

    async def identify(n: int, address: Address) -> None:
        await MessageStore(world.db).record(world.account, [said(f"M{n}", by=address)], NOW)

    await asyncio.gather(*(identify(n, a) for n, a in enumerate(order)))
    assert len(await contacts(world)) == 1
    assert len(await live_chats(world)) == 1
    assert await world.count("messages") == 20
    assert await world.db.fetchval("SELECT count(*) FROM sidestep.threads WHERE status = 'active'") == 1
    assert len(await world.messages.undecided(world.account)) == 20


async def test_the_older_chat_stays_and_the_merge_is_told(world: World) -> None:
    phone, lid = await two_chats(world)
    assert await merge(world) == [Merge(keep=phone, gone=lid)]
    assert await world.db.fetchval("SELECT merged_into FROM sidestep.chats WHERE chat_id = $1", lid) == phone
    aliases = await world.db.fetch("SELECT jid, chat_id FROM sidestep.chat_aliases ORDER BY jid")
    assert {(r["jid"], r["chat_id"]) for r in aliases} == {(ANA.jid, phone), (ANA_LID.jid, phone)}
    left = await world.db.fetchval("SELECT count(*) FROM sidestep.chat_state WHERE chat_id = $1", lid)
    assert left == 0


async def test_a_merge_is_told_also_when_its_batch_could_not_be_recorded(world: World) -> None:
    phone, lid = await two_chats(world)
    with pytest.raises(BadArrival):
        await world.record(said("BAD", "\x00", by=ANA_BOTH))
    _, merges = await world.messages.record(world.account, [said("M1")], LATER)
    assert merges == [Merge(keep=phone, gone=lid)]


async def test_both_histories_become_one_in_one_thread(world: World) -> None:
    phone, _ = await two_chats(world)
    await world.record(said("P2", "by phone again"))
    await merge(world)
    history = await world.messages.history(world.tenant.tenant_id, phone, 10)
    assert [m.text for m in history] == ["by phone", "by LID", "by phone again", "hello"]
    active = await world.db.fetch("SELECT thread_id FROM sidestep.threads WHERE status = 'active'")
    assert [r["thread_id"] for r in active] == [history[-1].thread_id]


async def test_the_same_message_received_under_both_addresses_is_decided_once(world: World) -> None:
    [first] = await world.record(said("SAME"))
    [second] = await world.record(said("SAME", by=ANA_LID))
    assert second.is_new
    await merge(world)
    assert await world.action(first.message.id) is None
    assert await world.action(second.message.id) is Action.DUPLICATE
    [again] = await world.record(said("SAME", by=ANA_LID))
    assert not again.is_new


async def test_what_was_decided_already_stays_as_it_was_decided(world: World) -> None:
    await world.record(said("SAME"))
    [second] = await world.record(said("SAME", by=ANA_LID))
    decision = Decision(message_id=second.message.id, action=Action.KEYWORD_REPLIED)
    await world.outbox.dismiss(second.message.chat_id, [decision], NOW)
    await merge(world)
    assert await world.action(second.message.id) is Action.KEYWORD_REPLIED


@pytest.mark.parametrize("paused", [0, 1])
async def test_a_pause_wins_and_the_epoch_passes_both(world: World, paused: int) -> None:
    chats = await two_chats(world)
    for _ in range(3):
        await world.pause(chats[paused], PauseReason.CUSTOMER_REQUEST)
    before = [await world.session(c) for c in chats]
    await merge(world)
    after = await world.session(chats[0])
    assert after.is_paused
    assert after.pause_reason is PauseReason.CUSTOMER_REQUEST
    assert after.paused_at == NOW
    assert after.epoch == max(s.epoch for s in before) + 1


async def test_a_pause_without_an_end_wins_over_one_that_ends(world: World) -> None:
    phone, lid = await two_chats(world)
    await world.pause(phone, until=LATER)
    await world.pause(lid)
    await merge(world)
    session = await world.session(phone)
    assert session.is_paused
    assert session.paused_until is None


async def test_an_end_of_a_pause_stays_when_the_other_chat_was_not_paused(world: World) -> None:
    phone, lid = await two_chats(world)
    await world.pause(lid, until=LATER)
    await merge(world)
    assert (await world.session(phone)).paused_until == LATER


async def test_exclusion_opt_out_and_the_human_s_last_word_are_kept(world: World) -> None:
    phone, lid = await two_chats(world)
    async with world.db.transaction() as connection:
        await world.sessions.exclude(connection, phone, True, NOW)
        await world.sessions.opt_out(connection, lid, True, NOW)
    await world.record(typed("H1", to=ANA_LID))
    await merge(world)
    session = await world.session(phone)
    assert session.is_excluded
    assert session.opted_out_at == NOW
    assert session.last_human_at == NOW
    assert session.pause_reason is PauseReason.HUMAN_TAKEOVER


async def test_what_was_queued_in_either_is_still_owed_and_what_was_sent_keeps_its_receipts(
    world: World,
) -> None:
    phone, lid = await two_chats(world)
    sent = await world.queue(lid, "sent")
    due = await world.due(lid)
    assert await world.outbox.claim(due, NOW, NOW) is Claim.CLAIMED
    await world.outbox.mark_sent(due, ExternalId("3EB01"), NOW, overlapped=False)
    queued = [await world.queue(phone), await world.queue(lid)]
    notice = await world.queue(lid, "for the owner", fenced=False)
    await merge(world)
    for owed in (*queued, notice):
        due = await world.due(phone, now=LATER)
        assert due.id == owed
        assert await world.outbox.claim(due, LATER, NOW) is Claim.CLAIMED
    await world.outbox.receive(receipt("3EB01", Status.READ, chat=ANA_LID), LATER)
    assert await world.status(sent) is Status.READ


@pytest.mark.parametrize("asked", [NOW, NOW + timedelta(minutes=5)], ids=["before", "after"])
async def test_what_a_human_has_answered_in_the_other_chat_is_owed_no_more(
    world: World, asked: datetime
) -> None:
    phone, lid = await two_chats(world)
    [question] = await world.record(said("P2", "price?", at=asked), now=asked)
    await world.record(typed("H1", to=ANA_LID, at=STEPPED_IN), now=STEPPED_IN)
    async with world.db.transaction() as connection:
        await connection.execute("SELECT sidestep.resume($1, $2)", world.tenant.tenant_id, lid)
    asked_at = asked + timedelta(seconds=2)
    epoch = await world.outbox.epoch(phone)
    decided = [Decision(message_id=question.message.id, action=Action.KEYWORD_REPLIED)]
    [answer] = (
        await world.outbox.answer(
            phone, epoch, decided, [question.message.id], [Outgoing(text="50")], asked_at
        )
        or []
    )
    await merge(world)
    assert await world.status(answer) is (Status.QUEUED if asked > NOW else Status.CANCELLED)


async def test_a_send_that_was_under_way_during_the_merge_is_marked_sent(world: World) -> None:
    _, lid = await two_chats(world)
    message_id = await world.queue(lid)
    due = await world.due(lid)
    assert await world.outbox.claim(due, NOW, NOW) is Claim.CLAIMED
    await merge(world)
    assert await world.outbox.mark_sent(due, ExternalId("3EB01"), LATER, overlapped=False) is Status.SENT
    await world.outbox.receive(receipt("3EB01", Status.DELIVERED), LATER)
    assert await world.status(message_id) is Status.DELIVERED


async def test_whoever_still_holds_the_merged_chat_s_id_means_the_one_that_it_became(world: World) -> None:
    phone, lid = await two_chats(world)
    [message] = await world.record(said("L2", by=ANA_LID))
    epoch = await world.outbox.epoch(lid)
    await merge(world)
    tenant_id, message_id = world.tenant.tenant_id, message.message.id
    chat = await world.sessions.chat(lid)
    assert chat is not None
    assert chat.chat_id == phone
    # An answer that was begun before the merge is stale; nothing of it is kept.
    decisions = [Decision(message_id=message_id, action=Action.AI_REPLIED)]
    assert await world.outbox.answer(lid, epoch, decisions, [message_id], [Outgoing(text="x")], LATER) is None
    assert await world.messages.still_open(tenant_id, lid, [message_id]) == {message_id}
    # A command's is not: it takes effect in the chat as it is now.
    assert await world.outbox.answer(lid, None, decisions, [message_id], [Outgoing(text="x")], LATER)
    assert await world.action(message_id) is Action.AI_REPLIED
    assert (await world.due(phone, now=LATER)).outgoing.text == "x"
    await world.pause(lid)
    assert (await world.session(phone)).is_paused
    fenced = await world.queue(lid)
    assert (await world.row(fenced))["epoch"] == (await world.session(phone)).epoch


async def test_decisions_made_while_two_chats_are_merged_are_made_or_left_open(world: World) -> None:
    """Twenty rounds of a race: no decision is lost, and none is made twice."""
    for n in range(20):
        phone = Address(jid=Jid(f"55119777700{n:02}@s.whatsapp.net"))
        lid = Address(jid=Jid(f"2000000000000{n:02}@lid"))
        await world.record(said(f"P{n}", by=phone))
        [message] = await world.record(said(f"L{n}", by=lid))
        decision = Decision(message_id=message.message.id, action=Action.KEYWORD_REPLIED)
        both = said(f"B{n}", by=Address(jid=lid.jid, alt=phone.jid))
        closed, _ = await asyncio.gather(
            world.outbox.dismiss(message.message.chat_id, [decision], NOW),
            MessageStore(world.db).record(world.account, [both], LATER),
        )
        assert closed == [decision]
        assert await world.action(message.message.id) is Action.KEYWORD_REPLIED


async def test_a_group_that_names_both_forms_joins_two_chats(world: World) -> None:
    phone, lid = await two_chats(world)
    _, merges = await world.messages.record(world.account, [said("G1", by=ANA_BOTH, group=TEAM)], LATER)
    assert merges == [Merge(keep=phone, gone=lid)]
    assert len(await contacts(world)) == 1


async def test_who_only_speaks_in_a_group_gets_no_chat(world: World) -> None:
    await world.record(said("G1", by=ANA_BOTH, group=TEAM), said("G2", by=BEN, group=TEAM))
    assert len(await contacts(world)) == 2
    assert len(await live_chats(world)) == 1


async def test_messages_in_a_group_keep_their_sender_when_two_contacts_become_one(world: World) -> None:
    recorded = await world.record(said("G1", by=ANA, group=TEAM), said("G2", by=ANA_LID, group=TEAM))
    await world.record(said("G3", by=ANA_BOTH, group=TEAM))
    found = [m for m in await world.messages.undecided(world.account) if m.id in ids(recorded)]
    assert [set(m.sender_jids) for m in found] == [{ANA.jid, ANA_LID.jid}] * 2
    again = await world.record(said("G1", by=ANA_LID, group=TEAM), said("G2", by=ANA, group=TEAM))
    assert [r.is_new for r in again] == [False, False]


async def test_a_name_is_the_last_that_the_person_showed_and_never_ours(world: World) -> None:
    await world.record(said("M1", push_name="Ana"), said("M2"), typed("H1", push_name="The owner"))
    assert [c[3] for c in await contacts(world)] == ["Ana"]
    await world.record(said("M3", push_name="Ana S."))
    assert [c[3] for c in await contacts(world)] == ["Ana S."]


async def test_replies_go_to_the_address_that_the_customer_used_last(world: World) -> None:
    await world.record(said("M1", by=ANA_BOTH))
    await world.record(said("M2", by=ANA))
    chat_id = await world.meet()
    await world.record(typed("H1", to=ANA_LID))
    await world.queue(chat_id)
    due = await world.due(chat_id)
    assert due.to == ANA.jid
    assert set(due.jids) == {ANA.jid, ANA_LID.jid}


async def test_a_merge_with_a_silent_chat_cancels_what_was_queued(world: World) -> None:
    phone, lid = await two_chats(world)
    queued = await world.queue(phone)
    await world.pause(lid)
    await merge(world)
    assert await world.status(queued) is Status.CANCELLED


async def test_a_number_that_passed_to_somebody_else_joins_nobody(world: World) -> None:
    number, first, second = Jid("551100000001@s.whatsapp.net"), Jid("91@lid"), Jid("92@lid")
    other = Jid("551100000002@s.whatsapp.net")
    await world.record(said("M1", "my address", by=Address(jid=first, alt=number)))
    await world.record(said("M2", "hello", by=Address(jid=second, alt=other)))
    await world.record(said("M3", "it is me, with a new number", by=Address(jid=second, alt=number)))
    before, now = await world.meet(Address(jid=first)), await world.meet(Address(jid=second))
    assert before != now
    assert await world.meet(Address(jid=number)) == now
    told = await world.messages.history(world.tenant.tenant_id, now, 10)
    assert [m.text for m in told] == ["hello", "it is me, with a new number"]


async def test_two_hundred_strangers_at_once_are_met_in_one_call(world: World) -> None:
    calls: list[str] = []

    class Counting(Database):
        def __init__(self, database: Database) -> None:
            super().__init__(database._pool, database.address)

        async def fetch(
            self, query: str, *args: object, timeout: float | None = None
        ) -> list[asyncpg.Record]:
            calls.append(query)
            return await super().fetch(query, *args, timeout=timeout)

    messages = MessageStore(Counting(world.db))
    strangers = [Address(jid=Jid(f"4915{n:09d}@s.whatsapp.net")) for n in range(200)]
    recorded, merges = await messages.record(
        world.account, [said(f"N{n}", by=who) for n, who in enumerate(strangers)], NOW
    )
    assert len(set(ids(recorded))) == 200
    assert len({r.message.chat_id for r in recorded}) == 200
    assert merges == []
    assert len(calls) == 2
