"""The face of the Whaply document: what it prints runs unchanged after one SET, and means what the document says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from storage.database import Connection, Database
from storage.faces import show_public
from storage.models import Action, Decision, PauseReason
from tests.integration.face_world import (
    columns,
    crowd,
    defaults,
    documented,
    face,
    first_tenant,
    plan,
    quoted,
    refused,
)
from tests.integration.store_world import ANA, BEN, World, said, typed

PRINTED = quoted("whaply")

COLUMNS = documented(
    """
tenants.id SERIAL
tenants.instance_name VARCHAR(255)
tenants.evo_server_url VARCHAR(500)
tenants.evo_api_key VARCHAR(500)
tenants.system_prompt TEXT
tenants.llm_provider VARCHAR(50)
tenants.created_at TIMESTAMPTZ
tenants.updated_at TIMESTAMPTZ
sessions.id SERIAL
sessions.tenant_id INTEGER
sessions.chat_id VARCHAR(255)
sessions.is_paused BOOLEAN
sessions.pause_reason VARCHAR(100)
sessions.last_message_at TIMESTAMPTZ
sessions.last_human_at TIMESTAMPTZ
sessions.created_at TIMESTAMPTZ
sessions.updated_at TIMESTAMPTZ
messages.id SERIAL
messages.tenant_id INTEGER
messages.chat_id VARCHAR(255)
messages.message_id VARCHAR(255)
messages.from_me BOOLEAN
messages.message_type VARCHAR(50)
messages.text TEXT
messages.raw JSONB
messages.created_at TIMESTAMPTZ
processed_events.id SERIAL
processed_events.tenant_id INTEGER
processed_events.message_id VARCHAR(255)
processed_events.event_type VARCHAR(100)
processed_events.action_taken VARCHAR(100)
processed_events.processed_at TIMESTAMPTZ
"""
)
# A message has an id of ours, in which its time is; an event one that is made from it.
WIDER = {"messages.id": "bigint", "processed_events.id": "bigint"}

INSERT_MESSAGE = (
    "INSERT INTO messages (tenant_id, chat_id, message_id, from_me, text) VALUES ($1, $2, $3, $4, $5)"
)
INSERT_OLD = "INSERT INTO messages (tenant_id, chat_id, message_id, created_at) VALUES ($1, $2, $3, now() - $4::interval)"


@pytest.fixture
async def world(rollback_db: Database) -> World:
    """A customer who was answered, another whose chat was taken over three hours ago; all of it just now."""
    await first_tenant(rollback_db)
    world = await World.open(rollback_db)
    now = datetime.now(UTC)
    [asked] = await world.record(said("M1", "how much?", at=now, raw='{"key": {"id": "M1"}}'), now=now)
    closed = [Decision(message_id=asked.message.id, action=Action.AI_REPLIED)]
    await world.outbox.dismiss(asked.message.chat_id, closed, now)
    await world.queue(asked.message.chat_id, now=now)
    await world.record(said("M2", by=BEN, at=now), now=now)
    await world.record(typed("H1", to=BEN, at=now), now=now)
    await rollback_db.execute(
        "UPDATE sidestep.chat_state SET last_human_at = now() - interval '3 hours' WHERE is_paused",
    )
    return world


@pytest.fixture
async def whaply(world: World) -> AsyncIterator[Connection]:
    async with face(world.db, "whaply") as connection:
        yield connection


async def test_names_types_and_order_of_the_columns_are_the_document_s(world: World) -> None:
    found = await columns(world.db, "whaply")
    assert found == COLUMNS | WIDER
    assert list(found) == list(COLUMNS)


async def test_the_defaults_are_those_in_the_documentation(world: World) -> None:
    assert await defaults(world.db, "whaply") == {
        "sessions.is_paused": "false",
        "messages.from_me": "false",
        "messages.message_type": "'conversation'::character varying",
        "messages.created_at": "now()",
        "processed_events.processed_at": "now()",
    }


@pytest.mark.parametrize("name", [n for n in PRINTED if n not in ("make_archive", "move_to_archive")])
async def test_what_is_printed_runs_unchanged(whaply: Connection, name: str) -> None:
    await whaply.fetch(PRINTED[name])


async def test_the_test_tenant_is_inserted_and_returned_whole(whaply: Connection) -> None:
    [row] = await whaply.fetch(PRINTED["insert_tenant"])
    assert (row["instance_name"], row["llm_provider"]) == ("demo-instance", "anthropic")
    assert row["evo_server_url"] == "https://your-evolution-api.com"
    assert row["created_at"] == row["updated_at"] is not None
    assert await whaply.fetchrow("SELECT * FROM tenants WHERE id = $1", row["id"]) == row
    async with refused(whaply, asyncpg.UniqueViolationError):
        await whaply.fetch(PRINTED["insert_tenant"])


async def test_each_decision_is_an_event_and_none_comes_twice(whaply: Connection) -> None:
    assert await whaply.fetch(PRINTED["duplicate_events"]) == []
    activity = [tuple(r)[1:] for r in await whaply.fetch(PRINTED["recent_activity"])]
    assert set(activity) == {
        ("shop", "M1", "messages.upsert", "ai_replied"),
        ("shop", "H1", "messages.upsert", "paused"),
    }


async def test_paused_sessions_are_found_and_resumed_once(whaply: Connection, world: World) -> None:
    [ready] = await whaply.fetch(PRINTED["ready_for_resume"])
    assert (ready["instance_name"], ready["chat_id"]) == ("shop", BEN.jid)
    assert ready["idle_duration"] > timedelta(hours=2, minutes=59)
    epoch = (await world.session(await world.meet(BEN))).epoch
    assert await whaply.fetchval(PRINTED["resume_6"]) == 0
    assert await whaply.fetchval(PRINTED["resume_2"]) == 1
    assert await whaply.fetchval(PRINTED["resume_2"]) == 0
    session = await world.session(await world.meet(BEN))
    assert (session.is_paused, session.epoch) == (False, epoch + 1)
    assert "resumed" in {r["action_taken"] for r in await whaply.fetch(PRINTED["recent_activity"])}


async def test_pauses_by_hand_and_for_a_time_are_left_alone(whaply: Connection, world: World) -> None:
    now = datetime.now(UTC)
    await world.pause(await world.meet(ANA), now=now - timedelta(days=9))
    await world.pause(
        await world.meet(BEN),
        now=now - timedelta(days=9),
        until=now + timedelta(days=9),
    )
    assert await whaply.fetchval(PRINTED["resume_2"]) == 0


async def test_statistics_count_the_last_day(whaply: Connection) -> None:
    await whaply.execute(INSERT_OLD, 1, ANA.jid, "OLD", timedelta(days=2))
    assert [tuple(r) for r in await whaply.fetch(PRINTED["statistics"])] == [("shop", 2, 2, 4)]


async def test_cleaning_the_ledger_leaves_every_message_decided(whaply: Connection, world: World) -> None:
    await world.db.execute(
        "UPDATE sidestep.decisions SET decided_at = now() - interval '8 days' WHERE action_taken = 'paused'"
    )
    await whaply.execute(
        "INSERT INTO processed_events (tenant_id, message_id, event_type, processed_at)"
        " VALUES (1, 'X1', 'messages.upsert', now() - interval '9 days'), (1, 'X2', 'messages.update', now())"
    )
    decided = await world.db.fetch("SELECT message_id, action_taken FROM sidestep.decisions ORDER BY 1")
    assert await whaply.fetchval(PRINTED["cleanup_30"]) == 0
    assert await whaply.fetchval(PRINTED["cleanup_7"]) == 2
    assert {r["message_id"] for r in await whaply.fetch("SELECT message_id FROM processed_events")} == {
        "M1",
        "X2",
    }
    assert (
        await world.db.fetch("SELECT message_id, action_taken FROM sidestep.decisions ORDER BY 1") == decided
    )


async def test_deleting_from_the_ledger_is_cleaning_it(whaply: Connection, world: World) -> None:
    await world.db.execute(
        "UPDATE sidestep.decisions SET decided_at = now() - interval '8 days' WHERE action_taken = 'paused'"
    )
    decided = await world.db.fetch("SELECT message_id, action_taken FROM sidestep.decisions ORDER BY 1")
    assert await whaply.execute(PRINTED["delete_old_events"]) == "DELETE 1"
    assert {r["message_id"] for r in await whaply.fetch("SELECT message_id FROM processed_events")} == {"M1"}
    assert (
        await world.db.fetch("SELECT message_id, action_taken FROM sidestep.decisions ORDER BY 1") == decided
    )


async def test_old_messages_move_into_the_archive_table(whaply: Connection, world: World) -> None:
    for n in range(4):
        await whaply.execute(INSERT_OLD, 1, ANA.jid, f"OLD{n}", timedelta(days=40 * n))
    before = await whaply.fetch("SELECT * FROM messages ORDER BY id")
    await whaply.execute(PRINTED["make_archive"])
    await whaply.execute(PRINTED["move_to_archive"])
    moved = await whaply.fetch("SELECT * FROM messages_archive")
    assert {r["message_id"] for r in moved} == {"OLD3"}
    assert (
        sorted([*moved, *await whaply.fetch("SELECT * FROM messages")], key=lambda r: int(r["id"])) == before
    )
    assert (
        await world.db.fetchval(
            "SELECT count(*) FROM sidestep.decisions d WHERE message_id = $1", moved[0]["id"]
        )
        == 0
    )
    # What was here once is not taken for new.
    await whaply.execute(INSERT_OLD, 1, ANA.jid, "OLD3", timedelta())
    assert await whaply.fetchval("SELECT count(*) FROM messages WHERE message_id = 'OLD3'") == 0


async def test_the_slow_query_uses_the_core_s_partial_index(whaply: Connection) -> None:
    await crowd(whaply)
    assert "chat_state_paused" in await plan(whaply, PRINTED["slow_query"].removeprefix("EXPLAIN ANALYZE"))


async def test_a_message_is_recorded_once_and_wakes_nobody(whaply: Connection, world: World) -> None:
    for _ in range(2):
        await whaply.execute(INSERT_MESSAGE, 1, "5511900000001@s.whatsapp.net", "NEW", False, "hello?")
    # Also where another chat is named: the document's key is the tenant and the message.
    await whaply.execute(INSERT_MESSAGE, 1, BEN.jid, "NEW", False, "hello?")
    [row] = await whaply.fetch("SELECT * FROM messages WHERE message_id = 'NEW'")
    assert (row["chat_id"], row["from_me"], row["message_type"]) == (
        "5511900000001@s.whatsapp.net",
        False,
        "conversation",
    )
    assert (
        await world.db.fetchval("SELECT count(*) FROM sidestep.decisions WHERE action_taken IS NULL") == 1
    )  # M2's
    assert await world.db.fetchval("SELECT count(*) FROM sidestep.outbox") == 1
    assert await world.action(row["id"]) is Action.IMPORTED


async def test_what_the_bot_has_recorded_is_not_recorded_again(whaply: Connection, world: World) -> None:
    count = await world.count("messages")
    assert await whaply.execute(INSERT_MESSAGE, 1, ANA.jid, "M1", False, "how much?") == "INSERT 0 0"
    assert await world.count("messages") == count


async def test_what_comes_live_after_it_was_written_is_heard(whaply: Connection, world: World) -> None:
    await whaply.execute(INSERT_MESSAGE, 1, ANA.jid, "M9", False, "are you there?")
    [heard] = await world.record(said("M9", "are you there?", at=datetime.now(UTC)), now=datetime.now(UTC))
    assert (heard.is_new, heard.action) == (True, None)


async def test_a_message_of_the_past_gets_its_month_and_its_time(whaply: Connection) -> None:
    await whaply.execute(INSERT_OLD, 1, ANA.jid, "OLD", timedelta(days=4000))
    age = await whaply.fetchval("SELECT now() - created_at FROM messages WHERE message_id = 'OLD'")
    assert abs(age - timedelta(days=4000)) < timedelta(minutes=5)


async def test_later_messages_come_after_what_was_written(whaply: Connection, world: World) -> None:
    await whaply.execute(INSERT_MESSAGE, 1, ANA.jid, "N1", True, "by SQL")
    [after] = await world.record(said("N2", at=datetime.now(UTC)), now=datetime.now(UTC))
    written = await whaply.fetchval("SELECT id FROM messages WHERE message_id = 'N1'")
    assert after.message.id > written
    assert after.message.thread_id == await world.db.fetchval(
        "SELECT thread_id FROM sidestep.messages WHERE id = $1", written
    )


async def test_an_own_line_written_by_sql_is_a_human_s_and_no_takeover(
    whaply: Connection, world: World
) -> None:
    epoch = (await world.session(await world.meet())).epoch
    await whaply.execute(INSERT_MESSAGE, 1, ANA.jid, "N1", True, "I wrote this")
    session = await world.session(await world.meet())
    assert (session.is_paused, session.epoch) == (False, epoch)
    assert await world.db.fetchval("SELECT author FROM sidestep.messages WHERE external_id = 'N1'") == "human"


async def test_a_group_s_sender_is_told_by_the_raw_event(whaply: Connection, world: World) -> None:
    await whaply.execute(
        "INSERT INTO messages (tenant_id, chat_id, message_id, text, raw) VALUES (1, '120363@g.us', 'G1', 'hi', $1)",
        {"key": {"id": "G1", "participant": ANA.jid}},
    )
    row = await world.db.fetchrow(
        "SELECT is_group, sender_id FROM sidestep.messages WHERE external_id = 'G1'"
    )
    assert row is not None
    assert row["is_group"]
    assert row["sender_id"] == await world.db.fetchval(
        "SELECT contact_id FROM sidestep.contacts WHERE jid = $1", ANA.jid
    )


@pytest.mark.parametrize(
    ("statement", "column"),
    [
        ("INSERT INTO tenants (evo_server_url) VALUES ('x')", "instance_name"),
        ("INSERT INTO sessions (tenant_id) VALUES (1)", "chat_id"),
        ("INSERT INTO messages (tenant_id, chat_id) VALUES (1, 'x')", "message_id"),
        ("INSERT INTO messages (tenant_id, message_id) VALUES (1, 'x')", "chat_id"),
        ("INSERT INTO processed_events (tenant_id, message_id) VALUES (1, 'x')", "event_type"),
        ("UPDATE tenants SET instance_name = NULL", "instance_name"),
        ("UPDATE sessions SET is_paused = NULL", "is_paused"),
    ],
)
async def test_what_must_be_said_is_asked_for(whaply: Connection, statement: str, column: str) -> None:
    async with refused(whaply, asyncpg.NotNullViolationError, match=f'"{column}"'):
        await whaply.execute(statement)


@pytest.mark.parametrize("table", ["sessions", "messages", "processed_events"])
async def test_a_tenant_that_there_is_not_violates_the_foreign_key(whaply: Connection, table: str) -> None:
    values = {
        "sessions": "chat_id",
        "messages": "chat_id, message_id",
        "processed_events": "message_id, event_type",
    }[table]
    said_by_hand = ", ".join("'x'" for _ in values.split(","))
    async with refused(whaply, asyncpg.ForeignKeyViolationError, match="tenants"):
        await whaply.execute(f"INSERT INTO {table} (tenant_id, {values}) VALUES (99, {said_by_hand})")


async def test_the_other_unique_keys_are_kept(whaply: Connection) -> None:
    event = (
        "INSERT INTO processed_events (tenant_id, message_id, event_type) VALUES (1, $1, 'messages.upsert')"
    )
    await whaply.execute(event, "X1")
    for known in ("X1", "M1"):
        async with refused(whaply, asyncpg.UniqueViolationError):
            await whaply.execute(event, known)
    for known in (ANA.jid, BEN.jid):
        async with refused(whaply, asyncpg.UniqueViolationError):
            await whaply.execute("INSERT INTO sessions (tenant_id, chat_id) VALUES (1, $1)", known)


async def test_a_message_that_was_written_can_be_marked_as_processed(whaply: Connection) -> None:
    await whaply.execute(INSERT_MESSAGE, 1, ANA.jid, "N1", False, "hi")
    await whaply.execute(
        "INSERT INTO processed_events (tenant_id, message_id, event_type, action_taken) VALUES (1, 'N1', 'messages.upsert', 'ai_replied')"
    )
    assert await whaply.fetchval("SELECT count(*) FROM processed_events WHERE message_id = 'N1'") == 1


async def test_a_session_that_is_inserted_paused_makes_the_chat_and_its_pause(
    whaply: Connection, world: World
) -> None:
    await whaply.execute(
        "INSERT INTO sessions (tenant_id, chat_id, is_paused, pause_reason) VALUES (1, '551190@s.whatsapp.net', true, 'vip')"
    )
    [row] = await whaply.fetch("SELECT * FROM sessions WHERE chat_id = '551190@s.whatsapp.net'")
    assert (row["is_paused"], row["pause_reason"]) == (True, "manual_pause")
    assert (await world.session(row["id"])).epoch == 1


async def test_a_pause_by_sql_raises_the_epoch_and_drops_what_is_queued(
    whaply: Connection, world: World
) -> None:
    chat_id = await world.meet()
    queued = await world.queue(chat_id, now=datetime.now(UTC))
    await whaply.execute(
        "UPDATE sessions SET is_paused = TRUE, pause_reason = 'human_takeover' WHERE chat_id = $1", ANA.jid
    )
    session = await world.session(chat_id)
    assert (session.is_paused, session.pause_reason, session.epoch) == (True, PauseReason.HUMAN_TAKEOVER, 1)
    assert session.last_human_at is not None
    assert (await world.status(queued)).value == "cancelled"
    await whaply.execute("UPDATE sessions SET is_paused = FALSE WHERE chat_id = $1", ANA.jid)
    session = await world.session(chat_id)
    assert (session.is_paused, session.pause_reason, session.epoch) == (False, None, 2)
    await whaply.execute("UPDATE sessions SET last_message_at = now() WHERE chat_id = $1", ANA.jid)
    assert (await world.session(chat_id)).epoch == 2


async def test_config_yaml_may_still_say_what_sql_has_not(whaply: Connection, world: World) -> None:
    await whaply.execute("INSERT INTO tenants (instance_name, system_prompt) VALUES ('bakery', 'Be kind.')")
    wanted = (await world.tenants.get(world.tenant.tenant_id)).__class__(
        tenant_id=world.tenant.tenant_id,
        instance_name="bakery",
        owner="+5511977770000",
        system_prompt="Be brief.",
        llm_provider="openai",
    )
    made, overruled = await world.tenants.seed(wanted, datetime.now(UTC))
    assert (made.owner, made.system_prompt, made.llm_provider) == ("+5511977770000", "Be kind.", "openai")
    assert overruled == ("system_prompt",)


async def test_sizes_are_those_of_the_core(whaply: Connection) -> None:
    shown = await whaply.fetchval("SELECT pg_total_relation_size('messages')")
    core = await whaply.fetchval(
        """
        SELECT sum(pg_catalog.pg_total_relation_size(relid)) FROM unnest(ARRAY['messages', 'message_payloads', 'message_keys']) t,
               LATERAL (SELECT relid FROM pg_partition_tree(('sidestep.' || t)::regclass)
                         UNION SELECT ('sidestep.' || t)::regclass) r
        """
    )
    assert shown == core > 0
    await whaply.execute("CREATE TABLE public.mine AS SELECT 1 AS a")
    [row] = await whaply.fetch(PRINTED["sizes"])
    assert (row["schemaname"], row["tablename"], row["size"]) == ("public", "mine", "8192 bytes")


async def test_in_the_schema_public_its_four_tables_are_found_and_work(world: World) -> None:
    assert await world.db.fetch(PRINTED["verify_tables"]) == []
    for _ in range(2):
        await show_public(world.db, "whaply")
    assert len(await world.db.fetch(PRINTED["verify_tables"])) == 4
    for name in PRINTED:
        if name not in ("sizes", "slow_query"):
            await world.db.fetch(PRINTED[name])
    await world.db.execute(INSERT_MESSAGE, 1, ANA.jid, "P1", False, "hi")
    assert await world.db.fetchval(
        "SELECT created_at IS NOT NULL FROM public.messages WHERE message_id = 'P1'"
    )
    assert await world.db.fetchval("SELECT pg_total_relation_size('messages')") > 0


@pytest.mark.parametrize(
    "pasted",
    [
        "CREATE TABLE tenants (id SERIAL PRIMARY KEY, instance_name VARCHAR(255))",
        "CREATE TABLE messages (id SERIAL PRIMARY KEY)",
        "CREATE INDEX idx_sessions_tenant_chat ON sessions (tenant_id, chat_id)",
        "CREATE OR REPLACE FUNCTION cleanup_old_processed_events(days_to_keep INTEGER) RETURNS VOID AS $$ BEGIN END $$ LANGUAGE plpgsql",
    ],
)
async def test_its_schema_sql_fails_loudly_where_the_face_is(whaply: Connection, pasted: str) -> None:
    async with refused(whaply, asyncpg.PostgresError):
        await whaply.execute(pasted)


CORE_INDEXES = {
    "idx_tenants_instance_name": "tenants_instance_name_key",
    "idx_sessions_tenant_chat": "chat_aliases_pkey",
    "idx_sessions_paused_last_human": "chat_state_paused",
    "idx_messages_tenant_msg": "message_keys_pkey",
    "idx_processed_events_tenant_msg": "noted_events_pkey",
}
LOOKUPS = {
    "idx_tenants_instance_name": "SELECT FROM sidestep.tenants WHERE instance_name = 'shop'",
    "idx_sessions_tenant_chat": "SELECT FROM sidestep.chat_aliases WHERE tenant_id = 1 AND account_id = 1 AND channel = 'whatsapp' AND jid = 'x'",
    "idx_sessions_paused_last_human": "SELECT * FROM sessions WHERE is_paused AND last_human_at < now()",
    "idx_messages_tenant_msg": "SELECT FROM sidestep.message_keys WHERE tenant_id = 1 AND external_id = 'x'",
    "idx_processed_events_tenant_msg": "SELECT FROM sidestep.noted_events WHERE tenant_id = 1 AND external_id = 'x'",
}


@pytest.mark.parametrize("name", CORE_INDEXES)
async def test_each_index_that_it_names_has_one_of_the_core(whaply: Connection, name: str) -> None:
    await crowd(whaply)
    assert CORE_INDEXES[name] in await plan(whaply, LOOKUPS[name])
