"""docs/operating.md: every statement runs as it is printed, and each trouble is as it is told there.

So do the statements of docs/takeover.md, which pause a chat and let the bot back in.
"""

from __future__ import annotations

import re
from pathlib import Path

import asyncpg
import pytest
from typer.testing import CliRunner

from bot.cli import app
from storage.database import Database
from tests.integration.store_world import World, said

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "operating.md").read_text(encoding="utf-8")
TAKEOVER = (DOCS / "takeover.md").read_text(encoding="utf-8")
STATEMENTS = re.findall(r"^ *```sql\n(.*?)^ *```$", PAGE, flags=re.MULTILINE | re.DOTALL)
COMMANDS = sorted(set(re.findall(r"`sidestep ([a-z]+)[^`]*`", PAGE)))
OPTIONS = sorted(set(re.findall(r"`sidestep ([a-z]+)[^`]* (--[a-z-]+)`", PAGE)))
# What the page says of keys: the words, and the constraint that holds them.
ONCE = {
    "a tenant's `instance_name`": "tenants_instance_name_key",
    "a chat, with its session": "chat_state_pkey",
    "WhatsApp's id of a message": "message_keys_pkey",
    "a decision about a message, of one kind": "decisions_pkey",
}

SILENT_FOR = """
    SELECT array_remove(ARRAY[pause_reason, CASE WHEN is_excluded THEN 'excluded' END,
                              CASE WHEN opted_out_at IS NOT NULL THEN 'opted out' END], NULL)
      FROM sidestep.chat_state
"""


@pytest.fixture
async def world(db: Database) -> World:
    world = await World.open(db)
    await world.record(said("M1"))
    return world


def test_there_is_something_to_try() -> None:
    assert len(STATEMENTS) >= 7
    assert {"check", "migrate", "stats", "why", "backup", "restore"} <= set(COMMANDS)


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda text: " ".join(text.split())[:40])
async def test_each_statement_runs_as_it_is_printed(world: World, statement: str) -> None:
    await world.db.fetch(statement)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_there(command: str) -> None:
    assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_each_option_is_there(command: str, option: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert option in shown.output


async def test_a_face_s_table_is_found_after_the_line_and_not_before(world: World) -> None:
    async with world.db.acquire() as connection:
        with pytest.raises(asyncpg.UndefinedTableError, match='relation "sessions" does not exist'):
            await connection.fetch("SELECT * FROM sessions")
        await connection.execute(STATEMENTS[0])
        assert len(await connection.fetch("SELECT * FROM sessions")) == 1


@pytest.mark.parametrize(("words", "constraint"), ONCE.items())
async def test_what_may_be_there_once_has_a_key(world: World, words: str, constraint: str) -> None:
    assert f"| {words} |" in PAGE
    assert await world.db.fetchval(
        "SELECT count(*) FROM pg_constraint WHERE conname = $1 AND connamespace = 'sidestep'::regnamespace"
        " AND contype IN ('p', 'u')",
        constraint,
    )


async def test_an_unknown_tenant_is_named(world: World) -> None:
    async with world.db.acquire() as connection:
        await connection.execute(STATEMENTS[0])
        with pytest.raises(asyncpg.ForeignKeyViolationError) as refused:
            await connection.execute("INSERT INTO sessions (tenant_id, chat_id) VALUES (999, '5511@c.us')")
    assert "is not present in table" in (refused.value.detail or "")


async def test_the_pauses_that_are_due_are_found_by_an_index(world: World) -> None:
    explain = next(text for text in STATEMENTS if text.lstrip().startswith("EXPLAIN"))
    async with world.db.transaction() as connection:
        # On a table of one row the planner rightly reads it all: what is asked here is whether it could do otherwise.
        await connection.execute("SET LOCAL enable_seqscan = off")
        plan = "\n".join(row[0] for row in await connection.fetch(explain))
    assert "Index" in plan
    assert "Seq Scan" not in plan


async def test_by_sql_a_chat_is_paused_as_it_is_printed_and_the_bot_let_back_in(world: World) -> None:
    [statement] = re.findall(r"^```sql\n(.*?)^```$", TAKEOVER, flags=re.MULTILINE | re.DOTALL)
    await world.db.fetch(statement)
    assert await world.db.fetchval(SILENT_FOR) == ["manual_pause"]
    calls = re.findall(r"`(sidestep\.(\w+)\(tenant_id, chat_id.*?\))`", TAKEOVER)
    for (call, name), now in zip(calls, ([], ["excluded"], ["excluded", "opted out"]), strict=True):
        await world.db.fetch(f"SELECT {call} FROM sidestep.chats")  # noqa: S608 - the page's own words
        assert await world.db.fetchval(SILENT_FOR) == now, name
