"""The store as its faces' users meet it: a session with a search_path, and the documents' own SQL."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from storage.database import Connection, Database

DOCUMENTS = Path(__file__).parents[1] / "documents"

_SERIALS = {"SERIAL": "integer", "BIGSERIAL": "bigint"}
_WORDS = {"VARCHAR": "character varying", "TIMESTAMPTZ": "timestamp with time zone"}


def quoted(document: str) -> dict[str, str]:
    """What a document prints, by the names in our copy of it."""
    text = (DOCUMENTS / f"{document}.sql").read_text(encoding="utf-8")
    return {
        m[1]: m[2].strip() for m in re.finditer(r"^-- name: (\w+)\n(.*?)(?=^-- name: |\Z)", text, re.M | re.S)
    }


async def first_tenant(db: Database) -> None:
    """The tenant that is made next has the id 1, as in a new database; sequences do not roll back by themselves."""
    await db.execute("ALTER TABLE sidestep.tenants ALTER tenant_id RESTART WITH 1")


@asynccontextmanager
async def face(db: Database, name: str, tenant: str | None = None) -> AsyncIterator[Connection]:
    """A session of the owner's that has set its search_path as the documents' readers do, and a tenant if told."""
    async with db.acquire() as connection:
        await connection.execute(f"SET search_path TO face_{name}, public")
        # The same words may have been asked on this connection before, of another face's table of that name.
        await connection.reload_schema_state()
        if tenant is not None:
            await connection.execute("SELECT set_config('sidestep.tenant', $1, false)", tenant)
        yield connection


def documented(lines: str) -> dict[str, str]:
    """`table.column TYPE` lines as PostgreSQL spells the types."""
    columns = {}
    for line in lines.split("\n"):
        if not line.strip():
            continue
        name, kind = line.split()
        word, _, rest = kind.partition("(")
        plain = (
            _SERIALS.get(word)
            or _WORDS.get(word)
            or {"TIMESTAMP": "timestamp without time zone"}.get(word, word.lower())
        )
        columns[name] = plain + (f"({rest}" if rest else "")
    return columns


async def columns(db: Database, name: str) -> dict[str, str]:
    """The columns of a face's views with their types, in order."""
    rows = await db.fetch(
        """
        SELECT c.relname || '.' || a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type
          FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
         WHERE c.relnamespace = to_regnamespace('face_' || $1) AND c.relkind = 'v' AND a.attnum > 0
         ORDER BY c.oid, a.attnum
        """,
        name,
    )
    return {r["name"]: r["type"] for r in rows}


async def defaults(db: Database, name: str) -> dict[str, str]:
    """The defaults of a face's columns, as PostgreSQL prints them."""
    rows = await db.fetch(
        """
        SELECT table_name || '.' || column_name AS name, column_default FROM information_schema.columns
         WHERE table_schema = 'face_' || $1 AND column_default IS NOT NULL
        """,
        name,
    )
    return {r["name"]: r["column_default"] for r in rows}


CROWD = """
WITH chat AS (
    INSERT INTO sidestep.chats (tenant_id, account_id, jid, is_group, created_at, updated_at)
    SELECT a.tenant_id, a.account_id, '99' || n || '@s.whatsapp.net', false, now(), now()
      FROM sidestep.accounts a, generate_series(1, 1000) n RETURNING tenant_id, account_id, chat_id, channel, jid),
alias AS (
    INSERT INTO sidestep.chat_aliases (tenant_id, account_id, channel, jid, chat_id)
    SELECT tenant_id, account_id, channel, jid, chat_id FROM chat)
INSERT INTO sidestep.chat_state (tenant_id, chat_id, is_paused, pause_reason, last_human_at)
SELECT tenant_id, chat_id, chat_id % 100 = 0, CASE WHEN chat_id % 100 = 0 THEN 'manual_pause' END, now() FROM chat
"""


async def crowd(connection: Connection) -> None:
    """A thousand chats, one in a hundred paused, and a planner that knows: which index it takes is no chance then."""
    await connection.execute(CROWD)
    await connection.execute(
        "ANALYZE sidestep.chats, sidestep.chat_state, sidestep.chat_aliases, sidestep.contacts"
    )


async def plan(connection: Connection, query: str, *arguments: object) -> str:
    """How a query is answered where reading a whole table costs more than any index, as it does in a large store."""
    async with connection.transaction():
        await connection.execute("SET LOCAL enable_seqscan = off")
        return "\n".join(r[0] for r in await connection.fetch(f"EXPLAIN {query}", *arguments))


@asynccontextmanager
async def refused(
    connection: Connection,
    error: type[asyncpg.PostgresError] = asyncpg.PostgresError,
    match: str | None = None,
) -> AsyncIterator[None]:
    """What is done here must fail, and the transaction around it lives on."""
    with pytest.raises(error, match=match):
        async with connection.transaction():
            yield
