"""The schema: everything in it says what it is, and what is asked for all day is found by an index."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest

from storage import blobs, decisions, media, messages, queued, sessions
from storage.database import Database
from storage.models import ExternalId, Status
from storage.outbox import OutboxStore
from storage.reading import chats as chat_reads
from storage.reading import messages as message_reads
from storage.reading import stats as stats_reads
from tests.conftest import fresh_database
from tests.integration.store_world import AFTER, ANA, LONG_AGO, NOW, World, receipt, said

CHATS, MESSAGES = 2_000, 40_000
BIG_CHAT = 7
"""One chat has half of all messages, as everywhere."""

SEED = """
WITH chat AS (
    INSERT INTO sidestep.chats (tenant_id, account_id, jid, is_group, created_at, updated_at)
    SELECT $1, $2, n || '@s.whatsapp.net', false, $3, $3 FROM generate_series(1, $4::int) n
    RETURNING tenant_id, chat_id),
thread AS (
    INSERT INTO sidestep.threads (tenant_id, chat_id, created_at) SELECT tenant_id, chat_id, $3 FROM chat
    RETURNING tenant_id, chat_id, thread_id)
INSERT INTO sidestep.chat_state
       (tenant_id, chat_id, active_thread_id, is_paused, pause_reason, paused_at, last_human_at)
SELECT tenant_id, chat_id, thread_id, chat_id % 100 = 0, CASE WHEN chat_id % 100 = 0 THEN 'human_takeover' END, $3, $3
  FROM thread
"""
SEED_MESSAGES = """
INSERT INTO sidestep.messages (tenant_id, chat_id, id, thread_id, direction, author, type, text, sent_at)
SELECT s.tenant_id, s.chat_id, (sidestep.milliseconds($2) + n) << 20, s.active_thread_id,
       CASE n % 2 WHEN 0 THEN 'outbound' ELSE 'inbound' END, CASE n % 2 WHEN 0 THEN 'bot' ELSE 'customer' END,
       CASE n % 50 WHEN 7 THEN 'image' ELSE 'text' END,
       'word' || n % 100 || CASE n % 20000 WHEN 17 THEN ' rare' ELSE '' END, $2
  FROM generate_series(1, $3::int) n
  JOIN sidestep.chat_state s ON s.tenant_id = $1 AND s.chat_id = CASE WHEN n % 4 < 2 THEN $5 ELSE n % $4::int + 1 END
"""
SEED_DAYS = """
UPDATE sidestep.chat_state SET last_message_id = (sidestep.milliseconds($2) - chat_id % 200 * 86400000) << 20
 WHERE tenant_id = $1
"""
SEED_OUTBOX = """
INSERT INTO sidestep.outbox (tenant_id, chat_id, id, account_id, status, due_at, queued_at, sent_at)
SELECT tenant_id, chat_id, id, $2, 'read', NULL, sent_at, sent_at
  FROM sidestep.messages WHERE tenant_id = $1 AND author = 'bot'
"""
SEED_DECISIONS = """
INSERT INTO sidestep.decisions (tenant_id, chat_id, message_id, action_taken, decided_at)
SELECT tenant_id, chat_id, id, 'keyword_replied', sent_at
  FROM sidestep.messages WHERE tenant_id = $1 AND author = 'customer'
"""
SEED_KEYS = """
INSERT INTO sidestep.message_keys (tenant_id, chat_id, external_id, from_me, id)
SELECT tenant_id, chat_id, 'E' || id, author = 'bot', id FROM sidestep.messages WHERE tenant_id = $1
"""


SEED_MEDIA = """
INSERT INTO sidestep.media (tenant_id, account_id, chat_id, message_id, type, status, url, due_at, created_at)
SELECT tenant_id, $2, chat_id, id, 'image', CASE WHEN n % 1000 = 0 THEN 'pending' ELSE 'stored' END,
       CASE WHEN n % 1000 <> 0 THEN 'file:///x' END, CASE WHEN n % 1000 = 0 THEN sent_at END, sent_at
  FROM (SELECT m.*, row_number() OVER (ORDER BY id) AS n FROM sidestep.messages m WHERE tenant_id = $1) m
"""


@pytest.fixture(scope="module")
async def full(postgres: str, template: str) -> AsyncIterator[World]:
    """A store with some history."""
    async with fresh_database(postgres, template) as dsn:
        db = await Database.open(dsn, max_size=2)
        try:
            world = await World.open(db)
            tenant_id, account_id = world.tenant.tenant_id, world.account.account_id
            await world.messages.ensure_months(NOW)
            await db.execute(SEED, tenant_id, account_id, NOW, CHATS)
            await db.execute(SEED_MESSAGES, tenant_id, NOW, MESSAGES, CHATS, BIG_CHAT)
            await db.execute(SEED_DAYS, tenant_id, NOW)
            await db.execute(SEED_OUTBOX, tenant_id, account_id)
            await db.execute(SEED_DECISIONS, tenant_id)
            await db.execute(SEED_KEYS, tenant_id)
            await db.execute(SEED_MEDIA, tenant_id, account_id)
            await world.record(said("M1"))
            await world.queue(await world.meet())
            await db.execute("UPDATE sidestep.decisions SET action_taken = NULL WHERE message_id % 1000 = 1")
            await db.execute(f"ANALYZE {', '.join(f'sidestep.{t}' for t in ANALYZED)}")
            yield world
        finally:
            await db.close()


ANALYZED = (
    "chats",
    "chat_state",
    "threads",
    "messages",
    "message_keys",
    "decisions",
    "outbox",
    "contacts",
    "chat_aliases",
    "media",
)


@pytest.mark.parametrize("kind", ["table", "column", "function", "schema"])
async def test_everything_says_what_it_is(rollback_db: Database, kind: str) -> None:
    silent = {
        "table": """
            SELECT relname FROM pg_class
             WHERE relnamespace::regnamespace::text ~ '^(sidestep|face_.*)$' AND relkind IN ('r', 'p', 'v')
               AND NOT relispartition AND obj_description(oid, 'pg_class') IS NULL""",
        "column": """
            SELECT c.relname || '.' || a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
             WHERE c.relnamespace = 'sidestep'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
               AND a.attnum > 0 AND NOT a.attisdropped AND col_description(c.oid, a.attnum) IS NULL""",
        "function": """
            SELECT proname FROM pg_proc WHERE pronamespace::regnamespace::text ~ '^(sidestep|face_.*)$'
               AND obj_description(oid, 'pg_proc') IS NULL""",
        "schema": """
            SELECT nspname FROM pg_namespace WHERE nspname ~ '^(sidestep|whatsmeow|face_.*)$'
               AND obj_description(oid, 'pg_namespace') IS NULL""",
    }
    assert [row[0] for row in await rollback_db.fetch(silent[kind])] == []


async def test_every_key_leads_with_the_tenant(rollback_db: Database) -> None:
    rows = await rollback_db.fetch(
        """
        SELECT i.indexrelid::regclass::text AS name, a.attname FROM pg_index i
          JOIN pg_class c ON c.oid = i.indrelid
          JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
         WHERE c.relnamespace = 'sidestep'::regnamespace AND NOT c.relispartition
        """
    )
    others = {r["name"] for r in rows if r["attname"] != "tenant_id"}
    # A tenant's name is what its number is found by, and a role what a tenant is; the rest know no tenants.
    assert others <= {
        "sidestep.tenants_instance_name_key", "sidestep.tenant_roles_role", "sidestep.schema_migrations_pkey",
        "sidestep.vocabulary_pkey", "sidestep.vocabulary_said", "sidestep.vocabulary_heard",
        "sidestep.face_tables_pkey",
    }  # fmt: skip


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from nodes(part)


def read(plan: dict[str, Any]) -> int:
    """How many rows a plan has looked at."""
    scans = [n for n in nodes(plan) if "Relation Name" in n]
    return sum(
        int((n["Actual Rows"] + n.get("Rows Removed by Filter", 0)) * n["Actual Loops"]) for n in scans
    )


async def explained(world: World, query: str, *arguments: object) -> dict[str, Any]:
    """The plan as it was executed."""
    async with world.db.transaction() as connection:
        [plan] = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", *arguments)
    found: dict[str, Any] = plan["Plan"]
    return found


async def body(world: World, function: str, *types: str) -> str:
    """The query within an SQL function, with its arguments as $1, $2, …"""
    row = await world.db.fetchrow("SELECT prosrc, proargnames FROM pg_proc WHERE proname = $1", function)
    assert row is not None
    query: str = row["prosrc"]
    for number, (name, kind) in enumerate(zip(row["proargnames"], types, strict=False), start=1):
        query = query.replace(name, f"${number}::{kind}")
    return query


async def the_hot_queries(world: World) -> dict[str, tuple[str, tuple[object, ...], int]]:
    """Each with its arguments, and how many rows it may look at."""
    tenant_id, account_id = world.tenant.tenant_id, world.account.account_id
    newest = await world.db.fetchval("SELECT max(id) FROM sidestep.messages WHERE chat_id = $1", BIG_CHAT)
    return {
        "history": (messages.HISTORY, (tenant_id, BIG_CHAT, 30), 200),
        "undecided": (messages.UNDECIDED, (tenant_id, account_id, None), 200),
        "still open": (messages.STILL_OPEN, (tenant_id, BIG_CHAT, [newest]), 10),
        "due chats": (queued.CHATS, (tenant_id, account_id, NOW), 10),
        "next due": (queued.NEXT, (tenant_id, account_id, [await world.meet()]), 20),
        "next due where nothing is": (queued.NEXT, (tenant_id, account_id, [BIG_CHAT]), 20),
        "cancel": (
            await body(world, "cancel_queued", "bigint", "bigint", "text"),
            (tenant_id, BIG_CHAT, "paused"),
            10,
        ),
        "a chat": (sessions.CHATS, (tenant_id, [BIG_CHAT]), 10),
        "paused chats": (sessions.PAUSED_CHATS, (tenant_id, 20), CHATS + 200),
        "resume due": (
            await body(world, "resume_due", "bigint", "timestamptz", "int"),
            (tenant_id, NOW + AFTER, 5),
            300,
        ),
        "due media": (media.TAKE_DUE, (tenant_id, account_id, NOW, [AFTER]), 10),
        "next medium": (media.NEXT_DUE_AT, (tenant_id, account_id), 10),
        "unused files": (blobs.UNUSED, (tenant_id, b""), 10),
        "why": (decisions.EXPLAIN, (tenant_id, f"E{newest}", newest), 100),
        **await the_reads(world, newest),
    }


async def the_reads(world: World, newest: int) -> dict[str, tuple[str, tuple[object, ...], int]]:
    """What lists, galleries and searches ask."""
    tenant_id, old = world.tenant.tenant_id, newest - (20_000 << 20)
    chat, thread = (
        (tenant_id, BIG_CHAT),
        await world.db.fetchval("SELECT min(thread_id) FROM sidestep.threads"),
    )
    contact = await world.db.fetchval("SELECT contact_id FROM sidestep.contacts LIMIT 1")
    return {
        "conversation": (message_reads.HISTORY, (*chat, newest, None, None, 100, False), 600),
        "conversation, deep": (message_reads.HISTORY, (*chat, old, None, None, 100, False), 600),
        "thread": (message_reads.THREAD, (tenant_id, thread, 0, 50), 500),
        "recent activity": (message_reads.RECENT, (tenant_id, newest, 50), 500),
        "gallery": (message_reads.MEDIA, (*chat, newest, 20), 500),
        "failed": (message_reads.FAILED, (tenant_id, None, newest, 20), 500),
        "failed in a chat": (message_reads.FAILED, (*chat, newest, 20), 500),
        "a user's": (message_reads.BY_CONTACT, (tenant_id, contact, newest + (1 << 40), 20), CHATS + 500),
        "replies": (message_reads.REPLIES, (tenant_id, newest, 0, 20), 1500),
        "exists": (message_reads.EXISTS, (*chat, f"E{newest}"), 10),
        "chat list": (chat_reads.CHAT_LIST, (tenant_id, newest, None, 50), CHATS + 800),
        "paused and due": (chat_reads.PAUSED_AND_DUE, (tenant_id, None, 50), CHATS + 200),
        "failed by day": (stats_reads.FAILED, (tenant_id, None, None, None), 500),
    }


NAMES = [
    "history", "undecided", "still open", "due chats", "next due", "next due where nothing is", "cancel",
    "a chat", "paused chats", "resume due", "why", "conversation", "conversation, deep", "thread", "recent activity",
    "gallery", "failed", "failed in a chat", "a user's", "replies", "exists", "chat list", "paused and due",
    "failed by day", "due media",
    "next medium", "unused files",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
async def test_what_is_asked_for_all_day_looks_at_few_rows(full: World, name: str) -> None:
    queries = await the_hot_queries(full)
    assert set(queries) == set(NAMES)
    query, arguments, most = queries[name]
    plan = await explained(full, query, *arguments)
    scanned = {n["Relation Name"] for n in nodes(plan) if n["Node Type"] == "Seq Scan"}
    assert not scanned & {
        "media",
        "messages_202603",
        "decisions_202603",
        "outbox",
        "message_keys",
        "chat_state",
    }
    assert read(plan) <= most


async def test_what_is_undecided_is_found_by_a_plan_that_was_made_while_the_store_was_empty(
    db: Database,
) -> None:
    world = await World.open(db)
    tenant_id, account_id = world.tenant.tenant_id, world.account.account_id
    await world.messages.ensure_months(NOW)
    async with db.acquire() as connection:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        await connection.execute(f"PREPARE undecided AS {messages.UNDECIDED}")
        execute = f"EXECUTE undecided ({tenant_id}, {account_id}, NULL)"
        assert await connection.fetch(execute) == []
        await connection.execute(SEED, tenant_id, account_id, NOW, 50)
        await connection.execute(SEED_MESSAGES, tenant_id, NOW, 2_000, 50, BIG_CHAT)
        await connection.execute(SEED_DECISIONS, tenant_id)
        await connection.execute(
            "UPDATE sidestep.decisions SET action_taken = NULL WHERE message_id % 100 = 1"
        )
        [plan] = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {execute}")
    assert read(plan["Plan"]) <= 200


async def test_history_of_a_long_chat_with_a_new_thread_looks_at_few_rows(full: World) -> None:
    async with full.db.transaction() as connection:
        await full.sessions.reset(connection, BIG_CHAT, NOW + timedelta(hours=1))  # type: ignore[arg-type]  # seeded
    await full.queue(BIG_CHAT, "a new beginning", now=NOW + timedelta(hours=1))  # type: ignore[arg-type]
    plan = await explained(full, messages.HISTORY, full.tenant.tenant_id, BIG_CHAT, 30)
    assert read(plan) <= 200


async def test_receipts_touch_no_index(db: Database) -> None:
    world = await World.open(db)
    await world.record(said("M1"))
    chat_id = await world.meet()
    store = OutboxStore(db, world.account, world.lease)
    for n in range(100):
        await world.queue(chat_id)
        due = await world.due(chat_id)
        await store.claim(due, NOW, LONG_AGO)
        await store.mark_sent(due, ExternalId(f"3EB{n}"), NOW, overlapped=False)
    before = await updates(db, "outbox")
    for n in range(100):
        await store.receive(receipt(f"3EB{n}", Status.DELIVERED), NOW)
        await store.receive(receipt(f"3EB{n}", Status.READ), NOW)
    updated, hot = (b - a for a, b in zip(before, await updates(db, "outbox"), strict=True))
    assert updated == 200
    assert hot >= 0.9 * updated


async def test_recording_touches_no_index_of_the_hot_row(db: Database) -> None:
    world = await World.open(db)
    await world.record(said("M0"))
    before = await updates(db, "chat_state")
    for n in range(1, 101):
        await world.record(said(f"M{n}", by=ANA))
    updated, hot = (b - a for a, b in zip(before, await updates(db, "chat_state"), strict=True))
    assert updated >= 100
    assert hot >= 0.98 * updated


async def updates(db: Database, table: str) -> tuple[int, int]:
    """How many rows of a table were updated so far, and how many of them without touching an index."""
    async with db.acquire() as connection:
        # What other connections have done is counted when they report it.
        await connection.execute("SELECT pg_stat_force_next_flush()")
        await connection.execute("SELECT pg_stat_clear_snapshot()")
        row = await connection.fetchrow(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE schemaname = 'sidestep' AND relname = $1",
            table,
        )
    assert row is not None
    return row["n_tup_upd"], row["n_tup_hot_upd"]


@pytest.mark.parametrize(
    ("words", "chat", "most"), [("rare", None, 20), ("rare", BIG_CHAT, 20), ("word8", BIG_CHAT, 900)]
)
async def test_search_looks_only_at_what_has_the_words(
    full: World, words: str, chat: int | None, most: int
) -> None:
    """By what its months' plans have read: the function itself shows in no plan."""
    before = await fetched(full.db)
    asked = "SELECT * FROM sidestep.search($1, $2, $3, '{}', 0, $4, 50, 0)"
    await full.db.fetch(asked, full.tenant.tenant_id, chat, words, 2**62)
    after = await fetched(full.db)
    assert after["messages_202603_pkey"] == before["messages_202603_pkey"]
    assert 0 < after["words"] - before["words"] <= most


async def test_a_common_word_is_found_among_the_newest_messages(full: World) -> None:
    before = await fetched(full.db)
    asked = "SELECT * FROM sidestep.search($1, NULL, 'word8', '{}', 0, $2, 5, 1000)"
    assert len(await full.db.fetch(asked, full.tenant.tenant_id, 2**62)) == 5
    assert (await fetched(full.db))["words"] == before["words"]


async def fetched(db: Database) -> dict[str, int]:
    """How many entries of each index of the month have been read; `words` is that of search."""
    async with db.acquire() as connection:
        await connection.execute("SELECT pg_stat_force_next_flush()")
        await connection.execute("SELECT pg_stat_clear_snapshot()")
        rows = await connection.fetch(
            "SELECT indexrelname, idx_tup_read FROM pg_stat_user_indexes WHERE relname = 'messages_202603'"
        )
    return {
        ("words" if "search_vector" in r["indexrelname"] else r["indexrelname"]): r["idx_tup_read"]
        for r in rows
    }
