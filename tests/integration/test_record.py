"""Recording: one commit a batch, in order, each message once, and nothing of a batch that PostgreSQL refuses."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from storage.database import Database
from storage.messages import BadArrival, MessageStore
from storage.models import Action, Address, Arrival, Direction, Jid
from tests.integration.store_world import ANA, BEN, NOW, SHOP, TEAM, World, ids, said, typed


@pytest.fixture
async def world(db: Database) -> World:
    return await World.open(db)


async def commits(world: World) -> set[str]:
    """The transactions that wrote what is recorded."""
    rows = await world.db.fetch(
        """
        SELECT xmin::text FROM sidestep.messages UNION ALL SELECT xmin::text FROM sidestep.message_payloads
        UNION ALL SELECT xmin::text FROM sidestep.message_keys UNION ALL SELECT xmin::text FROM sidestep.decisions
        """
    )
    return {row["xmin"] for row in rows}


async def test_a_batch_is_one_commit_and_keeps_its_order(world: World) -> None:
    batch = [said(f"M{n}", f"text {n}", by=(ANA, BEN)[n % 2], raw='{"n": 1}') for n in range(9)]
    recorded = await world.record(*batch, typed("H1"))
    assert [r.arrival for r in recorded[:9]] == batch
    assert ids(recorded) == sorted(set(ids(recorded)))
    assert await world.texts() == [*(f"text {n}" for n in range(9)), "I am here"]
    assert len(await commits(world)) == 1


async def test_what_is_recorded_is_read_back_as_it_was_returned(world: World) -> None:
    recorded = await world.record(
        said("M1", "one", raw='{"k": "v"}'),
        said("M2", "two", by=BEN, reply_to="M0"),
        said("M3", "three", by=ANA, group=TEAM),
    )
    assert await world.messages.undecided(world.account) == [r.message for r in recorded]
    assert [r.message.direction for r in recorded] == [Direction.INBOUND] * 3
    assert [r.message.addressed for r in recorded] == [True, True, False]
    assert await world.db.fetchval("SELECT raw FROM sidestep.message_payloads") == {"k": "v"}


async def test_what_marks_a_message_is_kept_with_it(world: World) -> None:
    marks = {"voice": True, "expires_in": 86_400}
    recorded = await world.record(said("M1", None, metadata=marks), said("M2", "plain"))
    assert [r.message.metadata for r in recorded] == [marks, {}]
    assert await world.messages.undecided(world.account) == [r.message for r in recorded]


@pytest.mark.parametrize("step", [timedelta(0), -timedelta(milliseconds=1), -timedelta(days=3)])
async def test_ids_rise_within_a_chat_whatever_the_clock_does(world: World, step: timedelta) -> None:
    now, seen = NOW, []
    for n in range(5):
        seen += ids(await world.record(said(f"A{n}"), said(f"B{n}"), now=now))
        seen.append(await world.queue(await world.meet(), now=now))
        now += step
    assert seen == sorted(set(seen))


async def test_ids_rise_while_the_sequence_wraps(world: World) -> None:
    await world.db.execute("SELECT setval('sidestep.message_sequence', (1 << 20) - 3)")
    recorded = await world.record(
        *(said(f"M{n}") for n in range(6)), *(said(f"N{n}", by=BEN) for n in range(6))
    )
    assert ids(recorded) == sorted(set(ids(recorded)))


async def test_a_message_id_names_its_month(world: World) -> None:
    [one] = await world.record(said("M1"), now=NOW)
    floor = await world.db.fetchval("SELECT sidestep.id_floor($1)", NOW)
    assert 0 <= one.message.id - floor < 1 << 20


async def test_the_same_id_twice_in_one_batch_is_recorded_once(world: World) -> None:
    recorded = await world.record(said("M1", "first"), said("M1", "again"), said("M2", "next"))
    assert [r.is_new for r in recorded] == [True, False, True]
    assert [r.action for r in recorded] == [None, Action.DUPLICATE, None]
    assert await world.texts() == ["first", "next"]


async def everything(world: World) -> list[tuple[object, ...]]:
    """Every row that recording writes, but for a repeat's own decision."""
    found: list[tuple[object, ...]] = []
    for table in (
        "messages",
        "message_payloads",
        "message_keys",
        "chat_state",
        "threads",
        "contacts",
        "chats",
    ):
        found += [tuple(r) for r in await world.db.fetch(f"SELECT * FROM sidestep.{table} ORDER BY 1, 2, 3")]  # noqa: S608
    decisions = "SELECT * FROM sidestep.decisions WHERE event_type = 'message' ORDER BY message_id"
    return found + [tuple(r) for r in await world.db.fetch(decisions)]


async def test_a_repeat_leaves_its_own_decision_and_changes_nothing(world: World) -> None:
    [first, human] = await world.record(said("M1"), typed("H1"))
    before = await everything(world)
    later = NOW + timedelta(minutes=5)
    repeats = [said("M1", "forged", at=later), typed("H1", at=later), said("M1")]
    again = await world.record(*repeats, now=later)
    assert [r.is_new for r in again] == [False, False, False]
    assert [r.action for r in again] == [Action.DUPLICATE] * 3
    assert ids(again) == [first.message.id, human.message.id, first.message.id]
    assert await everything(world) == before
    left = await world.db.fetch(
        "SELECT message_id, action_taken, decided_at FROM sidestep.decisions WHERE event_type = 'repeat' ORDER BY 1"
    )
    assert [tuple(r) for r in left] == [(m.message.id, "duplicate", later) for m in (first, human)]


async def test_twenty_recorders_of_one_message_record_it_once(world: World) -> None:
    async def record(n: int) -> bool:
        recorded, _ = await MessageStore(world.db).record(world.account, [said("M1"), said(f"X{n}")], NOW)
        return recorded[0].is_new

    new = await asyncio.gather(*(record(n) for n in range(20)))
    assert sum(new) == 1
    assert await world.count("messages") == 21
    assert await world.count("chats") == 1
    assert await world.count("threads") == 1


async def test_nobody_can_suppress_another_s_message_by_its_id(world: World) -> None:
    recorded = await world.record(
        said("ID", "Ana alone"),
        typed("ID", "the owner to Ana"),
        said("ID", "Ben alone", by=BEN),
        said("ID", "Ana in the team", group=TEAM),
        said("ID", "Ben in the team", by=BEN, group=TEAM),
        typed("ID", "the owner in the team", to=TEAM, is_group=True),
    )
    assert all(r.is_new for r in recorded)
    assert await world.count("messages") == 6


async def test_the_bot_s_own_message_does_not_suppress_a_customer_s_of_the_same_id(world: World) -> None:
    chat_id = await world.meet()
    await world.queue(chat_id)
    due = await world.due(chat_id)
    await world.outbox.claim(due, NOW, NOW)
    await world.outbox.mark_sent(due, said("3EB0").event.external_id, NOW, overlapped=False)
    [recorded] = await world.record(said("3EB0"))
    assert recorded.is_new


BAD = {
    "a NUL byte": said("BAD", "a\x00b"),
    "a lone surrogate": said("BAD", "a\ud800b"),
    "raw that is no JSON": said("BAD", raw="{"),
    "raw with an escaped NUL": said("BAD", raw='{"a": "\\u0000"}'),
    "a name with a NUL byte": said("BAD", push_name="\x00"),
    "an id with a NUL byte": said("BAD\x00"),
    "an address that is no text": said("BAD", by=Address(jid=Jid("\ud800@lid"))),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
async def test_of_a_batch_that_postgresql_refuses_nothing_is_recorded(world: World, bad: Arrival) -> None:
    with pytest.raises(BadArrival):
        await world.record(said("M1"), bad, said("M2"))
    assert await world.count("messages") == 0
    assert [r.is_new for r in await world.record(said("M1"), said("M2"))] == [True, True]


@pytest.mark.parametrize(
    "at", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC), NOW + timedelta(days=90)]
)
async def test_absurd_times_are_clamped_and_recorded(world: World, at: datetime) -> None:
    [recorded] = await world.record(said("M1", at=at))
    stored = await world.db.fetchval("SELECT sent_at FROM sidestep.messages")
    assert datetime(2009, 1, 1, tzinfo=UTC) <= stored <= NOW + timedelta(days=1)
    assert recorded.message.sent_at == stored


@pytest.mark.parametrize("months", [1, 2, 3, 13, 60])
async def test_a_month_that_does_not_exist_yet_is_made(world: World, months: int) -> None:
    await world.record(said("M1"))
    later = NOW + timedelta(days=31 * months)
    assert [r.is_new for r in await world.record(said("M2"), said("M3", by=BEN), now=later)] == [True, True]
    await world.queue(await world.meet(), now=later)


async def test_a_clock_that_was_months_ahead_still_records_when_it_is_put_right(world: World) -> None:
    await world.record(said("M1"), now=NOW + timedelta(days=400))
    [known, new] = await world.record(said("M2"), said("M3", by=BEN), now=NOW)
    assert known.is_new
    assert new.is_new


async def test_a_day_that_begins_a_month_is_recorded_from_its_first_instant_to_its_last(world: World) -> None:
    first = datetime(2026, 4, 1, tzinfo=UTC)
    for n, now in enumerate(
        (first - timedelta(microseconds=1), first, first + timedelta(days=29, hours=23, minutes=59))
    ):
        await world.record(said(f"M{n}", by=(ANA, BEN, ANA)[n]), now=now)
    assert await world.count("messages") == 3


async def test_a_repeat_of_a_message_whose_month_was_dropped_does_no_harm(world: World) -> None:
    await world.record(said("M1"))
    for table in ("messages", "message_payloads", "decisions"):
        await world.db.execute(f"DROP TABLE sidestep.{table}_202603")
    later = NOW + timedelta(days=40)
    recorded = await world.record(said("M1"), said("M2"), now=later)
    assert [r.is_new for r in recorded] == [False, True]


async def test_somebody_whom_another_process_erased_is_met_anew(world: World) -> None:
    await world.record(said("M1"))
    for table in ("chat_aliases", "chat_state", "threads", "message_keys", "chats", "contacts"):
        await world.db.execute(f"DELETE FROM sidestep.{table}")  # noqa: S608
    [recorded] = await world.record(said("M2"))
    assert recorded.is_new


async def test_history_is_the_active_thread_without_commands_and_without_what_was_never_said(
    world: World,
) -> None:
    chat_id = await world.meet()
    await world.record(said("M0", "before the reset"))
    async with world.db.transaction() as connection:
        await world.sessions.reset(connection, chat_id, NOW)
    [first] = await world.record(said("M1", "price?"))
    command = said("M2", "/help")
    await world.record(Arrival(event=command.event, author=command.author, command="help"))
    unsaid = await world.queue(chat_id, "never said")
    await world.withdraw(chat_id, unsaid)
    await world.queue(chat_id, "from 10 to 50")
    await world.record(typed("H1", "for you 9"))
    history = await world.messages.history(world.tenant.tenant_id, chat_id, 10)
    # The owner's line cancelled what was queued: that was never said either.
    assert [m.text for m in history] == ["price?", "for you 9"]
    assert history[0] == first.message
    newest = await world.messages.history(world.tenant.tenant_id, chat_id, 1)
    assert [m.text for m in newest] == ["for you 9"]


async def test_undecided_is_what_nobody_has_decided_oldest_first_of_this_account_only(world: World) -> None:
    [m1, m2, _human] = await world.record(said("M1"), said("M2", by=BEN), typed("H1"))
    [m3] = await world.record(said("M3"))
    assert [m.id for m in await world.messages.undecided(world.account)] == ids([m1, m2, m3])
    other = await World.open(world.db, replace(SHOP, instance_name="other"))
    assert await other.messages.undecided(other.account) == []
