"""The face of the WhatsApp Processor's database: its five tables, with the keys that its document names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest

from storage.database import Connection, Database
from storage.models import Action, MessageType, Status
from tests.integration.face_world import columns, defaults, documented, face, first_tenant, plan, refused
from tests.integration.store_world import ANA, BEN, TEAM, World, of_type, said

# What the document names; the other columns are ours.
KEY_FIELDS = {
    "chats.jid", "chats.name", "chats.is_group", "chats.metadata",
    "messages.id", "messages.message_id", "messages.jid", "messages.content", "messages.media_url", "messages.timestamp",
    "chat_tracking_state.jid", "chat_tracking_state.is_excluded", "chat_tracking_state.last_processed_message_id",
    "chat_tracking_state.resume_mode",
    "processing_state.id", "processing_state.is_paused", "processing_state.paused_at", "processing_state.resumed_at",
    "media_files.id", "media_files.minio_url", "media_files.deeplens_url", "media_files.message_id", "media_files.media_type",
}  # fmt: skip
COLUMNS = documented(
    """
chats.jid TEXT
chats.name TEXT
chats.is_group BOOLEAN
chats.metadata JSONB
chats.created_at TIMESTAMPTZ
chats.updated_at TIMESTAMPTZ
messages.id BIGINT
messages.message_id TEXT
messages.jid TEXT
messages.sender TEXT
messages.sender_name TEXT
messages.content TEXT
messages.media_type TEXT
messages.media_url TEXT
messages.timestamp BIGINT
messages.is_from_me BOOLEAN
messages.metadata JSONB
messages.created_at TIMESTAMPTZ
chat_tracking_state.jid TEXT
chat_tracking_state.is_excluded BOOLEAN
chat_tracking_state.last_processed_message_id TEXT
chat_tracking_state.resume_mode TEXT
chat_tracking_state.created_at TIMESTAMPTZ
chat_tracking_state.updated_at TIMESTAMPTZ
processing_state.id INTEGER
processing_state.is_paused BOOLEAN
processing_state.paused_at TIMESTAMPTZ
processing_state.resumed_at TIMESTAMPTZ
media_files.id SERIAL
media_files.message_id TEXT
media_files.jid TEXT
media_files.media_type TEXT
media_files.minio_url TEXT
media_files.deeplens_url TEXT
media_files.mime_type TEXT
media_files.file_name TEXT
media_files.file_size BIGINT
media_files.upload_status TEXT
media_files.metadata JSONB
media_files.created_at TIMESTAMPTZ
media_files.updated_at TIMESTAMPTZ
"""
)
INSERT = "INSERT INTO messages (message_id, jid, content, timestamp) VALUES ($1, $2, 'hi', 1708186800)"


@pytest.fixture
async def world(rollback_db: Database) -> World:
    """A customer, a group, and a picture that came."""
    await first_tenant(rollback_db)
    world = await World.open(rollback_db)
    now = datetime.now(UTC)
    await world.record(
        said("M1", "how much?", at=now, push_name="Ana"), said("G1", "hello", group=TEAM, at=now),
        of_type(MessageType.IMAGE, "P1", at=now), now=now,
    )  # fmt: skip
    return world


@pytest.fixture
async def processor(world: World) -> AsyncIterator[Connection]:
    async with face(world.db, "processor") as connection:
        yield connection


async def test_the_columns_are_those_of_the_document_and_of_the_documentation(world: World) -> None:
    found = await columns(world.db, "processor")
    assert found == COLUMNS
    assert set(COLUMNS) >= KEY_FIELDS
    assert await defaults(world.db, "processor") == {
        "chats.metadata": "'{}'::jsonb", "chats.created_at": "now()", "chats.updated_at": "now()",
        "messages.is_from_me": "false", "messages.metadata": "'{}'::jsonb", "messages.created_at": "now()",
        "chat_tracking_state.is_excluded": "false", "chat_tracking_state.resume_mode": "'from_last'::text",
        "processing_state.id": "1", "processing_state.is_paused": "false",
        "media_files.metadata": "'{}'::jsonb", "media_files.created_at": "now()",
    }  # fmt: skip


async def test_what_the_bot_has_recorded_is_there(processor: Connection) -> None:
    chats = await processor.fetch("SELECT jid, name, is_group, metadata FROM chats ORDER BY is_group")
    assert [tuple(r) for r in chats] == [(ANA.jid, "Ana", False, {}), (TEAM.jid, None, True, {})]
    row = await processor.fetchrow("SELECT * FROM messages WHERE message_id = 'G1'")
    assert row is not None
    assert tuple(row)[1:6] == ("G1", TEAM.jid, ANA.jid, "Ana", "hello")
    assert abs(row["timestamp"] - datetime.now(UTC).timestamp()) < 300
    assert await processor.fetchval("SELECT media_type FROM messages WHERE message_id = 'P1'") == "photo"
    found = (
        "SELECT count(*) FROM messages WHERE to_tsvector('simple', content) @@ to_tsquery('simple', 'hello')"
    )
    assert await processor.fetchval(found) == 1


async def test_a_message_needs_its_chat_and_is_recorded_once(processor: Connection, world: World) -> None:
    async with refused(processor, asyncpg.ForeignKeyViolationError, "chats"):
        await processor.execute(INSERT, "N1", BEN.jid)
    await processor.execute(
        "INSERT INTO chats (jid, name, metadata) VALUES ($1, 'Ben', '{\"vip\": true}')", BEN.jid
    )
    for expected in ("INSERT 0 1", "INSERT 0 0"):
        assert await processor.execute(INSERT, "N1", BEN.jid) == expected
    assert await processor.execute(INSERT, "M1", BEN.jid) == "INSERT 0 0"
    row = await processor.fetchrow("SELECT id, timestamp, sender FROM messages WHERE message_id = 'N1'")
    assert row is not None
    assert (row["timestamp"], row["sender"]) == (1708186800, BEN.jid)
    assert await world.action(row["id"]) is Action.IMPORTED


async def test_chats_are_unique_and_can_be_named(processor: Connection) -> None:
    for jid in (ANA.jid, TEAM.jid):
        async with refused(processor, asyncpg.UniqueViolationError):
            await processor.execute("INSERT INTO chats (jid, is_group) VALUES ($1, false)", jid)
        await processor.execute("UPDATE chats SET name = 'new', metadata = '{\"a\": 1}' WHERE jid = $1", jid)
    rows = await processor.fetch("SELECT name, metadata FROM chats")
    assert [tuple(r) for r in rows] == [("new", {"a": 1})] * 2


async def test_deleting_a_chat_takes_all_that_refers_to_it(processor: Connection, world: World) -> None:
    await processor.execute(
        "INSERT INTO media_files (jid, message_id, media_type, minio_url) VALUES ($1, 'M1', 'photo', 'http://m/1')",
        ANA.jid,
    )
    assert await processor.execute("DELETE FROM chats WHERE jid = $1", ANA.jid) == "DELETE 1"
    for table in ("chats", "messages", "chat_tracking_state", "media_files"):
        assert await processor.fetchval(f"SELECT count(*) FROM {table} WHERE jid = $1", ANA.jid) == 0
    for table in ("decisions", "message_keys", "media", "chat_aliases", "threads"):
        left = (
            "SELECT count(*) FROM sidestep."
            + table
            + " t WHERE NOT EXISTS (SELECT FROM sidestep.chats c WHERE c.chat_id = t.chat_id)"
        )
        assert await world.db.fetchval(left) == 0, table
    [again] = await (await World.open(world.db)).record(
        said("M1", at=datetime.now(UTC)), now=datetime.now(UTC)
    )
    assert again.is_new


async def test_an_exclusion_by_sql_raises_the_epoch_and_drops_what_is_queued(
    processor: Connection, world: World
) -> None:
    chat_id = await world.meet()
    queued = await world.queue(chat_id, now=datetime.now(UTC))
    await processor.execute("UPDATE chat_tracking_state SET is_excluded = TRUE WHERE jid = $1", ANA.jid)
    session = await world.session(chat_id)
    assert (session.is_excluded, session.epoch, await world.status(queued)) == (True, 1, Status.CANCELLED)
    # Every chat has its row, so that inserting one sets it, and deleting it sets it back.
    await processor.execute(
        "INSERT INTO chat_tracking_state (jid, resume_mode) VALUES ($1, 'from_now')", ANA.jid
    )
    row = await processor.fetchrow(
        "SELECT is_excluded, resume_mode FROM chat_tracking_state WHERE jid = $1", ANA.jid
    )
    assert row is not None
    assert tuple(row) == (False, "from_now")
    await processor.execute("DELETE FROM chat_tracking_state WHERE jid = $1", ANA.jid)
    assert (
        await processor.fetchval("SELECT resume_mode FROM chat_tracking_state WHERE jid = $1", ANA.jid)
        == "from_last"
    )
    assert (await world.session(chat_id)).epoch == 2
    async with refused(processor, asyncpg.ForeignKeyViolationError):
        await processor.execute("INSERT INTO chat_tracking_state (jid) VALUES ('nobody@s.whatsapp.net')")
    async with refused(processor, asyncpg.CheckViolationError):
        await processor.execute("UPDATE chat_tracking_state SET resume_mode = 'later'")


async def test_the_resume_point_is_the_last_message_that_was_decided(
    processor: Connection, world: World
) -> None:
    point = "SELECT last_processed_message_id FROM chat_tracking_state WHERE jid = $1"
    assert await processor.fetchval(point, ANA.jid) is None
    await world.db.execute(
        "UPDATE sidestep.decisions SET action_taken = 'ai_replied', decided_at = now() WHERE message_id IN (SELECT id FROM sidestep.message_keys WHERE external_id = 'M1')"
    )
    await processor.execute(INSERT, "N1", ANA.jid)
    assert await processor.fetchval(point, ANA.jid) == "M1"


async def test_the_global_pause_is_one_row_and_the_daemon_s_own(processor: Connection, world: World) -> None:
    assert [tuple(r) for r in await processor.fetch("SELECT * FROM processing_state")] == [
        (1, False, None, None)
    ]
    await processor.execute("UPDATE processing_state SET is_paused = TRUE, paused_at = NOW() WHERE id = 1")
    assert await world.sessions.global_pause()
    await processor.execute("INSERT INTO processing_state (id, is_paused) VALUES (1, FALSE)")
    assert not await world.sessions.global_pause()
    row = await processor.fetchrow("SELECT * FROM processing_state")
    assert row is not None
    assert row["paused_at"] is not None
    assert row["resumed_at"] is not None
    async with refused(processor, asyncpg.CheckViolationError):
        await processor.execute("INSERT INTO processing_state (id) VALUES (2)")


async def test_a_medium_that_others_keep_and_move(processor: Connection, world: World) -> None:
    insert = "INSERT INTO media_files (jid, message_id, media_type, minio_url, file_size) VALUES ($1, $2, 'photo', 'http://minio/1', 12) RETURNING id"
    row = await processor.fetchrow(insert, ANA.jid, "M1")
    assert row is not None
    await processor.execute(
        "UPDATE media_files SET deeplens_url = 'http://deeplens/1' WHERE id = $1", row["id"]
    )
    found = await processor.fetchrow("SELECT * FROM media_files WHERE id = $1", row["id"])
    assert found is not None
    assert tuple(found)[1:6] == ("M1", ANA.jid, "photo", "http://minio/1", "http://deeplens/1")
    assert (found["upload_status"], found["file_size"]) == ("uploaded", 12)
    assert (
        await processor.fetchval("SELECT media_url FROM messages WHERE message_id = 'M1'") == "http://minio/1"
    )
    assert (
        await world.db.fetchval(
            "SELECT count(*) FROM sidestep.media WHERE due_at IS NOT NULL AND url IS NOT NULL"
        )
        == 0
    )
    pending = await processor.fetchval(
        "INSERT INTO media_files (jid, media_type) VALUES ($1, 'video') RETURNING upload_status", ANA.jid
    )
    assert pending == "pending"
    await processor.execute("DELETE FROM media_files WHERE id = $1", row["id"])
    assert await processor.fetchval("SELECT media_url FROM messages WHERE message_id = 'M1'") is None
    for jid, message in ((ANA.jid, "nothing"), ("nobody@s.whatsapp.net", None)):
        async with refused(processor, asyncpg.ForeignKeyViolationError):
            await processor.fetchrow(insert, jid, message)


@pytest.mark.parametrize(
    ("statement", "column"),
    [
        ("INSERT INTO chats (name) VALUES ('x')", "jid"),
        ("INSERT INTO messages (jid, timestamp) VALUES ('x', 1)", "message_id"),
        ("INSERT INTO messages (message_id, timestamp) VALUES ('x', 1)", "jid"),
        ("INSERT INTO messages (message_id, jid) VALUES ('x', 'x')", "timestamp"),
        ("INSERT INTO chat_tracking_state (is_excluded) VALUES (true)", "jid"),
        ("INSERT INTO media_files (media_type) VALUES ('photo')", "jid"),
        ("INSERT INTO processing_state (is_paused) VALUES (NULL)", "is_paused"),
    ],
)
async def test_what_must_be_said_is_asked_for(processor: Connection, statement: str, column: str) -> None:
    async with refused(processor, asyncpg.NotNullViolationError, f'"{column}"'):
        await processor.execute(statement)


@pytest.mark.parametrize(
    "table", ["chats", "messages", "chat_tracking_state", "processing_state", "media_files"]
)
async def test_sizes_are_those_of_the_core_and_its_setup_fails_loudly(
    processor: Connection, table: str
) -> None:
    assert await processor.fetchval("SELECT pg_total_relation_size($1)", table) > 0
    async with refused(processor, asyncpg.DuplicateTableError):
        await processor.execute(f"CREATE TABLE {table} (jid TEXT PRIMARY KEY)")
    async with refused(processor):
        await processor.execute(f"CREATE INDEX idx ON {table} (jid)")


async def test_a_chat_s_messages_are_found_by_the_core_s_key(processor: Connection) -> None:
    await processor.execute("ANALYZE sidestep.chats, sidestep.messages, sidestep.contacts")
    assert "_pkey" in await plan(processor, "SELECT content FROM messages WHERE jid = $1", ANA.jid)
