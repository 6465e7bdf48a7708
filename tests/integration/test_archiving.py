"""Archiving: whole months change their place and nothing else; what reads, erases, counts or saves them still does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from bot.people import meant
from storage import archiving
from storage.archiving import archive
from storage.backup import backup, restore
from storage.database import Database
from storage.erasing import Erasing
from storage.models import ExternalId, MessageType
from storage.reading.reads import Reads
from storage.reading.sizes import index_use, table_sizes
from storage.reading.stats import tally
from storage.retention import forget_messages
from tests.conftest import connected, database_of, fresh_database
from tests.integration.store_world import BEN, NOW, World, said

OLD = datetime(2025, 5, 3, tzinfo=UTC)
LATER = datetime(2025, 6, 3, tzinfo=UTC)
LIMIT = timedelta(days=90)
ARCHIVED = """
SELECT relname FROM pg_class WHERE relnamespace = 'sidestep_archive'::regnamespace AND relkind = 'r' ORDER BY relname
"""


async def a_past(db: Database) -> World:
    """A message of each of two old months, with an edit of the first, and one of today."""
    world = await World.open(db)
    await world.record(said("A1", "a marzipan cake", at=OLD, raw='{"raw": 1}'), now=OLD)
    await world.record(
        said("A2", "and strudel", at=LATER), said("B1", "nothing", by=BEN, at=LATER), now=LATER
    )
    await world.record(said("A3", "today", at=NOW), now=NOW)
    return world


async def archived(db: Database) -> list[str]:
    return [r["relname"] for r in await db.fetch(ARCHIVED)]


async def test_whole_months_move_and_the_newest_stay(db: Database) -> None:
    await a_past(db)
    done = await archive(db, NOW - LIMIT)
    assert [(m.first_day.isoformat(), m.messages) for m in done.months] == [
        ("2025-05-01", 1),
        ("2025-06-01", 2),
    ]
    assert all(m.size_bytes > 0 for m in done.months)
    tables = ("decisions", "message_payloads", "message_versions", "messages", "reactions")
    assert await archived(db) == [f"{table}_{month}" for table in tables for month in ("202505", "202506")]
    assert (await archive(db, NOW - LIMIT)).months == ()
    # A month of which a part is younger stays.
    assert (await archive(db, NOW)).months == ()


async def test_history_search_and_statistics_read_on(db: Database) -> None:
    world = await a_past(db)
    await tally(db, world.tenant.tenant_id, NOW)
    reads = Reads.of(db, world.tenant.tenant_id)
    chat_id = await world.meet()

    async def told() -> Sequence[object]:
        return [
            await reads.messages.conversation_history(chat_id, 10),
            await reads.search.search_messages("marzipan"),
            await reads.stats.message_stats(),
            await reads.chats.chat_list(),
        ]

    before = await told()
    sizes = {size.name: size for size in await table_sizes(db)}
    await archive(db, NOW - LIMIT)
    assert await told() == before
    assert {size.name: size.months for size in await table_sizes(db)} == {
        n: s.months for n, s in sizes.items()
    }
    assert not any(index.table_name[-6:].isdigit() for index in await index_use(db))
    # The sums of the months still stand, and a change in one is noticed.
    assert await tally(db, world.tenant.tenant_id, NOW) == 0
    await db.execute("UPDATE sidestep.messages SET deleted_at = now() WHERE external_id = 'A1'")
    assert await tally(db, world.tenant.tenant_id, NOW) == 1


async def test_what_was_here_is_not_taken_for_new_and_what_was_not_finds_its_month(db: Database) -> None:
    world = await a_past(db)
    await archive(db, NOW - LIMIT)
    new = await world.record_past(said("A1", "a marzipan cake", at=OLD), said("A0", "before", at=OLD))
    assert new == 1
    edit = said("E1", "a chocolate cake", type=MessageType.EDIT, reply_to=ExternalId("A1"))
    await world.record(edit)
    assert sorted(filter(None, await world.texts())) == [
        "a chocolate cake", "a chocolate cake", "and strudel", "before", "nothing", "today",
    ]  # fmt: skip
    assert len(await archived(db)) == 10


async def test_a_person_is_erased_from_the_archive(db: Database) -> None:
    world = await a_past(db)
    await archive(db, NOW - LIMIT)
    erasing = Erasing(db, world.tenant.tenant_id, lambda: NOW)
    person = await meant(erasing, world.tenant, "+5511988880001")
    went = await erasing.erase(person.people, person.jids, lambda _: None)
    assert went["messages"] == 3
    assert await world.texts() == ["nothing"]
    for table in await archived(db):
        left = await db.fetchval(f"SELECT count(*) FROM sidestep_archive.{table}")  # noqa: S608  from the catalogue
        assert left == (1 if table in ("messages_202506", "decisions_202506") else 0), table


async def test_a_tenant_s_role_reads_its_own_there_and_not_the_tables(db: Database) -> None:
    await a_past(db)
    await archive(db, NOW - LIMIT)
    role = database_of(db.address.url)
    await db.execute(f"CREATE ROLE {role}")
    try:
        await db.execute("SELECT sidestep.admit($1, 'shop')", role)
        async with db.acquire() as connection:
            await connection.execute(f"SET ROLE {role}")
            found = await connection.fetchval(
                "SELECT count(*) FROM sidestep.messages WHERE text ~ 'marzipan'"
            )
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch("SELECT FROM sidestep_archive.messages_202505")
            await connection.execute("RESET ROLE")
        assert found == 1
        await db.execute("SELECT sidestep.dismiss($1)", role)
    finally:
        await db.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_retention_reaches_into_the_archive(db: Database) -> None:
    world = await a_past(db)
    await archive(db, NOW - LIMIT)
    assert await forget_messages(db, world.tenant.tenant_id, LATER) == 1
    assert await world.texts() == ["and strudel", "nothing", "today"]


@pytest.mark.parametrize("data_only", [False, True])
async def test_a_backup_has_the_archive_and_brings_it_back(
    db: Database, dsn: str, postgres: str, template: str, tmp_path: Path, data_only: bool
) -> None:
    world = await a_past(db)
    await archive(db, NOW - LIMIT)
    texts = await world.texts()
    saved = await backup(dsn, tmp_path / "store.dump", data_only=data_only)
    async with fresh_database(postgres, template) as target:
        await restore(target, saved.path)
        async with connected(target) as connection:
            found = await connection.fetch("SELECT text FROM sidestep.messages ORDER BY id")
            assert [r["text"] for r in found] == texts
            assert bool(await connection.fetch(ARCHIVED)) is not data_only
    # And over the store itself, whose archive gives way.
    await db.execute("DELETE FROM sidestep.messages")
    await db.close()
    await restore(dsn, saved.path, replace=True)
    async with connected(dsn) as connection:
        assert await connection.fetchval("SELECT count(*) FROM sidestep.messages") == len(texts)


async def test_what_was_cut_off_goes_on(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    await a_past(db)

    class Stopped(Exception):
        pass

    def stop(month: archiving.ArchivedMonth) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        await archive(db, NOW - LIMIT, stop)
    assert len(await archived(db)) == 5
    assert [m.first_day.month for m in (await archive(db, NOW - LIMIT)).months] == [6]


async def test_a_month_that_somebody_writes_in_is_left_for_the_next_time(
    db: Database, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archiving, "_TRIES", 1)
    world = await a_past(db)
    async with connected(dsn) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("UPDATE sidestep.messages_202505 SET text = 'x'")
        done = await archive(db, NOW - LIMIT)
        assert [m.month for m in done.busy] == [5]
        assert [m.first_day.month for m in done.months] == [6]
        await transaction.rollback()
    assert [m.first_day.month for m in (await archive(db, NOW - LIMIT)).months] == [5]
    assert await world.count("messages") == 4


async def test_two_at_once_archive_each_month_once(db: Database) -> None:
    await a_past(db)
    both = await asyncio.gather(*(archive(db, NOW - LIMIT) for _ in range(2)))
    assert sorted(m.first_day.month for done in both for m in done.months) == [5, 6]
    assert [done.busy for done in both] == [(), ()]
    assert len(await archived(db)) == 10


async def test_whoever_records_and_reads_meanwhile_goes_on(db: Database) -> None:
    world = await a_past(db)
    reads, done = Reads.of(db, world.tenant.tenant_id), asyncio.Event()

    async def busy(n: int) -> int:
        number = 0
        while not done.is_set():
            await world.record(said(f"{n}-{number}", f"word{n}", at=NOW), now=NOW)
            await world.record_past(said(f"{n}-{number}-old", "of old", at=OLD + timedelta(minutes=n)))
            assert (await reads.search.search_messages("marzipan")).items
            number += 1
        return number

    writers = [asyncio.create_task(busy(n)) for n in range(4)]
    moved = await archive(db, NOW - LIMIT)
    done.set()
    number = sum(await asyncio.gather(*writers))
    assert (len(moved.months) + len(moved.busy), await world.count("messages")) == (2, 4 + 2 * number)
    assert len((await archive(db, NOW - LIMIT)).months) == len(moved.busy)
