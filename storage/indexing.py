"""Indexes that the configuration switches on: of the JSON of messages. Recording pays for them: none is made unasked.

Each month's is built without holding up what is written meanwhile; a build that was broken off is begun anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg
import structlog

from storage.database import Connection, Database

_BUILD_SECONDS = 24 * 3600.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class JsonIndex:
    """An index of the JSON in a table of months, for `@>`."""

    table: str
    expression: str

    @property
    def name(self) -> str:
        return f"{self.table}_json"

    @property
    def method(self) -> str:
        return f"USING gin ({self.expression} jsonb_path_ops)"


JSON_INDEXES = (
    # As face_store shows it, so that its readers have the index.
    JsonIndex("messages", "(coalesce(metadata - 'record', '{}'::jsonb))"),
    JsonIndex("message_payloads", "raw"),
)

# The parent is valid when each month has its own.
IS_READY = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('sidestep.' || $1 || '_json')"
MONTHS_WITHOUT = """
SELECT c.relname AS month, to_regclass('sidestep.' || c.relname || '_json') IS NOT NULL AS was_begun
  FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid
 WHERE h.inhparent = ('sidestep.' || $1)::regclass
   AND NOT EXISTS (SELECT FROM pg_index i JOIN pg_inherits p ON p.inhrelid = i.indexrelid
                    WHERE i.indrelid = c.oid AND p.inhparent = to_regclass('sidestep.' || $1 || '_json'))
 ORDER BY c.relname DESC
"""
TRY_ALONE = "SELECT pg_try_advisory_lock(hashtextextended('sidestep.json', 0))"


async def index_json(database: Database, *, wanted: bool) -> None:
    """Build the indexes, the newest month first, or drop them; where another daemon is at it, leave it to that one."""
    wrong = [i for i in JSON_INDEXES if await database.fetchval(IS_READY, i.table) is not (wanted or None)]
    if not wrong:
        return
    async with database.acquire() as connection:
        # Until the connection is given back. Who waited for it would hold a snapshot that the other's build waits for.
        if not await connection.fetchval(TRY_ALONE):
            return
        for index in wrong:
            await (_build(connection, index) if wanted else _drop(connection, index))


async def _build(connection: Connection, index: JsonIndex) -> None:
    # By itself the parent's costs nothing, and a month that is made from now on has its own from the beginning.
    await _quickly(
        connection, f"CREATE INDEX IF NOT EXISTS {index.name} ON ONLY sidestep.{index.table} {index.method}"
    )
    for row in await connection.fetch(MONTHS_WITHOUT, index.table):
        month = row["month"]
        log.info("index_building", table=month)
        if row["was_begun"]:
            await _at_length(connection, f"DROP INDEX CONCURRENTLY sidestep.{month}_json")
        try:
            await _at_length(
                connection, f"CREATE INDEX CONCURRENTLY {month}_json ON sidestep.{month} {index.method}"
            )
            await _quickly(
                connection, f"ALTER INDEX sidestep.{index.name} ATTACH PARTITION sidestep.{month}_json"
            )
        except asyncpg.UndefinedTableError:
            continue  # nothing was left in the month, and it was dropped meanwhile


async def _drop(connection: Connection, index: JsonIndex) -> None:
    for row in await connection.fetch(MONTHS_WITHOUT, index.table):
        if row["was_begun"]:
            await _at_length(connection, f"DROP INDEX CONCURRENTLY sidestep.{row['month']}_json")
    await _quickly(connection, f"DROP INDEX sidestep.{index.name}")


async def _at_length(connection: Connection, statement: str) -> None:
    """What writers do not wait for."""
    await connection.execute(statement, timeout=_BUILD_SECONDS)


async def _quickly(connection: Connection, statement: str) -> None:
    """What writers wait for, and must not wait long: where somebody reads at length it is left for the next time."""
    async with connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = '1s'")
        await connection.execute(statement)
