"""The face of et_threads and et_messages: an INSERT records, dedupes and finds its thread, however many come at once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from storage.database import Connection, Database
from storage.models import Action
from tests.conftest import until
from tests.integration.face_world import columns, defaults, face, first_tenant, plan, quoted, refused
from tests.integration.store_world import ANA, BEN, World, said

PRINTED = quoted("threads")
PASTED = {name: text for name, text in PRINTED.items() if name.startswith("pasted_")}

INSERT = """
INSERT INTO et_messages (tenant_id, lead_id, channel, message_id, timestamp, direction, text_content, raw_json)
VALUES (101, $1, $2, $3, $4, 'inbound', 'hi', '{}') RETURNING id, thread_id
"""


@pytest.fixture
async def threads(rollback_db: Database) -> AsyncIterator[Connection]:
    """A store in which nothing has happened yet; its first thread gets the number that the document prints."""
    await first_tenant(rollback_db)
    await rollback_db.execute("ALTER TABLE sidestep.threads ALTER thread_id RESTART WITH 123")
    async with face(rollback_db, "threads") as connection:
        yield connection


async def specify(connection: Connection) -> None:
    """The document's tables as they would be, in a schema of their own."""
    await connection.execute("CREATE SCHEMA spec; SET search_path TO spec")
    for name in PASTED:
        await connection.execute(PASTED[name])
    await connection.execute("SET search_path TO face_threads, public")


async def test_columns_and_defaults_are_those_of_the_document(
    threads: Connection, rollback_db: Database
) -> None:
    await specify(threads)
    spec = await threads.fetch(
        """
        SELECT c.relname || '.' || a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
               pg_get_expr(d.adbin, d.adrelid) AS "default"
          FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
          LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
         WHERE c.relnamespace = 'spec'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 ORDER BY c.relname DESC, a.attnum
        """
    )
    expected = {r["name"]: r["type"] for r in spec}
    found = await columns(rollback_db, "threads")
    assert found == expected | {"et_messages.id": "bigint"}
    assert list(found) == list(expected)
    assert await defaults(rollback_db, "threads") == {
        r["name"]: r["default"] for r in spec if r["default"] and not r["name"].endswith(".id")
    }


async def test_what_the_document_s_not_null_asks_for_is_asked_for(threads: Connection) -> None:
    await specify(threads)
    rows = await threads.fetch(
        """
        SELECT c.relname AS table, a.attname AS column FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
         WHERE c.relnamespace = 'spec'::regnamespace AND c.relkind = 'r' AND a.attnotnull AND a.attnum > 0 AND a.attname <> 'id'
        """
    )
    values = {
        "et_threads": {"tenant_id": "101", "lead_id": "1", "channel": "'email'", "status": "'active'", "created_at": "now()"},
        "et_messages": {
            "tenant_id": "101", "lead_id": "1", "channel": "'email'", "message_id": "'a'", "timestamp": "1", "direction": "'inbound'",
            "message_type": "'text'", "raw_json": "'{}'", "created_at": "now()",
        },
    }  # fmt: skip
    assert {(r["table"], r["column"]) for r in rows} == {(t, c) for t, cs in values.items() for c in cs}
    for table, column in rows:
        given = values[table] | {column: "NULL"}
        async with refused(threads, asyncpg.NotNullViolationError, f'"{column}"'):
            await threads.execute(
                f"INSERT INTO {table} ({', '.join(given)}) VALUES ({', '.join(given.values())})"
            )


@pytest.mark.parametrize("name", PASTED)
async def test_the_document_s_ddl_fails_loudly_and_harms_nothing(threads: Connection, name: str) -> None:
    before = await threads.fetch(
        "SELECT oid, prosrc FROM pg_proc WHERE pronamespace::regnamespace::text ~ '^(sidestep|face_)' ORDER BY oid"
    )
    async with refused(threads):
        await threads.execute(PASTED[name])
    assert (
        await threads.fetch(
            "SELECT oid, prosrc FROM pg_proc WHERE pronamespace::regnamespace::text ~ '^(sidestep|face_)' ORDER BY oid"
        )
        == before
    )
    await threads.execute(PRINTED["insert_message"])


async def test_the_insert_makes_tenant_lead_chat_and_thread(
    threads: Connection, rollback_db: Database
) -> None:
    assert await threads.fetch(PRINTED["check_duplicate"]) == []
    assert await threads.execute(PRINTED["insert_message"]) == "INSERT 0 1"
    assert len(await threads.fetch(PRINTED["check_duplicate"])) == 1
    [row] = await threads.fetch(PRINTED["thread_history"])
    assert await threads.fetch(PRINTED["lead_history"]) == [row]
    assert tuple(row)[1:8] == (101, 5001, 123, "whatsapp", "3EB0ABC123", 1708186800000, "inbound")
    assert tuple(row)[8:12] == (
        "text",
        "Hello",
        None,
        {"key": {"id": "3EB0ABC123"}, "message": {"conversation": "Hello"}},
    )
    thread = await threads.fetchrow("SELECT * FROM et_threads")
    assert thread is not None
    assert tuple(thread)[:5] == (123, 101, 5001, "whatsapp", "active")
    assert await rollback_db.fetchval("SELECT action_taken FROM sidestep.decisions") == Action.IMPORTED
    assert await rollback_db.fetchval("SELECT count(*) FROM sidestep.outbox") == 0


async def test_a_message_that_is_there_is_not_recorded_again(threads: Connection) -> None:
    await threads.execute(PRINTED["insert_message"])
    assert await threads.execute(PRINTED["insert_message"]) == "INSERT 0 0"
    # The key is channel, lead and id: the same id elsewhere is another message.
    for lead, channel in ((5002, "whatsapp"), (5001, "telegram")):
        assert await threads.fetchrow(INSERT, lead, channel, "3EB0ABC123", 1) is not None
    assert await threads.fetchval("SELECT count(*) FROM et_messages") == 3


async def test_archiving_makes_the_next_message_begin_a_thread(
    threads: Connection, rollback_db: Database
) -> None:
    await threads.execute(PRINTED["insert_message"])
    assert await threads.execute(PRINTED["archive"]) == "UPDATE 1"
    assert await threads.fetch(PRINTED["lead_history"]) == []
    assert await rollback_db.fetchval("SELECT epoch FROM sidestep.chat_state") == 1
    row = await threads.fetchrow(INSERT, 5001, "whatsapp", "NEXT", 1708186800001)
    assert row is not None
    assert row["thread_id"] == 124
    assert [r["message_id"] for r in await threads.fetch(PRINTED["lead_history"])] == ["NEXT"]
    assert [r["message_id"] for r in await threads.fetch(PRINTED["thread_history"])] == ["3EB0ABC123"]
    assert [tuple(r) for r in await threads.fetch("SELECT id, status FROM et_threads ORDER BY id")] == [
        (123, "archived"),
        (124, "active"),
    ]


async def test_an_old_thread_can_be_taken_up_again_and_only_one_is_active(threads: Connection) -> None:
    await threads.execute(PRINTED["insert_message"])
    await threads.execute(PRINTED["archive"])
    await threads.fetchrow(INSERT, 5001, "whatsapp", "NEXT", 1)
    await threads.execute("UPDATE et_threads SET status = 'active' WHERE id = 123")
    assert [tuple(r) for r in await threads.fetch("SELECT id, status FROM et_threads ORDER BY id")] == [
        (123, "active"),
        (124, "archived"),
    ]
    row = await threads.fetchrow(INSERT, 5001, "whatsapp", "LAST", 2)
    assert row is not None
    assert row["thread_id"] == 123
    async with refused(threads, asyncpg.UniqueViolationError):
        await threads.execute(
            "INSERT INTO et_threads (tenant_id, lead_id, channel) VALUES (101, 5001, 'whatsapp')"
        )


async def test_a_thread_that_is_inserted_is_the_one_that_messages_go_to(threads: Connection) -> None:
    await threads.execute("INSERT INTO et_threads (tenant_id, lead_id, channel) VALUES (101, 7, 'discord')")
    row = await threads.fetchrow(INSERT, 7, "discord", "D1", 1)
    assert row is not None
    assert row["thread_id"] == await threads.fetchval("SELECT id FROM et_threads WHERE lead_id = 7")


@pytest.mark.parametrize(
    "wrong",
    [
        "INSERT INTO et_messages (tenant_id, lead_id, channel, message_id, timestamp, direction, raw_json) VALUES (101, 1, 'email', 'x', 1, 'incoming', '{}')",
        "INSERT INTO et_messages (tenant_id, lead_id, channel, message_id, timestamp, direction, raw_json) VALUES (101, 1, 'fax', 'x', 1, 'inbound', '{}')",
        "INSERT INTO et_threads (tenant_id, lead_id, channel, status) VALUES (101, 1, 'email', 'open')",
        "INSERT INTO et_threads (tenant_id, lead_id, channel) VALUES (101, 0, 'email')",
    ],
)
async def test_words_that_mean_nothing_are_refused(threads: Connection, wrong: str) -> None:
    async with refused(threads, asyncpg.CheckViolationError):
        await threads.execute(wrong)


async def test_what_the_bot_has_recorded_is_there_and_is_linked_to_a_lead(
    threads: Connection, rollback_db: Database
) -> None:
    world = await World.open(rollback_db)
    now = datetime.now(UTC)
    await world.record(said("M1", "price?", at=now), said("M2", "hi", by=BEN, at=now), now=now)
    [thread] = await threads.fetch("SELECT * FROM et_threads WHERE lead_id = $1", -(await world.meet()))
    await threads.execute("UPDATE et_threads SET lead_id = 5001 WHERE id = $1", thread["id"])
    assert [(r["message_id"], r["text_content"]) for r in await threads.fetch(PRINTED["lead_history"])] == [
        ("M1", "price?")
    ]
    # From then on the lead's messages are that chat's; another lead is found by the address in the platform's event.
    tenant = world.tenant.tenant_id
    insert = INSERT.replace("101", str(tenant))
    await threads.fetchrow(insert, 5001, "whatsapp", "N1", 1)
    await threads.fetchrow(
        insert.replace("'{}'", f"""'{{"key": {{"remoteJid": "{BEN.jid}"}}}}'"""), 5002, "whatsapp", "N2", 1
    )
    chats = await rollback_db.fetch(
        "SELECT chat_id, external_id FROM sidestep.messages WHERE external_id LIKE 'N%' ORDER BY 2"
    )
    assert [r["chat_id"] for r in chats] == [await world.meet(ANA), await world.meet(BEN)]
    # What the bot has is not recorded again under the lead either.
    assert await threads.fetchrow(insert, 5001, "whatsapp", "M1", 1) is None


async def test_two_leads_whose_chats_become_one_are_both_found(
    threads: Connection, rollback_db: Database
) -> None:
    for lead in (5001, 5002):
        await threads.fetchrow(INSERT, lead, "whatsapp", f"L{lead}", 1)
    one, other = (
        r["chat_id"] for r in await rollback_db.fetch("SELECT chat_id FROM sidestep.chats ORDER BY lead_id")
    )
    await rollback_db.execute("SELECT sidestep.merge_chats(101, $1, $2, now())", one, other)
    await threads.fetchrow(INSERT, 5002, "whatsapp", "AFTER", 2)
    assert {r["lead_id"] for r in await threads.fetch("SELECT lead_id FROM et_messages")} == {5001}
    assert {r["message_id"] for r in await threads.fetch("SELECT message_id FROM et_messages")} == {
        "L5001",
        "L5002",
        "AFTER",
    }


CORE_INDEXES = {
    "idx_threads_lead": ("chats_lead", "SELECT * FROM et_threads WHERE lead_id = 5001"),
    "idx_threads_active": (
        "chats_lead",
        "SELECT * FROM et_threads WHERE lead_id = 5001 AND channel = 'whatsapp' AND status = 'active'",
    ),
    "idx_msg_tenant": (
        "messages_20\\d{4}_tenant_id_id_idx",
        "SELECT id FROM sidestep.messages WHERE tenant_id = 101 ORDER BY id DESC LIMIT 50",
    ),
    "idx_msg_lead": ("chats_lead", "SELECT * FROM et_messages WHERE lead_id = 5001"),
    "idx_msg_thread": ("threads_number", "SELECT * FROM et_messages WHERE thread_id = 123"),
    "idx_msg_conversation": (
        "threads_number",
        "SELECT * FROM et_messages WHERE thread_id = 123 ORDER BY timestamp",
    ),
}


async def test_each_index_of_the_document_has_one_of_the_core(db: Database) -> None:
    # A database of its own: the dead rows that other tests have left in a shared one would tip the planner.
    await first_tenant(db)
    async with face(db, "threads") as threads:
        await threads.execute(
            INSERT.replace("VALUES (101, $1, $2, $3, $4", "SELECT n, n, 'whatsapp', 'M' || n, n")
            .replace("'{}')", "'{}' FROM (SELECT 101 AS t, generate_series(1, 1000) AS n) x")
            .replace("SELECT n, n", "SELECT t, n")
        )
        await threads.execute("ANALYZE")
        for name, (index, query) in CORE_INDEXES.items():
            assert re.search(index, await plan(threads, query)), name


async def test_sizes_are_those_of_the_core(threads: Connection) -> None:
    await threads.execute(PRINTED["insert_message"])
    for view in ("et_threads", "et_messages"):
        assert await threads.fetchval("SELECT pg_total_relation_size($1)", view) > 0


async def test_a_hundred_sessions_with_one_lead_s_first_message_make_one_thread(db: Database) -> None:
    many = await Database.open(db.address.url, max_size=30)

    async def insert(n: int) -> int:
        async with face(many, "threads") as connection:
            row = await connection.fetchrow(INSERT, 5001, "whatsapp", f"M{n}", 1708186800000 + n)
            assert row is not None
            return int(row["thread_id"])

    try:
        given = await asyncio.gather(*(insert(n) for n in range(100)))
    finally:
        await many.close()
    async with face(db, "threads") as connection:
        assert len(set(given)) == 1
        assert await connection.fetchval("SELECT count(*) FROM et_messages") == 100
        assert [tuple(r) for r in await connection.fetch("SELECT id, status FROM et_threads")] == [
            (given[0], "active")
        ]
    assert await db.fetchval("SELECT count(*) FROM sidestep.tenants") == 1


async def test_who_writes_waits_for_a_chat_without_holding_the_message_s_id(db: Database) -> None:
    """A batch that holds the chat asks for that id when it has an edit of the message: it must not wait in a circle."""
    async with face(db, "threads") as connection:
        await connection.fetchrow(INSERT, 5001, "whatsapp", "M1", 1)

    async def insert() -> None:
        async with face(db, "threads") as connection:
            await connection.fetchrow(INSERT, 5001, "whatsapp", "M2", 2)

    async def is_waiting() -> bool:
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        return bool(await db.fetchval(waiting))

    async with db.transaction() as batch:
        await batch.execute("SELECT sidestep.lock_chats(101, ARRAY(SELECT chat_id FROM sidestep.chats))")
        writing = asyncio.create_task(insert())
        await until(is_waiting)
        assert await batch.fetchval("SELECT pg_try_advisory_xact_lock(hashtextextended('M2', 101))")
    await writing
    async with face(db, "threads") as connection:
        assert await connection.fetchval("SELECT count(*) FROM et_messages") == 2


async def test_writers_archives_and_pauses_at_once_lose_nothing(db: Database) -> None:
    many = await Database.open(db.address.url, max_size=20)

    async def work(n: int) -> None:
        async with face(many, "threads") as connection:
            if n % 4:
                await connection.fetchrow(INSERT, 5000 + n % 3, "whatsapp", f"M{n}", n)
            elif n % 8:
                await connection.execute(
                    "UPDATE et_threads SET status = 'archived' WHERE status = 'active' AND lead_id = $1",
                    5000 + n % 3,
                )
            else:
                await connection.execute(
                    "UPDATE face_whaply.sessions SET is_paused = NOT is_paused WHERE chat_id = $1",
                    f"lead:{5000 + n % 3}",
                )

    try:
        await asyncio.gather(*(work(n) for n in range(120)))
    finally:
        await many.close()
    async with face(db, "threads") as connection:
        assert await connection.fetchval("SELECT count(*) FROM et_messages") == 90
        twice = "SELECT lead_id FROM et_threads WHERE status = 'active' GROUP BY lead_id HAVING count(*) > 1"
        assert await connection.fetch(twice) == []
        orphans = "SELECT count(*) FROM et_messages m LEFT JOIN et_threads t ON t.id = m.thread_id WHERE t.id IS NULL"
        assert await connection.fetchval(orphans) == 0


async def test_a_message_of_the_past_goes_to_the_thread_of_its_time(threads: Connection) -> None:
    await threads.fetchrow(INSERT, 5001, "whatsapp", "M1", 1)
    await threads.execute(PRINTED["archive"])
    second = await threads.fetchrow(INSERT, 5001, "whatsapp", "M2", 1)
    old = await threads.fetchrow(
        """
        INSERT INTO et_messages (tenant_id, lead_id, channel, message_id, timestamp, direction, raw_json, created_at)
        VALUES (101, 5001, 'whatsapp', 'OLD', 1, 'inbound', '{}', $1) RETURNING thread_id
        """,
        datetime.now() - timedelta(days=30),  # noqa: DTZ005  the document's column has no zone
    )
    assert second is not None
    assert old is not None
    assert (old["thread_id"], second["thread_id"]) == (123, 124)
