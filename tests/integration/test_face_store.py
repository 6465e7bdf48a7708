"""The face of the message storage document: one table of 24 columns, for one tenant at a time."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from storage.database import Connection, Database
from storage.models import Action, ExternalId, Outgoing, Status
from tests.integration.face_world import columns, defaults, documented, face, first_tenant, quoted, refused
from tests.integration.store_world import BEN, LONG_AGO, TEAM, World, receipt, said, typed

PRINTED = quoted("store")
MANUAL = (Path(__file__).parents[2] / "docs" / "faces.md").read_text(encoding="utf-8")

COLUMNS = documented(
    """
messages.id UUID
messages.message_id TEXT
messages.context_id TEXT
messages.context_type TEXT
messages.direction TEXT
messages.sender TEXT
messages.recipient TEXT
messages.content TEXT
messages.media_url TEXT
messages.media_type TEXT
messages.media_content_type TEXT
messages.media_size INTEGER
messages.status TEXT
messages.error_message TEXT
messages.metadata JSONB
messages.created_at TIMESTAMP
messages.delivered_at TIMESTAMP
messages.read_at TIMESTAMP
messages.reply_to_message_id UUID
messages.is_bot_command BOOLEAN
messages.is_admin_command BOOLEAN
messages.command_name TEXT
messages.deleted_at TIMESTAMP
messages.is_deleted BOOLEAN
"""
)

INSERT = """
INSERT INTO messages (message_id, context_id, context_type, direction, sender, content) VALUES ($1, $2, $3, $4, $5, 'hi')
RETURNING id, status
"""
ANA_PHONE = "5511988880001"


@pytest.fixture
async def world(rollback_db: Database) -> World:
    """A customer who was answered and has read it, the owner's own line to another, and a word in a group."""
    await first_tenant(rollback_db)
    world = await World.open(rollback_db)
    now = datetime.now(UTC)
    await rollback_db.execute("UPDATE sidestep.accounts SET jid = '5511999990000@s.whatsapp.net'")
    [asked] = await world.record(said("M1", "how much?", at=now), now=now)
    chat_id = asked.message.chat_id
    await world.outbox.enqueue(
        chat_id, Outgoing(text="10", fenced=False), now, epoch=None, answers=[asked.message.id]
    )
    due = await world.due(chat_id, now=now)
    await world.outbox.claim(due, now, LONG_AGO)
    await world.outbox.mark_sent(due, ExternalId("3EB1"), now, overlapped=False)
    await world.outbox.receive(receipt("3EB1", Status.READ, at=now), now)
    await world.record(
        typed("H1", "/pause", to=BEN, at=now, reply_to="Q"), said("G1", "hello", group=TEAM, at=now),
        said("E1", "edited", type="edit", reply_to="M1", at=now), now=now,
    )  # fmt: skip
    return world


@pytest.fixture
async def store(world: World) -> AsyncIterator[Connection]:
    async with face(world.db, "store") as connection:
        yield connection


async def the(store: Connection, message_id: str) -> asyncpg.Record:
    row = await store.fetchrow("SELECT * FROM messages WHERE message_id = $1", message_id)
    assert row is not None
    return row


async def test_the_24_columns_are_the_document_s(world: World) -> None:
    found = await columns(world.db, "store")
    assert found == COLUMNS
    assert list(found) == list(COLUMNS)
    assert len(found) == 24


async def test_the_defaults_are_those_in_the_documentation(world: World) -> None:
    assert await defaults(world.db, "store") == {
        "messages.metadata": "'{}'::jsonb",
        "messages.created_at": "CURRENT_TIMESTAMP",
        "messages.is_bot_command": "false",
        "messages.is_admin_command": "false",
        "messages.is_deleted": "false",
    }


async def test_a_question_and_its_answer_are_told_in_the_document_s_words(store: Connection) -> None:
    asked, answer = await the(store, "M1"), await the(store, "3EB1")
    assert tuple(asked)[1:8] == ("M1", ANA_PHONE, "private", "incoming", ANA_PHONE, "5511999990000", "edited")
    assert (asked["status"], asked["is_bot_command"], asked["is_deleted"], asked["metadata"]) == (
        "delivered",
        False,
        False,
        {},
    )
    assert tuple(answer)[1:8] == ("3EB1", ANA_PHONE, "private", "outgoing", "5511999990000", ANA_PHONE, "10")
    assert (answer["status"], answer["reply_to_message_id"]) == ("read", asked["id"])
    assert answer["read_at"] is not None


async def test_groups_and_what_changes_others(store: Connection) -> None:
    row = await the(store, "G1")
    assert tuple(row)[2:6] == (TEAM.jid, "group", "incoming", ANA_PHONE)
    assert await store.fetchval("SELECT count(*) FROM messages") == 4  # an edit shows in its message


async def test_the_size_is_the_core_s(store: Connection) -> None:
    assert await store.fetchval(PRINTED["size"]) != "0 bytes"
    core = await store.fetchval(
        "SELECT sum(pg_catalog.pg_total_relation_size(relid)) FROM pg_partition_tree('sidestep.messages')"
    )
    assert await store.fetchval("SELECT pg_total_relation_size('messages')") > core > 0


async def test_a_partition_cannot_be_made_of_a_view(store: Connection) -> None:
    async with refused(store, match='"messages" is not'):
        await store.execute(PRINTED["pasted_partition"])


async def test_the_query_that_is_wrong_in_its_document_has_a_working_form_in_ours(store: Connection) -> None:
    async with refused(store, asyncpg.UndefinedColumnError):
        await store.fetch(PRINTED["index_usage"])
    [working] = [q for q in re.findall(r"```sql\n(.*?)```", MANUAL, re.S) if "pg_stat_user_indexes" in q]
    rows = await store.fetch(working)
    assert {"schemaname", "tablename", "indexname", "idx_scan", "idx_tup_read", "idx_tup_fetch"} == set(
        rows[0].keys()
    )
    assert any(r["tablename"].startswith("messages_20") for r in rows)


async def test_slow_queries_are_told_where_the_server_counts_them(store: Connection) -> None:
    counted = "pg_stat_statements" in await store.fetchval(
        "SELECT current_setting('shared_preload_libraries')"
    )
    if await store.fetchval("SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_stat_statements'"):
        await store.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements SCHEMA public")
    if counted:
        await store.fetch(PRINTED["slow_queries"])
    else:
        async with refused(store):
            await store.fetch(PRINTED["slow_queries"])


@pytest.mark.parametrize("phone", ["+55 11 90000-0009", "5511900000009", "5511900000009@s.whatsapp.net"])
async def test_a_message_is_recorded_once_whatever_the_number_looks_like(
    store: Connection, world: World, phone: str
) -> None:
    row = await store.fetchrow(INSERT, "N1", phone, "private", "incoming", phone)
    assert row is not None
    assert row["status"] == "delivered"
    assert await store.fetchrow(INSERT, "N1", phone, "private", "incoming", phone) is None
    written = await the(store, "N1")
    assert (written["id"], written["context_id"], written["sender"]) == (
        row["id"],
        "5511900000009",
        "5511900000009",
    )
    action = "SELECT action_taken FROM sidestep.decisions JOIN sidestep.message_keys k ON k.id = message_id WHERE external_id = 'N1'"
    assert await world.db.fetchval(action) == Action.IMPORTED


async def test_what_has_no_column_of_ours_comes_back_as_it_was_written(store: Connection) -> None:
    asked = await the(store, "M1")
    row = await store.fetchrow(
        """
        INSERT INTO messages (message_id, context_id, context_type, direction, content, media_url, media_type, media_content_type,
                              media_size, status, error_message, metadata, created_at, reply_to_message_id, is_admin_command, command_name)
        VALUES ('N1', $1, 'private', 'outgoing', 'Check this out!', 'https://example.com/image.jpg', 'photo', 'image/jpeg', 1234,
                'failed', 'no route', '{"source": "ai_generation"}', '2026-01-02 03:04:05', $2, true, 'report') RETURNING id
        """,
        ANA_PHONE,
        asked["id"],
    )
    assert row is not None
    written = await the(store, "N1")
    assert written["id"] == row["id"]
    assert written["created_at"] == datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001  the document's column has no zone
    assert tuple(written)[7:15] == (
        "Check this out!", "https://example.com/image.jpg", "image", "image/jpeg", 1234, "failed", "no route", {"source": "ai_generation"},
    )  # fmt: skip
    assert tuple(written)[18:22] == (asked["id"], True, True, "report")


async def test_what_is_written_as_queued_is_not_in_the_outbox(store: Connection, world: World) -> None:
    before = await world.count("outbox")
    await store.execute(
        "INSERT INTO messages (message_id, context_id, context_type, direction, content, status)"
        " VALUES ('N1', $1, 'private', 'outgoing', 'x', 'queued')",
        ANA_PHONE,
    )
    assert (await the(store, "N1"))["status"] == "queued"
    assert await world.count("outbox") == before
    await store.execute(
        "UPDATE messages SET status = 'delivered', delivered_at = now() WHERE message_id = 'N1'"
    )
    assert (await the(store, "N1"))["status"] == "delivered"


async def test_a_status_of_the_bot_s_moves_forward_only(store: Connection) -> None:
    await store.execute("UPDATE messages SET status = 'sent' WHERE message_id = '3EB1'")
    assert (await the(store, "3EB1"))["status"] == "read"


async def test_a_queued_answer_of_the_bot_s_can_be_stopped(store: Connection, world: World) -> None:
    queued = await world.queue(await world.meet(), now=datetime.now(UTC))
    assert (
        await store.execute(
            "UPDATE messages SET status = 'failed' WHERE message_id = $1", f"sidestep:{queued}"
        )
        == "UPDATE 1"
    )
    assert await world.status(queued) is Status.CANCELLED
    assert (await the(store, f"sidestep:{queued}"))["status"] == "failed"


async def test_soft_and_hard_delete(store: Connection, world: World) -> None:
    await store.execute(
        "UPDATE messages SET is_deleted = TRUE, deleted_at = CURRENT_TIMESTAMP WHERE message_id = 'M1'"
    )
    row = await the(store, "M1")
    assert (row["is_deleted"], row["content"]) == (True, "edited")
    assert row["deleted_at"] is not None
    await store.execute("UPDATE messages SET is_deleted = FALSE WHERE message_id = 'M1'")
    assert tuple(await the(store, "M1"))[-2:] == (None, False)
    assert await store.execute("DELETE FROM messages WHERE id = $1", row["id"]) == "DELETE 1"
    assert await store.fetchval("SELECT count(*) FROM messages WHERE message_id = 'M1'") == 0
    assert await world.db.fetchval("SELECT count(*) FROM sidestep.message_versions") == 0
    assert await store.fetchrow(INSERT, "M1", ANA_PHONE, "private", "incoming", ANA_PHONE) is None


@pytest.mark.parametrize("missing", ["message_id", "context_id", "context_type", "direction"])
async def test_what_must_be_said_is_asked_for(store: Connection, missing: str) -> None:
    values = {
        "message_id": "'N'",
        "context_id": "'1'",
        "context_type": "'private'",
        "direction": "'incoming'",
    } | {missing: "NULL"}
    async with refused(store, asyncpg.NotNullViolationError, f'"{missing}"'):
        await store.execute(
            f"INSERT INTO messages ({', '.join(values)}) VALUES ({', '.join(values.values())})"
        )


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (
            "INSERT INTO messages (message_id, context_id, context_type, direction) VALUES ('N', '1', 'channel', 'incoming')",
            asyncpg.CheckViolationError,
        ),
        (
            "INSERT INTO messages (message_id, context_id, context_type, direction) VALUES ('N', '1', 'private', 'inbound')",
            asyncpg.CheckViolationError,
        ),
        ("UPDATE messages SET status = 'bounced'", asyncpg.CheckViolationError),
        ("UPDATE messages SET content = 'other words'", asyncpg.FeatureNotSupportedError),
        (
            "INSERT INTO messages (message_id, context_id, context_type, direction, reply_to_message_id)"
            " VALUES ('N', '1', 'private', 'incoming', gen_random_uuid())",
            asyncpg.ForeignKeyViolationError,
        ),
    ],
)
async def test_what_means_nothing_is_refused(
    store: Connection, wrong: str, error: type[asyncpg.PostgresError]
) -> None:
    async with refused(store, error):
        await store.execute(wrong)


async def test_of_several_tenants_it_must_be_said_which(store: Connection, world: World) -> None:
    await world.db.execute("SELECT sidestep.add_tenant('bakery', NULL, NULL)")
    async with refused(store, match="2"):
        await store.fetch("SELECT * FROM messages")
    await store.execute("SELECT set_config('sidestep.tenant', 'bakery', false)")
    assert await store.fetch("SELECT * FROM messages") == []
    assert await store.fetchrow(INSERT, "M1", ANA_PHONE, "private", "incoming", ANA_PHONE) is not None
    await store.execute("RESET sidestep.tenant")


async def test_the_first_row_in_an_empty_store_makes_its_tenant(rollback_db: Database) -> None:
    async with face(rollback_db, "store") as connection:
        assert await connection.fetch("SELECT * FROM messages") == []
        await connection.fetchrow(INSERT, "N1", "120363", "group", "incoming", ANA_PHONE)
        assert await connection.fetchval("SELECT context_id FROM messages") == "120363@g.us"


@pytest.mark.parametrize(
    ("chat", "number"),
    [(1, 228494087834042369), (288230376151711743, 9223372036854775807), (5, -1), (7, -(2**63)), (9, 0)],
)
async def test_a_message_s_uuid_leads_back_to_it(rollback_db: Database, chat: int, number: int) -> None:
    made = UUID(str(await rollback_db.fetchval("SELECT sidestep.uuid_of($1, $2)", chat, number)))
    assert (made.version, made.variant) == (8, "specified in RFC 4122")
    row = await rollback_db.fetchrow("SELECT * FROM sidestep.message_of($1)", made)
    assert row is not None
    assert tuple(row) == (chat, number)


async def test_uuids_sort_as_the_messages_do(rollback_db: Database) -> None:
    rows = await rollback_db.fetch(
        "SELECT n FROM unnest(ARRAY[-9000000000000, -1, 0, 15, 16, 228494087834042369, 228494087834042370]::bigint[]) n ORDER BY sidestep.uuid_of(3, n)"
    )
    assert [r["n"] for r in rows] == sorted(r["n"] for r in rows)
