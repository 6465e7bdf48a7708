"""Backups: what comes back is what was there, on a fresh server too, and a failed restore changes nothing."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.backup import backup, restore, verify
from storage.database import Database
from storage.errors import BackupFailed, RestoreFailed
from storage.migrate import migrate, pending
from tests.conftest import connected, database_of, fresh_database, in_database, ordinary_user

FILL = """
    CREATE SCHEMA IF NOT EXISTS sidestep;
    CREATE SCHEMA IF NOT EXISTS whatsmeow;
    CREATE SCHEMA face_test;
    CREATE EXTENSION IF NOT EXISTS pg_trgm;
    CREATE TABLE sidestep.schema_migrations (version text PRIMARY KEY, name text, sha256 text, applied_at timestamptz);
    CREATE TABLE sidestep.chats (id bigint PRIMARY KEY, name text);
    CREATE TABLE sidestep.messages (id bigint, chat_id bigint REFERENCES sidestep.chats) PARTITION BY RANGE (id);
    CREATE TABLE sidestep.messages_a PARTITION OF sidestep.messages FOR VALUES FROM (0) TO (500);
    CREATE TABLE sidestep.messages_b PARTITION OF sidestep.messages FOR VALUES FROM (500) TO (2000);
    CREATE TABLE whatsmeow.device (jid text PRIMARY KEY);
    CREATE VIEW face_test.messages AS SELECT * FROM sidestep.messages;
    COMMENT ON TABLE sidestep.chats IS 'kept';
    INSERT INTO sidestep.schema_migrations VALUES ('0001', 'core', 'x', now());
    INSERT INTO sidestep.chats SELECT n, 'chat ' || n FROM generate_series(1, 10) n;
    INSERT INTO sidestep.messages SELECT n, n % 10 + 1 FROM generate_series(1, 1000) n;
    INSERT INTO whatsmeow.device VALUES ('a@b');
    CREATE TABLE public.strangers (id bigint);
"""
OLD_MESSAGE = """
    SELECT sidestep.ensure_months('2021-03-01Z', '2021-03-01Z');
    INSERT INTO sidestep.messages (tenant_id, chat_id, thread_id, id, direction, author, type, text, sent_at)
    VALUES (1, 1, 1, sidestep.id_floor('2021-03-05Z'), 'inbound', 'customer', 'text', 'hello', '2021-03-05Z')
"""
COUNTS = """
    SELECT (SELECT count(*) FROM sidestep.messages) AS messages,
           (SELECT count(*) FROM sidestep.chats) AS chats,
           (SELECT count(*) FROM sidestep.schema_migrations) AS migrations,
           (SELECT count(*) FROM whatsmeow.device) AS devices,
           (SELECT count(*) FROM face_test.messages) AS seen,
           obj_description('sidestep.chats'::regclass) AS comment
"""
FULL = {"messages": 1000, "chats": 10, "migrations": 1, "devices": 1, "seen": 1000, "comment": "kept"}


async def counts(dsn: str) -> dict[str, object]:
    async with connected(dsn) as connection:
        return dict(await connection.fetchrow(COUNTS) or {})


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.fixture
async def filled(empty_dsn: str) -> str:
    async with connected(empty_dsn) as connection:
        await connection.execute(FILL)
    return empty_dsn


@pytest.fixture
async def target(postgres: str) -> AsyncIterator[str]:
    async with fresh_database(postgres) as dsn:
        yield dsn


async def test_a_backup_goes_into_no_folder_that_is_not_there(filled: str, tmp_path: Path) -> None:
    with pytest.raises(BackupFailed, match=r"there is no folder .*nope"):
        await backup(filled, tmp_path / "nope" / "store.dump")
    assert names(tmp_path) == []


async def test_a_backup_restored_into_a_fresh_database_is_the_store(
    filled: str, target: str, tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    saved = await backup(filled, tmp_path / "new" / "store.dump")
    assert saved.size_bytes == saved.path.stat().st_size > 0
    assert stat.S_IMODE(saved.path.stat().st_mode) == 0o600
    assert names(saved.path.parent) == ["store.dump"]
    await verify(saved.path)
    await restore(target, saved.path)
    assert await counts(target) == FULL
    async with connected(target) as connection:
        assert not await connection.fetchval("SELECT to_regclass('public.strangers') IS NOT NULL")


async def test_the_owner_of_an_empty_database_can_restore_without_other_rights(
    filled: str, postgres: str, tmp_path: Path
) -> None:
    saved = await backup(filled, tmp_path / "store.dump")
    async with ordinary_user(postgres, owner=True) as target:
        async with connected(in_database(postgres, database_of(target))) as admin:
            await admin.execute("CREATE EXTENSION pg_trgm")
        await restore(target, saved.path)
        assert await counts(target) == FULL
        again = await backup(target, tmp_path / "again.dump")
        await restore(target, again.path, replace=True)


async def test_a_restore_over_messages_must_be_asked_for_and_replaces_what_came_later(
    filled: str, tmp_path: Path
) -> None:
    saved = await backup(filled, tmp_path / "store.dump")
    async with connected(filled) as connection:
        await connection.execute("INSERT INTO sidestep.messages VALUES (1500, 1)")
        await connection.execute("CREATE TABLE sidestep.later (chat_id bigint REFERENCES sidestep.chats)")
    with pytest.raises(RestoreFailed, match="holds messages"):
        await restore(filled, saved.path)
    await restore(filled, saved.path, replace=True)
    assert await counts(filled) == FULL
    async with connected(filled) as connection:
        assert not await connection.fetchval("SELECT to_regclass('sidestep.later') IS NOT NULL")


async def test_a_restore_that_fails_changes_nothing(filled: str, tmp_path: Path) -> None:
    saved = await backup(filled, tmp_path / "store.dump")
    content = saved.path.read_bytes()
    saved.path.write_bytes(content[: len(content) * 3 // 4])
    with pytest.raises(RestoreFailed, match="as it was"):
        await restore(filled, saved.path, replace=True)
    assert await counts(filled) == FULL


async def test_the_schema_alone_keeps_its_version(filled: str, target: str, tmp_path: Path) -> None:
    saved = await backup(filled, tmp_path / "schema.dump", schema_only=True)
    await restore(target, saved.path)
    assert await counts(target) == {**FULL, "messages": 0, "chats": 0, "devices": 0, "seen": 0}


async def test_the_data_alone_replace_the_rows_of_a_store_with_other_months(
    postgres: str, template: str, dsn: str, tmp_path: Path
) -> None:
    async with connected(dsn) as connection:
        await connection.execute(OLD_MESSAGE)
    saved = await backup(dsn, tmp_path / "data.dump", data_only=True)
    async with fresh_database(postgres, template) as target:
        await restore(target, saved.path)
        await restore(target, saved.path, replace=True)
        async with connected(target) as connection:
            assert await connection.fetchval("SELECT text FROM sidestep.messages") == "hello"
            assert await connection.fetchval("SELECT count(*) FROM sidestep.schema_migrations") > 0


async def test_a_file_that_is_no_backup_is_refused(target: str, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("no backup", encoding="utf-8")
    with pytest.raises(BackupFailed, match="not a readable backup"):
        await verify(file)
    with pytest.raises(RestoreFailed, match=r"notes\.txt"):
        await restore(target, file)


async def test_an_empty_database_has_nothing_to_back_up(empty_dsn: str, tmp_path: Path) -> None:
    with pytest.raises(BackupFailed, match="nothing to back up"):
        await backup(empty_dsn, tmp_path / "store.dump")
    assert names(tmp_path) == []


async def test_the_shipped_schema_comes_back_whole_and_needs_no_migration(
    dsn: str, target: str, tmp_path: Path
) -> None:
    saved = await backup(dsn, tmp_path / "store.dump")
    await restore(target, saved.path)
    database = await Database.open(target, max_size=2)
    try:
        assert await pending(database) == []
        assert await migrate(database) == []
    finally:
        await database.close()
