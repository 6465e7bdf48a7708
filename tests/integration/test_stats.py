"""Statistics: the documents' numbers, what splits them, and that sums which are kept are those that are counted."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from storage.database import Database
from storage.models import Author, ChatId, Direction, MessageType, Status
from storage.reading.models import By, Stats
from storage.reading.stats import Period, StatsReads, tally
from tests.integration.store_world import ANA, BEN, LONG_AGO, NOW, TEAM, World, said, typed

JANUARY = datetime(2026, 1, 10, 12, 0, tzinfo=UTC)
FEBRUARY = datetime(2026, 2, 10, 12, 0, tzinfo=UTC)


@pytest.fixture
async def world(rollback_db: Database) -> World:
    return await World.open(rollback_db)


def stats(world: World) -> StatsReads:
    return StatsReads(world.db, world.tenant.tenant_id)


async def count_closed_months(world: World) -> int:
    return await tally(world.db, world.tenant.tenant_id, NOW)


async def all_kinds(world: World) -> ChatId:
    """One of everything in Ana's chat, something of Ben's and a group's."""
    await world.record(
        said("1", "hello"),
        said("2", "a picture", type=MessageType.IMAGE),
        said("3", None, type=MessageType.AUDIO),
        said("4", "gone"),
        typed("5", "I am here"),
    )
    chat = await world.meet()
    await world.record(
        said("R", None, type=MessageType.REVOKE, reply_to="4"),
        said("E", "hello!", type=MessageType.EDIT, reply_to="1"),
        said("X", "👍", type=MessageType.REACTION, reply_to="1"),
        said("C", "/help", by=BEN),
        said("G", "hi all", group=TEAM),
    )
    await world.db.execute("UPDATE sidestep.messages SET command = 'help' WHERE text = '/help'")
    await world.queue(chat, "never said")
    await world.pause(chat)
    await world.queue(chat, "did not arrive", fenced=False)
    due = await world.due(chat)
    await world.outbox.claim(due, NOW, LONG_AGO)
    await world.outbox.settle(due, Status.FAILED, "no such number", NOW)
    return chat


def keys(found: Stats) -> tuple[int, ...]:
    return (found.total, found.incoming, found.outgoing, found.with_media, found.commands, found.failed)


async def test_the_documents_keys(world: World) -> None:
    chat = await all_kinds(world)
    found = stats(world)
    assert keys(await found.message_stats(chat)) == (5, 3, 2, 2, 0, 1)
    assert keys(await found.message_stats()) == (7, 5, 2, 2, 1, 1)
    assert keys(await found.message_stats(since=NOW + timedelta(days=1))) == (0,) * 6
    assert keys(await StatsReads(world.db, type(world.tenant.tenant_id)(99)).message_stats()) == (0,) * 6


async def test_they_are_split_by_what_messages_are(world: World) -> None:
    await all_kinds(world)
    found = await stats(world).message_stats()
    assert found.split(By.DIRECTION) == {Direction.INBOUND: 5, Direction.OUTBOUND: 2}
    assert found.split(By.AUTHOR) == {Author.CUSTOMER: 5, Author.BOT: 1, Author.HUMAN: 1}
    assert found.split(By.CONTEXT) == {"private": 6, "group": 1}
    assert found.split(By.TYPE) == {MessageType.TEXT: 5, MessageType.AUDIO: 1, MessageType.IMAGE: 1}
    assert found.split(By.COMMAND) == {"help": 1}


async def the_past(world: World) -> ChatId:
    await world.record_past(
        said("J1", "cake", at=JANUARY),
        said("J2", None, type=MessageType.IMAGE, at=JANUARY + timedelta(days=1)),
        said("J3", "hi", group=TEAM, at=JANUARY),
        typed("J4", "here", at=JANUARY),
        said("F1", "cake", at=FEBRUARY),
        said("F2", "cake", by=BEN, at=FEBRUARY),
    )
    await world.record(said("N", "now"))
    return await world.meet()


async def everything(world: World, chat: ChatId) -> list[object]:
    """What can be asked, of all chats and of one."""
    found, middle = stats(world), JANUARY + timedelta(hours=20)
    return [
        answer
        for one in (None, chat)
        for answer in (
            await found.message_stats(one),
            await found.message_stats(one, since=FEBRUARY.replace(day=1)),
            await found.message_stats(one, since=middle),
            await found.message_stats(one, until=middle),
            await found.stats_by_period(Period.MONTH, one),
            await found.stats_by_period(Period.DAY, one),
            await found.stats_by_period(Period.DAY, one, since=middle),
        )
    ]


async def test_kept_sums_are_what_is_counted(world: World) -> None:
    chat = await the_past(world)
    counted = await everything(world, chat)
    assert await count_closed_months(world) == 2
    assert await everything(world, chat) == counted
    assert await count_closed_months(world) == 0
    # They are what is read, and not counted anew.
    await world.db.execute("UPDATE sidestep.tallies SET messages = messages + 100 WHERE type = 'image'")
    assert (await stats(world).message_stats()).with_media == 1
    assert (await stats(world).message_stats()).total == 107
    assert (await stats(world).message_stats(chat)).total == 105


@pytest.mark.parametrize("change", ["import", "revoke", "erase"])
async def test_a_month_that_changes_after_it_was_counted_is_right_at_once(world: World, change: str) -> None:
    chat = await the_past(world)
    await count_closed_months(world)
    before = (await stats(world).message_stats(chat)).total
    match change:
        case "import":
            await world.record_past(said("J5", "more", at=JANUARY))
        case "revoke":
            await world.record(said("R", None, type=MessageType.REVOKE, reply_to="J1"))
        case _:
            await world.db.execute("DELETE FROM sidestep.messages WHERE external_id = 'J1'")
    after = before + (1 if change == "import" else -1)
    assert (await stats(world).message_stats(chat)).total == after
    assert await count_closed_months(world) == 1
    assert (await stats(world).message_stats(chat)).total == after
    assert await count_closed_months(world) == 0


async def test_statistics_over_time_are_by_day_or_month(world: World) -> None:
    await the_past(world)
    found = stats(world)
    by_month = await found.stats_by_period(Period.MONTH)
    assert {month: s.total for month, s in by_month.items()} == {
        date(2026, 1, 1): 4, date(2026, 2, 1): 2, date(2026, 3, 1): 1,
    }  # fmt: skip
    by_day = await found.stats_by_period(Period.DAY, until=FEBRUARY)
    assert {day: s.total for day, s in by_day.items()} == {date(2026, 1, 10): 3, date(2026, 1, 11): 1}


async def test_a_month_in_which_something_is_still_to_be_sent_is_not_counted_yet(world: World) -> None:
    await world.record(said("1", by=ANA), now=FEBRUARY)
    chat = await world.meet()
    await world.queue(chat, "waits", now=FEBRUARY)
    assert await count_closed_months(world) == 0
    await world.pause(chat)
    assert await count_closed_months(world) == 1
    assert (await stats(world).message_stats(chat)).outgoing == 0


async def test_a_month_that_is_gone_is_counted_no_more(world: World) -> None:
    chat = await the_past(world)
    await count_closed_months(world)
    await world.db.execute("DROP TABLE sidestep.messages_202601")
    assert (await stats(world).message_stats(chat)).total == 2
    await count_closed_months(world)
    assert await world.count("tallied_months") == 1
    assert not await world.db.fetchval(
        "SELECT EXISTS (SELECT FROM sidestep.tallies WHERE day < '2026-02-01')"
    )
