"""The past: each message at its own time, recorded once whoever tells it, and nothing of it wakes the bot."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.database import Database
from storage.messages import MessageStore
from storage.models import (
    Action,
    Address,
    Arrival,
    Author,
    ChatId,
    ExternalId,
    Jid,
    MessageId,
    MessageType,
    Status,
)
from tests.integration.store_world import (
    ANA,
    ANA_BOTH,
    ANA_LID,
    BEN,
    LONG_AGO,
    NOW,
    TEAM,
    World,
    ids,
    of_type,
    receipt,
    said,
    typed,
)

YESTERDAY = NOW - timedelta(days=1)
INVARIANT = """
SELECT count(*) FROM sidestep.messages m JOIN sidestep.threads t USING (tenant_id, thread_id)
 WHERE m.id < sidestep.id_floor(t.created_at) OR m.chat_id <> t.chat_id
"""


@pytest.fixture
async def world(db: Database) -> World:
    return await World.open(db)


async def remembered(world: World, chat_id: ChatId, limit: int = 50) -> list[str | None]:
    """What a model would read of the chat."""
    return [m.text for m in await world.messages.history(world.tenant.tenant_id, chat_id, limit)]


async def test_the_past_sorts_at_its_own_time_before_what_was_live(world: World) -> None:
    [live] = await world.record(said("M9", "and today?"))
    new = await world.record_past(
        said("M1", "price?", at=YESTERDAY),
        typed("H1", "10", at=YESTERDAY + timedelta(minutes=1)),
        said("M2", "thank you", at=YESTERDAY + timedelta(minutes=2)),
    )
    assert new == 3
    assert await world.texts() == ["price?", "10", "thank you", "and today?"]
    past = await world.messages.history(world.tenant.tenant_id, live.message.chat_id, 10)
    assert [m.sent_at for m in past[:3]] == [YESTERDAY + timedelta(minutes=n) for n in range(3)]
    assert [m.author for m in past] == [Author.CUSTOMER, Author.HUMAN, Author.CUSTOMER, Author.CUSTOMER]


async def test_nothing_of_the_past_wakes_pauses_or_moves_anything(world: World) -> None:
    [live] = await world.record(said("M9", by=ANA))
    chat_id = live.message.chat_id
    before = await world.db.fetchrow("SELECT * FROM sidestep.chat_state WHERE chat_id = $1", chat_id)
    await world.record_past(
        said("M1", "price?", at=YESTERDAY, by=ANA_BOTH),
        said("M2", "/stop", at=YESTERDAY),
        typed("H1", "I am here", at=NOW - timedelta(seconds=1)),
    )
    assert await world.db.fetchrow("SELECT * FROM sidestep.chat_state WHERE chat_id = $1", chat_id) == before
    assert [m.id for m in await world.messages.undecided(world.account)] == [live.message.id]
    rows = await world.db.fetch(
        "SELECT action_taken FROM sidestep.decisions d JOIN sidestep.messages m ON m.id = d.message_id"
        " WHERE m.external_id <> 'M9'"
    )
    assert [r["action_taken"] for r in rows] == [Action.IMPORTED] * 3


async def test_what_a_new_chat_remembers_begins_with_its_past(world: World) -> None:
    await world.record_past(said("M1", "price?", at=YESTERDAY), typed("H1", "10", at=YESTERDAY))
    [live] = await world.record(said("M2", "and for two?"))
    assert await remembered(world, live.message.chat_id) == ["price?", "10", "and for two?"]
    assert await world.count("threads") == 1


async def test_what_was_reset_stays_forgotten_whatever_the_past_tells(world: World) -> None:
    [old] = await world.record(said("M1", "before"))
    chat_id = old.message.chat_id
    reset_at = NOW + timedelta(hours=1)
    async with world.db.transaction() as connection:
        await world.sessions.reset(connection, chat_id, reset_at)
    await world.record_past(
        said("M0", "long before", at=YESTERDAY),
        said("MX", "in between", at=NOW + timedelta(minutes=9)),
        now=reset_at,
    )
    assert await remembered(world, chat_id) == []
    later = reset_at + timedelta(hours=1)
    await world.record(said("M2", "after", at=later), now=later)
    await world.record_past(
        said("M-1", "longest before", at=YESTERDAY - timedelta(days=9)),
        said("M3", "and after", at=later + timedelta(minutes=1)),
        now=later + timedelta(hours=1),
    )
    assert await remembered(world, chat_id) == ["after", "and after"]
    assert await world.db.fetchval(INVARIANT) == 0


async def test_a_message_is_recorded_once_whether_history_or_the_event_tells_it_first(world: World) -> None:
    await world.record(said("M1"), typed("H1"))
    assert await world.record_past(said("M1"), typed("H1"), said("M2", at=YESTERDAY)) == 1
    assert await world.record_past(said("M2", at=YESTERDAY), said("M2", at=YESTERDAY)) == 0
    assert await world.count("messages") == 3
    # A new link tells everything again: that leaves no decision behind.
    assert await world.count("decisions") == 3


async def test_one_person_by_lid_and_by_number_has_one_past(world: World) -> None:
    await world.record_past(said("M1", by=ANA, at=YESTERDAY))
    await world.record_past(said("M2", by=ANA_LID, at=YESTERDAY))
    assert await world.count("chat_state") == 2
    past = replace(said("M3", by=ANA_BOTH, at=YESTERDAY))
    _, merges = await world.messages.record_past(world.account, [past], NOW)
    assert len(merges) == 1
    assert await world.count("chat_state") == 1
    assert await world.record_past(said("M1", by=ANA_LID, at=YESTERDAY)) == 0


async def test_what_the_bot_sent_is_neither_told_twice_nor_taken_for_a_human(world: World) -> None:
    chat_id = await world.meet()
    await world.queue(chat_id, "from 10 to 50")
    due = await world.due(chat_id)
    await world.outbox.claim(due, NOW, LONG_AGO)
    await world.outbox.mark_sent(due, ExternalId("3EB0A"), NOW, overlapped=False)
    assert await world.record_past(typed("3EB0A", "from 10 to 50")) == 0
    assert await world.texts() == ["from 10 to 50"]


async def test_what_could_not_be_read_live_is_read_when_the_phone_tells_it(world: World) -> None:
    [closed, _] = await world.record(of_type(MessageType.UNDECRYPTABLE, "M1"), said("M2", "two"))
    assert await world.record_past(said("M1", "one"), said("M2", "changed")) == 0
    assert await world.texts() == ["one", "two"]
    read = await world.messages.history(world.tenant.tenant_id, closed.message.chat_id, 2)
    assert [m.type for m in read] == [MessageType.TEXT] * 2


async def test_history_may_tell_of_a_send_before_the_platform_has_confirmed_it(world: World) -> None:
    chat_id = await world.meet()
    sending = await world.queue(chat_id, "from 10 to 50")
    due = await world.due(chat_id)
    await world.outbox.claim(due, NOW, LONG_AGO)
    assert await world.record_past(typed("3EB0A", "from 10 to 50")) == 0
    await world.outbox.mark_sent(due, ExternalId("3EB0A"), NOW, overlapped=False)
    row = await world.row(sending)
    assert (row["status"], row["external_id"], row["inferred"]) == (Status.SENT, "3EB0A", False)


async def test_history_settles_a_send_of_unknown_fate(world: World) -> None:
    chat_id = await world.meet()
    lost = await world.queue(chat_id, "from 10 to 50")
    due = await world.due(chat_id)
    await world.outbox.claim(due, NOW, LONG_AGO)
    await world.outbox.settle(due, Status.UNKNOWN, "no answer", NOW)
    later = NOW + timedelta(days=1)
    other = typed("3EB0B", "something else", at=NOW + timedelta(seconds=2))
    assert await world.record_past(other, typed("3EB0A", "from 10 to 50", at=NOW), now=later) == 1
    row = await world.row(lost)
    assert (row["status"], row["external_id"], row["inferred"]) == (Status.SENT, "3EB0A", True)
    await world.outbox.receive(receipt("3EB0A", Status.READ), later)
    assert await world.status(lost) is Status.READ


async def test_history_of_another_message_of_the_same_words_settles_nothing(world: World) -> None:
    chat_id = await world.meet()
    for n in range(2):
        await world.queue(chat_id, "from 10 to 50")
        due = await world.due(chat_id)
        await world.outbox.claim(due, NOW, LONG_AGO)
        if n == 0:
            await world.outbox.mark_sent(due, ExternalId("3EB0A"), NOW, overlapped=False)
    await world.outbox.settle(due, Status.UNKNOWN, "no answer", NOW)
    await world.record_past(typed("3EB0A", "from 10 to 50", at=NOW), now=NOW + timedelta(minutes=1))
    assert await world.status(due.id) is Status.UNKNOWN


async def test_months_are_made_where_the_past_was_and_only_there(world: World) -> None:
    await world.record_past(
        said("M1", "the first phones", at=datetime(2001, 5, 1, tzinfo=UTC)),
        said("M2", "before our ids begin", at=datetime(2019, 12, 31, 23, 59, 59, tzinfo=UTC)),
        said("M3", "the last instant", at=datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC)),
        said("M4", "from tomorrow", at=NOW + timedelta(hours=20)),
    )
    assert await world.texts() == [
        "the first phones",
        "before our ids begin",
        "the last instant",
        "from tomorrow",
    ]
    months = await world.db.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'sidestep.messages'::regclass"
    )
    names = {r["name"].rpartition("_")[2] for r in months}
    assert {"200901", "201912", "202402"} <= names
    assert not {"200902", "202001", "202403"} & names
    [live] = await world.record(said("M5", "now"))
    assert (await remembered(world, live.message.chat_id))[-2:] == ["from tomorrow", "now"]


async def test_an_empty_database_takes_the_past_of_this_month(world: World) -> None:
    assert await world.record_past(said("M1", at=NOW)) == 1


async def test_a_month_that_was_dropped_is_made_again(world: World) -> None:
    long_ago = datetime(2024, 2, 2, tzinfo=UTC)
    await world.record_past(said("M1", at=long_ago))
    for table in ("messages", "message_payloads", "message_versions", "reactions", "decisions"):
        await world.db.execute(f"DROP TABLE sidestep.{table}_202402")
    with pytest.raises(Exception, match="no partition"):
        await world.record_past(said("M2", at=long_ago))
    assert await world.record_past(said("M2", at=long_ago)) == 1


async def test_in_a_group_the_past_has_its_senders_and_changes_reach_their_targets(world: World) -> None:
    await world.record_past(
        said("M1", "who comes?", by=ANA, group=TEAM, at=YESTERDAY),
        said("M1", "another M1", by=BEN, group=TEAM, at=YESTERDAY),
        said(
            "R1", "👍", by=BEN, group=TEAM, at=YESTERDAY, type=MessageType.REACTION, reply_to="M1",
            reply_to_sender=ANA.jid,
        ),
        said("E1", "who comes today?", by=ANA, group=TEAM, at=YESTERDAY, type=MessageType.EDIT, reply_to="M1"),
    )  # fmt: skip
    assert await world.texts() == ["who comes today?", "another M1", "👍", "who comes today?"]
    assert await world.count("reactions") == 1
    assert await world.count("contacts") == 2


async def test_a_name_from_the_past_never_replaces_one_that_was_heard(world: World) -> None:
    await world.record(said("M1", by=ANA, push_name="Ana today"))
    await world.record_past(said("M0", by=ANA, push_name="Ana then"), said("M0", by=BEN))
    await world.messages.name_contacts(world.account, {ANA.jid: "Ana then", BEN.jid: "Ben\x00"}, NOW)
    rows = await world.db.fetch("SELECT push_name FROM sidestep.contacts ORDER BY contact_id")
    assert [r["push_name"] for r in rows] == ["Ana today", "Ben�"]


_moments = st.integers(min_value=-90, max_value=0).map(lambda hours: NOW + timedelta(hours=hours))
_past = st.tuples(st.just("past"), st.sampled_from("abcdefghij"), _moments)
_live = st.tuples(st.just("live"), st.sampled_from("abcdefghij"), _moments)
_reset = st.tuples(st.just("reset"), st.just(""), st.just(NOW))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.one_of(_past, _live, _reset), min_size=1, max_size=20))
async def test_whatever_the_interleaving_order_threads_and_keys_hold(
    world: World, steps: list[tuple[str, str, datetime]]
) -> None:
    # A customer of its own for each example.
    party = Address(jid=Jid(f"{await world.count('chats') + 5511900000000}@s.whatsapp.net"))
    chat_id = await world.meet(party)
    live: list[MessageId] = []
    known: set[str] = set()
    heard: set[str] = set()
    for n, (kind, name, at) in enumerate(steps):
        now = NOW + timedelta(seconds=n)
        match kind:
            case "reset":
                async with world.db.transaction() as connection:
                    await world.sessions.reset(connection, chat_id, now)
                continue
            case "past":
                assert await world.record_past(said(name, by=party, at=at), now=now) == (name not in known)
            case _:
                [recorded] = await world.record(said(name, by=party, at=at), now=now)
                assert recorded.is_new == (name not in heard)
                # What the past has told first keeps its place there.
                live += ids([recorded]) if name not in known else []
                heard.add(name)
        known.add(name)
    assert live == sorted(live)
    rows = await world.db.fetch(
        "SELECT id, sent_at FROM sidestep.messages WHERE chat_id = $1 ORDER BY id", chat_id
    )
    assert len(rows) == len(known)
    undecided = [m.external_id for m in await world.messages.undecided(world.account) if m.chat_id == chat_id]
    assert (len(undecided), set(undecided)) == (len(heard), heard)
    past = [r["sent_at"] for r in rows if r["id"] not in live]
    assert past == sorted(past)
    assert await world.db.fetchval(INVARIANT) == 0


async def test_the_past_and_the_present_of_the_same_chats_are_recorded_side_by_side(world: World) -> None:
    people = [ANA, BEN]
    other = MessageStore(world.db)

    async def live() -> None:
        for n in range(40):
            await world.record(said(f"L{n}", by=people[n % 2]), typed(f"H{n}", to=people[(n + 1) % 2]))

    async def past() -> None:
        for n in range(20):
            batch: list[Arrival] = [
                said(f"P{n}-{i}", by=people[i % 2], at=YESTERDAY + timedelta(seconds=n)) for i in range(20)
            ]
            await other.record_past(world.account, batch, NOW)

    await asyncio.gather(live(), past(), past())
    assert await world.count("messages") == 80 + 400
    assert await world.count("threads") == 2
    assert await world.db.fetchval(INVARIANT) == 0
