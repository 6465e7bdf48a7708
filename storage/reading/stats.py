"""Statistics: how much was said, by whom, where and when; from the sums of months that are over, and the rest counted.

Periods are days and months in UTC, by the time of a message's arrival here (of its writing, if it is of the past).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from enum import StrEnum

import asyncpg

from storage.database import Database
from storage.models import Author, ChatId, Direction, MessageType, TenantId
from storage.reading.models import Stats, Tally
from storage.reading.source import Source

STATS = "SELECT * FROM sidestep.message_stats($1, (SELECT sidestep.chat_now($1, $2)), $3, $4, $5)"
FAILED = """
SELECT (sidestep.id_time(o.id) AT TIME ZONE 'UTC')::date AS day, count(*) AS failed
  FROM sidestep.outbox o
  JOIN sidestep.messages m ON m.tenant_id = o.tenant_id AND m.chat_id = o.chat_id AND m.id = o.id
       AND m.deleted_at IS NULL
 WHERE o.tenant_id = $1 AND o.failed_at IS NOT NULL AND o.status = 'failed'
   AND ($2::bigint IS NULL OR o.chat_id = (SELECT sidestep.chat_now($1, $2)))
   AND o.id >= coalesce(sidestep.id_floor($3), '-9223372036854775808'::bigint)
   AND o.id < coalesce(sidestep.id_floor($4), 9223372036854775807)
 GROUP BY 1
"""
UNTALLIED = "SELECT part::text AS part, first_id, end_id FROM sidestep.untallied_months($1, $2)"
FORGET_DROPPED = """
WITH gone AS (
    DELETE FROM sidestep.tallied_months t
     WHERE t.tenant_id = $1 AND NOT EXISTS (SELECT FROM sidestep.message_months() m WHERE m.first_id = t.first_id)
    RETURNING (sidestep.id_time(first_id) AT TIME ZONE 'UTC')::date AS month)
DELETE FROM sidestep.tallies s USING gone
 WHERE s.tenant_id = $1 AND s.day >= gone.month AND s.day < gone.month + interval '1 month'
"""
TALLY = "SELECT sidestep.tally_month($1, $2::text::regclass, $3, $4, $5)"


class Period(StrEnum):
    """What statistics over time are by."""

    DAY = "day"
    MONTH = "month"


class StatsReads:
    """The statistics of one tenant."""

    def __init__(self, source: Source, tenant_id: TenantId) -> None:
        self._source = source
        self._tenant_id = tenant_id

    async def message_stats(
        self, chat_id: ChatId | None = None, *, since: datetime | None = None, until: datetime | None = None
    ) -> Stats:
        """Of one chat, or of all; from `since` on, to before `until`."""
        rows = await self._source.fetch(STATS, self._tenant_id, chat_id, since, until, "")
        failed = await self._source.fetch(FAILED, self._tenant_id, chat_id, since, until)
        return Stats(tallies=_merged([_tally(row) for row in rows]), failed=sum(r["failed"] for r in failed))

    async def stats_by_period(
        self,
        period: Period,
        chat_id: ChatId | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Mapping[date, Stats]:
        """The same for each day or month (by its first day) in which anything was said, in order."""
        rows = await self._source.fetch(STATS, self._tenant_id, chat_id, since, until, period)
        failed = await self._source.fetch(FAILED, self._tenant_id, chat_id, since, until)
        found: dict[date, list[Tally]] = {}
        for row in rows:
            found.setdefault(_begin(row["day"], period), []).append(_tally(row))
        unsent: dict[date, int] = {}
        for row in failed:
            day = _begin(row["day"], period)
            unsent[day] = unsent.get(day, 0) + row["failed"]
        return {
            day: Stats(tallies=_merged(found.get(day, [])), failed=unsent.get(day, 0))
            for day in sorted(found.keys() | unsent.keys())
        }


async def tally(database: Database, tenant_id: TenantId, now: datetime) -> int:
    """Count the months that are over and not counted yet, or changed since; returns how many. The daemon's work."""
    await database.execute(FORGET_DROPPED, tenant_id)
    counted = 0
    for month in await database.fetch(UNTALLIED, tenant_id, now):
        counted += bool(
            await database.fetchval(TALLY, tenant_id, month["part"], month["first_id"], month["end_id"], now)
        )
    return counted


def _begin(day: date, period: Period) -> date:
    return day if period is Period.DAY else day.replace(day=1)


def _tally(row: asyncpg.Record) -> Tally:
    return Tally(
        direction=Direction(row["direction"]),
        author=Author(row["author"]),
        is_group=row["is_group"],
        type=MessageType(row["type"]),
        command=row["command"] or None,
        messages=row["messages"],
        media=row["media"],
    )


def _merged(tallies: Sequence[Tally]) -> tuple[Tally, ...]:
    """One of each kind, from those of many months; most messages first."""
    sums: dict[tuple[object, ...], Tally] = {}
    for one in tallies:
        kind = (one.direction, one.author, one.is_group, one.type, one.command or "")
        if (known := sums.get(kind)) is not None:
            one = Tally(
                direction=one.direction,
                author=one.author,
                is_group=one.is_group,
                type=one.type,
                command=one.command,
                messages=known.messages + one.messages,
                media=known.media + one.media,
            )
        sums[kind] = one
    return tuple(sorted(sums.values(), key=lambda t: (-t.messages, str(t.type), t.command or "")))
