"""The store itself: how large its tables are, which indexes are used, which statements take long. Holds the queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from storage.database import Database
from storage.errors import StorageError

# Months are told as the one table that they are.
TABLES = """
SELECT coalesce(p.relname, c.relname)::text AS name, count(p.oid) AS months,
       sum(greatest(c.reltuples, 0))::bigint AS row_count, sum(pg_table_size(c.oid))::bigint AS table_bytes,
       sum(pg_indexes_size(c.oid))::bigint AS index_bytes
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname IN ('sidestep', 'sidestep_archive')
  LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
  LEFT JOIN pg_class p ON p.oid = i.inhparent
 WHERE c.relkind = 'r'
 GROUP BY 1 ORDER BY sum(pg_total_relation_size(c.oid)) DESC, 1
"""
INDEXES = """
SELECT coalesce(t.relname, s.relname)::text AS table_name, coalesce(p.relname, s.indexrelname)::text AS name,
       sum(s.idx_scan)::bigint AS scans, sum(s.idx_tup_read)::bigint AS tuples_read,
       sum(s.idx_tup_fetch)::bigint AS tuples_fetched, sum(pg_relation_size(s.indexrelid))::bigint AS size_bytes,
       bool_or(x.indisunique) AS is_unique
  FROM pg_stat_user_indexes s
  JOIN pg_index x ON x.indexrelid = s.indexrelid
  LEFT JOIN pg_inherits i ON i.inhrelid = s.indexrelid
  LEFT JOIN pg_class p ON p.oid = i.inhparent
  LEFT JOIN pg_inherits j ON j.inhrelid = s.relid
  LEFT JOIN pg_class t ON t.oid = j.inhparent
 WHERE s.schemaname IN ('sidestep', 'sidestep_archive')
 GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2
"""
SLOW = "SELECT query, calls, mean_ms, total_ms, row_count FROM sidestep.slow_statements($1)"

_NOT_THERE = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.UndefinedFileError,
    asyncpg.FeatureNotSupportedError,
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.ReadOnlySQLTransactionError,
)


class StatementsUnknown(StorageError):
    """The server keeps no statistics of statements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSize:
    """One table, its months together (0: it has none). `row_count` is the planner's estimate."""

    name: str
    months: int
    row_count: int
    table_bytes: int
    index_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexUse:
    """One index, its months together, and how it was used since the server's statistics began."""

    table_name: str
    name: str
    scans: int
    tuples_read: int
    tuples_fetched: int
    size_bytes: int
    is_unique: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A kind of statement, its values left out, and how long it took."""

    query: str
    calls: int
    mean_ms: float
    total_ms: float
    row_count: int


async def table_sizes(database: Database) -> Sequence[TableSize]:
    """All of our tables, the largest first."""
    return [TableSize(**row) for row in await database.fetch(TABLES)]


async def index_use(database: Database) -> Sequence[IndexUse]:
    """All of our indexes, the most used first: those at the end cost more than they bring, unless they are unique."""
    return [IndexUse(**row) for row in await database.fetch(INDEXES)]


async def slow_statements(database: Database, limit: int = 10) -> Sequence[Statement]:
    """Those that take longest on average. Raises StatementsUnknown where the server does not count them."""
    try:
        return [Statement(**row) for row in await database.fetch(SLOW, limit)]
    except _NOT_THERE as exc:
        raise StatementsUnknown(
            f"the server at {database.address.place} tells nothing of its statements ({exc.args[0]}): set "
            "shared_preload_libraries = 'pg_stat_statements', restart it, and let a superuser run "
            "CREATE EXTENSION pg_stat_statements in this database; the embedded server has it"
        ) from exc
