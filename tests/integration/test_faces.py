"""What all faces share: their words, whose rows they show, and that a role of one tenant meets a wall."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from storage.database import Database
from storage.errors import FaceRefused
from storage.faces import faces, printed, show_public
from storage.indexing import JSON_INDEXES
from storage.migrate import migrate, pending
from storage.models import Action, Author, Channel, Direction, MessageType, PauseReason, Status
from tests.conftest import connected, database_of, fresh_database, ordinary_user
from tests.integration.face_world import face, first_tenant, plan, refused
from tests.integration.store_world import BEN, SHOP, TEAM, World, of_type, receipt, said, typed

CORE_WORDS: dict[str, Sequence[str]] = {
    "direction": list(Direction),
    "type": list(MessageType),
    "status": list(Status),
    "reason": list(PauseReason),
    "action": list(Action),
    "event": ["message", "live", "repeat"],
    "channel": list(Channel),
    "author": list(Author),
    "thread": ["active", "archived"],
    "resume_mode": ["from_last", "from_now"],
    "context": ["group", "private"],
    "media_status": ["pending", "stored", "failed", "expired"],
}


# Words ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", faces())
async def test_what_a_face_says_it_also_hears(rollback_db: Database, name: str) -> None:
    for idea, words in CORE_WORDS.items():
        for word in words:
            told = await rollback_db.fetchval("SELECT sidestep.say($1, $2, $3)", name, idea, word)
            heard = await rollback_db.fetchval("SELECT sidestep.hear($1, $2, $3)", name, idea, told)
            # Where two of ours are one word there, what is heard is said as the same word again.
            assert await rollback_db.fetchval("SELECT sidestep.say($1, $2, $3)", name, idea, heard) == told


async def test_every_word_of_the_table_means_one_of_ours(rollback_db: Database) -> None:
    rows = await rollback_db.fetch(
        "SELECT face, idea, word, means, is_said, is_heard FROM sidestep.vocabulary"
    )
    assert {r["face"] for r in rows} <= set(faces())
    assert [tuple(r) for r in rows if r["means"] not in CORE_WORDS[r["idea"]]] == []
    for row in rows:
        if row["is_heard"]:
            assert await rollback_db.fetchval("SELECT sidestep.hear($1, $2, $3)", *row[:3]) == row["means"]
        if row["is_said"]:
            asked = (row["face"], row["idea"], row["means"])
            assert await rollback_db.fetchval("SELECT sidestep.say($1, $2, $3)", *asked) == row["word"]


async def test_the_indexes_that_the_documentation_names_are_there(rollback_db: Database) -> None:
    manual = (Path(__file__).parents[2] / "docs" / "faces.md").read_text(encoding="utf-8")
    tables = re.findall(r"\| its index \| the core's \|\n\|[-|]+\n((?:\|.*\n)+)", manual)
    named = {
        name
        for table in tables
        for row in table.splitlines()
        for name in re.findall(r"`(\w+)`", row.split("|")[2])
    }
    there = await rollback_db.fetch("SELECT indexname FROM pg_indexes WHERE schemaname = 'sidestep'")
    assert len(named) > 10
    # Those of the JSON are there where the configuration wants them.
    assert named - {index.name for index in JSON_INDEXES} <= {r["indexname"] for r in there}


# Whose rows ----------------------------------------------------------------------------------------------


async def two_tenants(db: Database) -> tuple[World, World]:
    """Two shops with as much behind them as a day brings."""
    await first_tenant(db)
    worlds = []
    now = datetime.now(UTC)
    for shop in ("shop", "bakery"):
        world = await World.open(
            db, SHOP.__class__(tenant_id=SHOP.tenant_id, instance_name=shop, owner="+5511999990000")
        )
        await world.record(
            said("M1", at=now, raw="{}"), said("M2", group=TEAM, at=now), typed("H1", to=BEN, at=now),
            said("E1", "hi", type=MessageType.EDIT, reply_to="M1", at=now), of_type(MessageType.REACTION, "R1", at=now),
            said("R2", "x", type=MessageType.REACTION, reply_to="M1", at=now),
            said("E2", "x", type=MessageType.EDIT, reply_to="nowhere", at=now), now=now,
        )  # fmt: skip
        await world.set_global_pause(True, now=now)
        await world.set_global_pause(False, now=now)  # else nothing stays queued
        await world.queue(await world.meet(), now=now)
        await world.outbox.receive(receipt("3EBEARLY", Status.DELIVERED, at=now), now)
        await world.messages.quarantine(world.account, said("Q1", at=now).event, "why", now)
        await db.execute(
            "INSERT INTO face_whaply.processed_events (tenant_id, message_id, event_type) VALUES ($1, 'X', 'messages.upsert')",
            world.tenant.tenant_id,
        )
        await db.execute(
            "INSERT INTO sidestep.people (tenant_id, name, phone, created_at, updated_at) VALUES ($1, 'Ana', $2, $3, $3)",
            world.tenant.tenant_id, "+5511988880001", now,
        )  # fmt: skip
        worlds.append(world)
    return worlds[0], worlds[1]


async def test_the_owner_sees_all_or_whom_the_setting_names(rollback_db: Database) -> None:
    await two_tenants(rollback_db)
    for tenant, expected in ((None, {1, 2}), ("bakery", {2}), ("1", {1}), ("", {1, 2})):
        async with face(rollback_db, "whaply", tenant) as connection:
            for view in ("sessions", "messages", "processed_events"):
                assert {r[0] for r in await connection.fetch(f"SELECT tenant_id FROM {view}")} == expected
            assert {r[0] for r in await connection.fetch("SELECT id FROM tenants")} == expected
    async with face(rollback_db, "whaply", "nobody") as connection:
        async with refused(connection, asyncpg.InvalidParameterValueError, "nobody"):
            await connection.fetch("SELECT FROM messages")
        await connection.execute("RESET sidestep.tenant")


async def test_a_setting_keeps_the_owner_from_writing_to_others(rollback_db: Database) -> None:
    await two_tenants(rollback_db)
    async with face(rollback_db, "whaply", "shop") as connection:
        async with refused(connection, asyncpg.ForeignKeyViolationError):
            await connection.execute(
                "INSERT INTO messages (tenant_id, chat_id, message_id) VALUES (2, 'x', 'y')"
            )
        assert (
            await connection.execute("UPDATE sessions SET is_paused = true WHERE tenant_id = 2") == "UPDATE 0"
        )
        await connection.execute("RESET sidestep.tenant")


# The wall ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
async def walled(postgres: str, template: str) -> AsyncIterator[tuple[Database, str, str]]:
    """A database with two tenants, and the URLs of it for a login role of the second and for one that nobody admitted."""
    async with fresh_database(postgres, template) as dsn:
        db = await Database.open(dsn)
        roles = [f"{database_of(dsn)}_{n}" for n in ("bakery", "nobody")]
        try:
            await two_tenants(db)
            for role in roles:
                await db.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
            await db.execute("SELECT sidestep.admit($1, 'bakery')", roles[0])
            await db.execute(f"GRANT USAGE ON SCHEMA sidestep TO {roles[1]}")
            await db.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA sidestep TO {roles[1]}")
            yield db, with_role(dsn, roles[0]), with_role(dsn, roles[1])
        finally:
            for role in roles:
                await db.execute(f"DROP OWNED BY {role}")
                await db.execute(f"DROP ROLE IF EXISTS {role}")
            await db.close()


def with_role(dsn: str, role: str) -> str:
    """The same database, logged in as another."""
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=f"{role}:secret@{parts.netloc.rpartition('@')[2]}"))


async def tables(db: Database) -> list[str]:
    """The core's tables with tenants."""
    rows = await db.fetch(
        """
        SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
         WHERE c.relnamespace = 'sidestep'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        """
    )
    return [r["relname"] for r in rows]


async def views(db: Database, schema: str = "face\\_%") -> list[str]:
    rows = await db.fetch(
        "SELECT schemaname || '.' || viewname FROM pg_views WHERE schemaname LIKE $1", schema
    )
    return [r[0] for r in rows]


async def test_every_table_with_tenants_has_the_wall_and_nothing_else(
    walled: tuple[Database, str, str],
) -> None:
    db, _, _ = walled
    rows = await db.fetch(
        """
        SELECT c.relname, c.relrowsecurity, p.polcmd::text AS command, p.polroles,
               pg_get_expr(p.polqual, p.polrelid) AS sees, pg_get_expr(p.polwithcheck, p.polrelid) AS writes
          FROM pg_class c LEFT JOIN pg_policy p ON p.polrelid = c.oid AND p.polpermissive
         WHERE c.relnamespace = 'sidestep'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        """
    )
    by_name = {r["relname"]: r for r in rows}
    assert len(by_name) == len(rows)  # one permissive policy each, or none
    for name in set(await tables(db)) - {"tenant_roles"}:
        row = by_name[name]
        assert row["relrowsecurity"], name
        assert (row["command"], row["polroles"], row["writes"]) == ("*", [0], None)
        assert "role_tenant()" in row["sees"]
        assert row["sees"].startswith("(tenant_id = "), name


async def test_a_tenant_s_role_sees_its_own_rows_in_every_table(walled: tuple[Database, str, str]) -> None:
    db, bakery, _ = walled
    seen = set()
    async with connected(bakery) as connection:
        for table in await tables(db):
            columns = "tenant_id" if table == "accounts" else "*"
            rows = await connection.fetch(f"SELECT {columns} FROM sidestep.{table}")
            assert {r["tenant_id"] for r in rows} <= {2}, table
            expected = await db.fetchval(f"SELECT count(*) FROM sidestep.{table} WHERE tenant_id = 2")
            assert len(rows) == expected, table
            if await db.fetchval(f"SELECT count(*) FROM sidestep.{table} WHERE tenant_id = 1"):
                seen.add(table)
    assert seen >= {
        "accounts", "contacts", "chats", "chat_aliases", "threads", "chat_state", "processing_state", "messages",
        "message_versions", "reactions", "message_payloads", "message_keys", "early_changes", "quarantine", "decisions",
        "outbox", "early_receipts", "noted_events", "tenants", "people",
    }  # fmt: skip


async def test_a_tenant_s_role_sees_its_own_rows_through_every_face(
    walled: tuple[Database, str, str],
) -> None:
    db, bakery, _ = walled
    async with connected(bakery) as connection:
        # Whatever the setting says: the role's tenant is the one.
        await connection.execute("SET sidestep.tenant TO 'shop'")
        for view in await views(db):
            rows = await connection.fetch(f"SELECT * FROM {view}")
            async with db.acquire() as owner:
                await owner.execute("SET sidestep.tenant TO 'bakery'")
                assert len(rows) == await owner.fetchval(f"SELECT count(*) FROM {view}"), view
            assert {r["tenant_id"] for r in rows if "tenant_id" in r} <= {2}, view
        for view in await views(db, "sidestep"):
            rows = await connection.fetch(f"SELECT * FROM {view}")
            assert {r["tenant_id"] for r in rows} <= {2}, view


async def test_every_view_asks_with_its_reader_s_rights(walled: tuple[Database, str, str]) -> None:
    db, _, _ = walled
    rows = await db.fetch(
        """
        SELECT oid::regclass::text FROM pg_class WHERE relkind = 'v'
           AND (relnamespace = 'sidestep'::regnamespace OR relnamespace::regnamespace::text LIKE 'face\\_%')
           AND NOT coalesce(reloptions @> ARRAY['security_invoker=true'], false)
        """
    )
    assert [r[0] for r in rows] == []


async def test_a_role_that_nobody_admitted_sees_no_row(walled: tuple[Database, str, str]) -> None:
    db, _, nobody = walled
    async with connected(nobody) as connection:
        for table in await tables(db):
            assert await connection.fetchval(f"SELECT count(*) FROM sidestep.{table}") == 0, table


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("INSERT INTO sidestep.chat_aliases VALUES (1, 1, 'whatsapp', 'x', 1)", "row-level security"),
        ("INSERT INTO sidestep.messages SELECT 1, chat_id, id + 1, thread_id, direction, author, type FROM sidestep.messages", "row-level security"),
        ("INSERT INTO face_whaply.messages (tenant_id, chat_id, message_id) VALUES (1, 'x', 'y')", "foreign key"),
        ("INSERT INTO face_whaply.sessions (tenant_id, chat_id) VALUES (1, 'x')", "foreign key"),
        ("SELECT sidestep.meet_chat(1, 'whatsapp', 'x', false, NULL)", "row-level security|null value"),
        ("UPDATE sidestep.outbox SET tenant_id = 1", "row-level security"),
        ("UPDATE sidestep.outbox SET due_at = now()", "row-level security"),
        ("UPDATE sidestep.outbox SET error = 'x'", "row-level security"),  # it would stay queued
        ("INSERT INTO sidestep.outbox (tenant_id, chat_id, id, account_id, queued_at) SELECT tenant_id, chat_id, 1, 2, now() FROM sidestep.chats", "permission denied"),
        ("SELECT sidestep.enqueue(2, chat_id, now(), NULL, false, '{}', 'text', 'x', NULL, NULL) FROM sidestep.chats", "permission denied"),
        ("INSERT INTO sidestep.decisions (tenant_id, chat_id, message_id) SELECT tenant_id, chat_id, id FROM sidestep.messages", "row-level security"),
        ("UPDATE sidestep.decisions SET action_taken = NULL", "row-level security"),
        ("SELECT departure FROM sidestep.accounts", "permission denied"),
        ("SELECT sidestep.session_device('x')", "permission denied"),
        ("SELECT * FROM sidestep.schema_migrations", "permission denied"),
        ("INSERT INTO sidestep.tenant_roles VALUES (1, current_user)", "permission denied"),
        ("SELECT sidestep.admit(current_user, 'shop')", "no tenant|permission denied"),
        ("ALTER TABLE sidestep.messages DISABLE ROW LEVEL SECURITY", "must be owner"),
        ("SET row_security TO off; SELECT * FROM sidestep.messages", "row-level security"),
        ("CREATE TABLE face_whaply.mine (a int)", "permission denied"),
        ("INSERT INTO face_whaply.tenants (instance_name) VALUES ('third')", "permission denied"),
    ],
)  # fmt: skip
async def test_the_wall_holds(walled: tuple[Database, str, str], statement: str, error: str) -> None:
    _, bakery, _ = walled
    async with connected(bakery) as connection:
        with pytest.raises(asyncpg.PostgresError, match=error):
            await connection.execute(statement)


async def test_what_is_changed_or_deleted_is_one_s_own(walled: tuple[Database, str, str]) -> None:
    db, bakery, _ = walled
    others = await db.fetch("SELECT * FROM sidestep.messages WHERE tenant_id = 1 ORDER BY id")
    states = await db.fetch("SELECT * FROM sidestep.chat_state WHERE tenant_id = 1 ORDER BY chat_id")
    async with connected(bakery) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("UPDATE sidestep.chat_state SET epoch = epoch + 1")
        await connection.execute("UPDATE face_whaply.sessions SET is_paused = NOT is_paused")
        await connection.execute(
            "SELECT sidestep.pause(1, chat_id, 'manual_pause', now(), NULL) FROM generate_series(1, 9) chat_id"
        )
        await connection.execute("SELECT face_whaply.auto_resume_paused_sessions(0)")
        await connection.execute("SELECT face_whaply.cleanup_old_processed_events(-1)")
        assert await connection.execute("DELETE FROM face_whaply.messages") != "DELETE 0"
        assert await connection.fetchval("SELECT count(*) FROM face_whaply.messages") == 0
        await connection.execute("DELETE FROM sidestep.messages")
        await transaction.commit()
    assert await db.fetch("SELECT * FROM sidestep.messages WHERE tenant_id = 1 ORDER BY id") == others
    assert await db.fetch("SELECT * FROM sidestep.chat_state WHERE tenant_id = 1 ORDER BY chat_id") == states
    assert await db.fetchval("SELECT count(*) FROM sidestep.noted_events WHERE tenant_id = 1") == 1


async def test_a_tenant_s_role_writes_as_the_owner_does_also_into_a_month_that_is_not_there(
    walled: tuple[Database, str, str],
) -> None:
    db, bakery, _ = walled
    async with connected(bakery) as connection:
        await connection.execute(
            "INSERT INTO face_whaply.messages (tenant_id, chat_id, message_id, created_at)"
            " VALUES (2, '551100@s.whatsapp.net', 'OLD', '2011-05-01')"
        )
        assert (
            await connection.fetchval("SELECT count(*) FROM face_whaply.messages WHERE message_id = 'OLD'")
            == 1
        )
        await connection.execute("UPDATE face_whaply.tenants SET system_prompt = 'mine'")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("SELECT * FROM sidestep.messages_201105")
    assert [
        r[0] for r in await db.fetch("SELECT system_prompt FROM sidestep.tenants ORDER BY tenant_id")
    ] == ["", "mine"]


async def test_a_tenant_s_role_upserts_conversations_and_people(walled: tuple[Database, str, str]) -> None:
    db, bakery, _ = walled
    async with connected(bakery) as connection:
        await connection.execute(
            """
            INSERT INTO face_crm.people (name, phone) VALUES ('Carla', '+55 11 98888-0003');
            INSERT INTO face_crm.chat_conversations (external_conversation_id, platform, participant_identifier, messages)
            VALUES ('thread-1', 'whatsapp', '5511988880003', '[{"id": "C1", "direction": "inbound", "content": "hi"}]');
            """
        )
        found = await connection.fetchrow(
            "SELECT c.last_message_preview, p.name FROM face_crm.chat_conversations c JOIN face_crm.people p ON p.id = c.person_id"
            " WHERE external_conversation_id = 'thread-1'"
        )
        assert found is not None
        assert tuple(found) == ("hi", "Carla")
    assert await db.fetchval("SELECT count(*) FROM sidestep.people WHERE tenant_id = 1") == 1


async def test_a_search_finds_one_s_own_words_alone(walled: tuple[Database, str, str]) -> None:
    db, bakery, nobody = walled
    for tenant in (1, 2):
        await db.execute(
            "INSERT INTO face_whaply.messages (tenant_id, chat_id, message_id, text) VALUES ($1, '551133@s.whatsapp.net', 'WORD', 'marzipan')",
            tenant,
        )
    find = "SELECT count(*) FROM sidestep.find_messages('marzipan')"
    async with connected(bakery) as connection:
        await connection.execute("SET sidestep.tenant TO 'shop'")
        assert await connection.fetchval(find) == 1
        own = await connection.fetchval("SELECT id FROM sidestep.messages WHERE external_id = 'WORD'")
        assert await connection.fetchval("SELECT id FROM sidestep.find_messages('marzipan')") == own
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch(
                "SELECT * FROM sidestep.search(1, NULL, 'marzipan', '{}', 0, 9223372036854775807, 10, 1000)"
            )
    async with connected(nobody) as connection:
        assert await connection.fetchval(find) == 0
    async with db.acquire() as owner:
        with pytest.raises(asyncpg.InvalidParameterValueError):
            await owner.fetchval(find)
        await owner.execute("SET sidestep.tenant TO 'shop'")
        assert await owner.fetchval(find) == 1


async def test_the_daemon_s_own_statements_meet_no_wall_and_triggers_only_where_a_state_changes(
    rollback_db: Database,
) -> None:
    hot = ["messages", "message_payloads", "message_keys", "decisions", "outbox", "chat_state"]
    async with rollback_db.acquire() as connection:
        for table in hot:
            assert "role_tenant" not in await plan(
                connection, f"SELECT * FROM sidestep.{table} WHERE tenant_id = 1"
            )
    triggers = await rollback_db.fetch(
        "SELECT tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
        " WHERE c.relnamespace = 'sidestep'::regnamespace AND c.relname = ANY ($1) AND NOT t.tgisinternal",
        hot,
    )
    # They run only where a state changes, and where a pause ends.
    assert sorted(r[0] for r in triggers) == ["guard_state", "reopen_backlog"]


async def test_who_is_above_the_wall_is_not_admitted(rollback_db: Database) -> None:
    await two_tenants(rollback_db)
    async with rollback_db.acquire() as connection:
        for role, tenant, error in (
            (await connection.fetchval("SELECT current_user"), "shop", "above the wall"),
            ("no_such_role", "shop", "no role"),
            ("pg_monitor", "nobody", "no tenant"),
        ):
            async with refused(connection, match=error):
                await connection.execute("SELECT sidestep.admit($1, $2)", role, tenant)


async def test_who_is_dismissed_can_be_dropped(db: Database) -> None:
    await two_tenants(db)
    role = f"{database_of(db.address.url)}_{secrets.token_hex(2)}"
    await db.execute(f"CREATE ROLE {role}")
    await db.execute("SELECT sidestep.admit($1, '1')", role)
    await db.execute("SELECT sidestep.dismiss($1)", role)
    await db.execute(f"DROP ROLE {role}")


async def test_an_owner_without_any_special_right_has_all_but_roles(postgres: str) -> None:
    async with ordinary_user(postgres, owner=True) as dsn:
        db = await Database.open(dsn)
        try:
            await migrate(db)
            await two_tenants(db)
            async with face(db, "whaply", "bakery") as connection:
                await connection.execute(
                    "INSERT INTO messages (tenant_id, chat_id, message_id, created_at) VALUES (2, 'x', 'y', '2012-01-01')"
                )
                assert {r[0] for r in await connection.fetch("SELECT tenant_id FROM messages")} == {2}
            await show_public(db, "whaply")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await db.execute("CREATE ROLE nobody")
        finally:
            await db.close()


# The schema public, and the printed file -----------------------------------------------------------------


async def test_what_stands_in_the_schema_public_is_not_replaced(rollback_db: Database) -> None:
    await rollback_db.execute("CREATE TABLE public.messages (mine int)")
    with pytest.raises(FaceRefused, match="public_face"):
        await show_public(rollback_db, "whaply")


async def test_a_face_that_is_hidden_leaves_what_is_not_ours(rollback_db: Database) -> None:
    await rollback_db.execute("CREATE TABLE public.mine (a int)")
    await show_public(rollback_db, "whaply")
    await rollback_db.execute("SELECT sidestep.hide_public_face()")
    left = await rollback_db.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')"
    )
    assert [r["relname"] for r in left] == ["mine"]


@pytest.mark.parametrize("name", faces())
async def test_the_printed_file_can_be_run_twice_and_sidestep_goes_on_from_it(
    postgres: str, name: str
) -> None:
    async with fresh_database(postgres) as dsn:
        async with connected(dsn) as connection:
            for _ in range(2):
                await connection.execute(printed(name))
            shown = await connection.fetch(
                "SELECT viewname FROM pg_views WHERE schemaname = 'public' ORDER BY 1"
            )
            made = await connection.fetch(
                "SELECT viewname FROM pg_views WHERE schemaname = 'face_' || $1 ORDER BY 1", name
            )
            assert shown == made != []
            assert (
                await connection.fetch(
                    "SELECT FROM pg_namespace WHERE nspname LIKE 'face\\_%' AND nspname <> 'face_' || $1",
                    name,
                )
                == []
            )
        db = await Database.open(dsn, max_size=1)
        try:
            assert {m.name for m in await pending(db)} == {f"face_{f}" for f in faces()} - {f"face_{name}"}
            await migrate(db)
            assert len(await views(db)) > len(made) or faces() == [name]
        finally:
            await db.close()
