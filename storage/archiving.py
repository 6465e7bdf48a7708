"""Archiving: months that are over move to the schema `sidestep_archive`, and stay parts of the tables that they are of.

So whatever reads, searches, counts, erases or exports messages goes on as before, and keys, which no month holds, stay
where they are. A month moves whole, in one commit that touches no row: what is cut off goes on at the next call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import asyncpg

from storage.database import Database

_TRIES = 20
_TRY_AGAIN_SECONDS = 0.5
# Counting a large month may take its time; it keeps nobody waiting.
_PATIENCE_SECONDS = 3600.0

TO_ARCHIVE = "SELECT first_id, end_id, size_bytes FROM sidestep.months_to_archive($1)"
HOW_MANY = "SELECT count(*) FROM sidestep.messages WHERE id >= $1 AND id < $2"
ARCHIVE_MONTH = "SELECT sidestep.archive_month($1)"

_FIRST_DAY = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedMonth:
    """A month, with the messages of all tenants in it and the bytes that all of it takes, indexes included."""

    first_day: date
    messages: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    """What one call has moved, oldest first, and the months in which somebody was busy for too long."""

    months: tuple[ArchivedMonth, ...]
    busy: tuple[date, ...]


async def archive(
    database: Database, before: datetime, progress: Callable[[ArchivedMonth], None] = lambda _: None
) -> Archived:
    """Move every month that was over before then; `progress` is told of each as it has moved."""
    moved, busy = list[ArchivedMonth](), list[date]()
    for row in await _to_archive(database, before):
        messages = await database.fetchval(
            HOW_MANY, row["first_id"], row["end_id"], timeout=_PATIENCE_SECONDS
        )
        month = ArchivedMonth(
            first_day=_day_of(row["first_id"]), messages=messages, size_bytes=row["size_bytes"]
        )
        match await _move(database, row["first_id"]):
            case True:
                moved.append(month)
                progress(month)
            case None:
                busy.append(month.first_day)
    return Archived(months=tuple(moved), busy=tuple(busy))


async def _to_archive(database: Database, before: datetime) -> list[asyncpg.Record]:
    for _ in range(_TRIES):
        # Another may move a month, or drop it, between two looks at the catalog.
        with suppress(asyncpg.UndefinedTableError):
            return await database.fetch(TO_ARCHIVE, before, timeout=_PATIENCE_SECONDS)
    return await database.fetch(TO_ARCHIVE, before, timeout=_PATIENCE_SECONDS)


async def _move(database: Database, first_id: int) -> bool | None:
    """False: it is there by now; None: somebody was busy in it at every try."""
    for left in reversed(range(_TRIES)):
        moved: bool | None = await database.fetchval(ARCHIVE_MONTH, first_id)
        if moved is not None:
            return moved
        if left:
            await asyncio.sleep(_TRY_AGAIN_SECONDS)
    return None


def _day_of(first_id: int) -> date:
    return (_FIRST_DAY + timedelta(milliseconds=first_id >> 20)).date()
