"""Migrations: applied once whoever starts, refused where code and database do not fit, never without a way back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from storage.database import Database
from storage.errors import BackupFailed, MigrationFailed, SchemaDiffers, SchemaTooNew, StoreUnavailable
from storage.migrate import migrate, pending, shipped
from tests.conftest import ordinary_user

ONE = """-- migrate:up
CREATE TABLE sidestep.messages (id bigint PRIMARY KEY);

-- migrate:down
DROP TABLE sidestep.messages;
"""
TWO = "-- migrate:up\nALTER TABLE sidestep.messages ADD body text;\n"

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a folder of migrations: write(first=ONE) makes 0001_first.sql."""

    def write_all(**files: str) -> Path:
        for number, (name, text) in enumerate(files.items(), start=1):
            (tmp_path / f"{number:04}_{name}.sql").write_text(text, encoding="utf-8")
        return tmp_path

    return write_all


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[Database]:
    database = await Database.open(dsn, max_size=2)
    try:
        yield database
    finally:
        await database.close()


async def labels(database: Database) -> list[str]:
    rows = await database.fetch(
        "SELECT version || '_' || name AS label FROM sidestep.schema_migrations ORDER BY 1"
    )
    return [row["label"] for row in rows]


async def test_applies_what_is_pending_once_and_leaves_the_way_down_alone(
    empty_dsn: str, write: Write
) -> None:
    folder = write(first=ONE, second=TWO)
    async with opened(empty_dsn) as database:
        assert [m.label for m in await pending(database, folder)] == ["0001_first", "0002_second"]
        assert [m.label for m in await migrate(database, folder=folder)] == ["0001_first", "0002_second"]
        assert await database.fetchval("SELECT to_regclass('sidestep.messages') IS NOT NULL")
        assert await migrate(database, folder=folder) == []
        assert await labels(database) == ["0001_first", "0002_second"]


async def test_four_daemons_that_start_at_once_migrate_once(empty_dsn: str, write: Write) -> None:
    # The sleep is the server's: it holds the first one's lock until the others have come to wait for it.
    folder = write(first=ONE, second=TWO.replace("-- migrate:up", "-- migrate:up\nSELECT pg_sleep(0.2);"))

    async def start() -> int:
        async with opened(empty_dsn) as database:
            return len(await migrate(database, folder=folder))

    assert sorted(await asyncio.gather(*(start() for _ in range(4)))) == [0, 0, 0, 2]


async def test_a_database_newer_than_the_code_is_refused(empty_dsn: str, write: Write) -> None:
    folder = write(first=ONE, second=TWO)
    async with opened(empty_dsn) as database:
        await migrate(database, folder=folder)
        (folder / "0002_second.sql").unlink()
        with pytest.raises(SchemaTooNew, match="0002_second"):
            await migrate(database, folder=folder)


async def test_a_changed_migration_is_refused_but_not_for_its_line_ends(empty_dsn: str, write: Write) -> None:
    folder = write(first=ONE)
    async with opened(empty_dsn) as database:
        await migrate(database, folder=folder)
        (folder / "0001_first.sql").write_bytes(ONE.replace("\n", "\r\n").encode())
        assert await migrate(database, folder=folder) == []
        write(first=ONE + "-- more\n")
        with pytest.raises(SchemaDiffers, match="0001_first has changed"):
            await migrate(database, folder=folder)


async def test_a_refused_migration_names_its_line_and_leaves_nothing(empty_dsn: str, write: Write) -> None:
    broken = "-- About.\n-- migrate:up\nCREATE TABLE sidestep.half (id bigint);\nCREATE TABEL oops;\n"
    folder = write(first=ONE, second=broken)
    async with opened(empty_dsn) as database:
        with pytest.raises(MigrationFailed, match="0002_second was refused at line 4"):
            await migrate(database, folder=folder)
        assert await labels(database) == ["0001_first"]
        assert not await database.fetchval("SELECT to_regclass('sidestep.half') IS NOT NULL")
        write(first=ONE, second=TWO)
        assert len(await migrate(database, folder=folder)) == 1


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("1_short.sql", ONE, "NNNN_name"),
        ("0001_bare.sql", "CREATE TABLE t ();", "must begin"),
        ("0001_late.sql", "SELECT 1;\n-- migrate:up\n", "must begin"),
    ],
)
def test_a_file_that_is_no_migration_is_named(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(MigrationFailed, match=complaint) as caught:
        shipped(tmp_path)
    assert name in str(caught.value)


async def test_a_store_with_messages_is_backed_up_before_it_is_migrated(
    empty_dsn: str, write: Write, tmp_path: Path
) -> None:
    folder, backups = write(first=ONE), tmp_path / "backups"
    async with opened(empty_dsn) as database:
        await migrate(database, backups, folder=folder)
        assert not backups.exists()  # nothing to lose yet
        await database.execute("INSERT INTO sidestep.messages VALUES (7)")
        await migrate(database, backups, folder=write(first=ONE, second=TWO))
    [saved] = backups.iterdir()
    assert saved.name.startswith("before-0002_second-")


async def test_without_a_way_back_a_store_with_messages_is_not_migrated(
    empty_dsn: str, write: Write, tmp_path: Path
) -> None:
    nowhere = tmp_path / "file" / "backups"
    nowhere.parent.write_text("a file where a folder is needed", encoding="utf-8")
    folder = write(first=ONE)
    async with opened(empty_dsn) as database:
        await migrate(database, folder=folder)
        await database.execute("INSERT INTO sidestep.messages VALUES (7)")
        write(first=ONE, second=TWO)
        for impossible in (None, nowhere):
            with pytest.raises(BackupFailed, match="0002_second was not applied"):
                await migrate(database, impossible, folder=folder)
        assert await labels(database) == ["0001_first"]
        await migrate(database, None, allow_without_backup=True, folder=folder)
        assert await labels(database) == ["0001_first", "0002_second"]


async def test_the_owner_of_an_empty_database_can_migrate_without_other_rights(postgres: str) -> None:
    async with ordinary_user(postgres, owner=True) as dsn, opened(dsn) as database:
        assert await migrate(database)
        assert await pending(database) == []


async def test_a_user_who_may_create_nothing_is_told_what_to_grant(postgres: str, write: Write) -> None:
    async with ordinary_user(postgres, owner=False) as dsn, opened(dsn) as database:
        with pytest.raises(MigrationFailed, match="GRANT CREATE ON DATABASE"):
            await migrate(database, folder=write(first=ONE))
        with pytest.raises(MigrationFailed, match="GRANT CREATE ON DATABASE"):
            await pending(database)  # as `sidestep check` asks, before anybody starts


async def test_a_migrated_database_needs_no_right_to_create(dsn: str) -> None:
    read_only = f"{dsn}{'&' if '?' in dsn else '?'}default_transaction_read_only=on"
    async with opened(read_only) as database:
        with pytest.raises(StoreUnavailable, match="read-only"):
            await database.execute("CREATE TABLE public.t ()")
        assert await migrate(database) == []
