"""`make bench-store`: how long reads take on a store of millions of messages, with the plan of each kept beside."""

from __future__ import annotations

import argparse
import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from time import perf_counter

import asyncpg

from benchmarks.bulk import fill
from benchmarks.daemons import config
from benchmarks.report import Row, keep, table
from benchmarks.servers import fresh, progress, server
from storage.database import Database
from storage.models import ChatId, MessageId, TenantId
from storage.reading.reads import Reads

# The slowest way to an old page, which nothing of ours goes: for comparison.
OFFSET = """
SELECT id, text FROM sidestep.messages WHERE tenant_id = $1 AND chat_id = $2 ORDER BY id DESC LIMIT 50 OFFSET $3
"""

# What a CRM asks of its face.
CRM_LIST = """
SELECT id, participant_name, last_message_at, last_message_preview, message_count FROM face_crm.chat_conversations
 ORDER BY last_message_at DESC LIMIT 50
"""
CRM_CONVERSATION = "SELECT * FROM face_crm.chat_conversations WHERE id = sidestep.uuid_of($1, 0)"
CRM_DAY = """
SELECT messages FROM face_crm.chat_conversation_days WHERE conversation_id = sidestep.uuid_of($1, 0) AND date = $2
"""

Read = Callable[[], Awaitable[object]]


@dataclass(slots=True)
class Watched:
    """A source of reads that remembers the last query of each."""

    database: Database
    asked: dict[str, tuple[str, tuple[object, ...]]] = field(default_factory=dict)
    now: str = ""

    async def fetch(self, query: str, *args: object) -> Sequence[asyncpg.Record]:
        self.asked.setdefault(self.now, (query, args))
        return await self.database.fetch(query, *args)

    async def plans(self) -> str:
        """Of each read, as it was first made."""
        told = []
        for name, (query, args) in self.asked.items():
            rows = await self.database.fetch(f"EXPLAIN (ANALYZE, BUFFERS) {query}", *args)
            told.append(f"== {name}\n" + "\n".join(row[0] for row in rows))
        return "\n\n".join(told) + "\n"


async def reads_of(source: Watched, tenant_id: TenantId) -> Mapping[str, tuple[Read, float | None]]:
    """Each read with the milliseconds that its slowest hundredth may take; chats as often as they are written to."""
    source.now = "setup"
    rows = await source.fetch(
        "SELECT chat_id FROM sidestep.chats WHERE tenant_id = $1 ORDER BY chat_id", tenant_id
    )
    chats, dice = [ChatId(row["chat_id"]) for row in rows], random.Random(1)  # noqa: S311  no secret
    biggest = chats[0]
    middle = await middle_of(source.database, tenant_id, biggest)
    # A Watched fits every room's Source; Reads.of asks for a Database only to tell a replica from it.
    reads = Reads.of(source, tenant_id)  # type: ignore[arg-type]

    def chat() -> ChatId:
        return chats[int(len(chats) ** dice.random()) - 1]

    since = datetime.now(UTC) - timedelta(days=30)
    return {
        "last 100 of a chat": (lambda: reads.messages.conversation_history(chat(), 100), 2.0),
        "last 10 of a chat": (lambda: reads.messages.last_messages(chat()), 2.0),
        "a page in the middle of the biggest chat": (
            lambda: reads.messages.conversation_history(biggest, 50, middle),
            None,
        ),
        "recent activity": (lambda: reads.messages.recent_activity(), None),
        "chat list": (lambda: reads.chats.chat_list(), None),
        "paused and due": (lambda: reads.chats.paused_and_due(), None),
        "failed": (lambda: reads.messages.failed_messages(), None),
        "media of a chat": (lambda: reads.messages.media_messages(chat()), None),
        "statistics of a chat, 30 days": (lambda: reads.stats.message_stats(chat(), since=since), None),
        "search a common word": (lambda: reads.search.search_messages("w2"), 150.0),
        "search a word now and then": (lambda: reads.search.search_messages("w300"), 150.0),
        "search a rare word": (lambda: reads.search.search_messages("w19991"), 150.0),
        "search in the biggest chat": (lambda: reads.search.search_messages("w300", biggest), 150.0),
        "the CRM's chat list": (lambda: source.fetch(CRM_LIST), None),
        "a conversation of the CRM's": (lambda: source.fetch(CRM_CONVERSATION, chat()), None),
        "a day of the CRM's": (lambda: source.fetch(CRM_DAY, chat(), since.date()), None),
    }


async def middle_of(database: Database, tenant_id: TenantId, chat_id: ChatId) -> MessageId:
    """The id that has as many before as after it."""
    row = await database.fetchrow(
        "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY id) AS id FROM sidestep.messages"
        " WHERE tenant_id = $1 AND chat_id = $2",
        tenant_id, chat_id,
    )  # fmt: skip
    return MessageId(row["id"] if row else 0)


async def timed(read: Read, times: int) -> Sequence[float]:
    """Milliseconds, sorted; the first two calls, which plan and read from the disk, are left out."""
    taken = []
    for _ in range(times + 2):
        begun = perf_counter()
        await read()
        taken.append(1000 * (perf_counter() - begun))
    return sorted(taken[2:])


async def measure(database: Database, times: int) -> tuple[list[Row], str]:
    """Every read so many times, and the plans."""
    tenant_id = TenantId(await database.fetchval("SELECT min(tenant_id) FROM sidestep.tenants"))
    source, rows = Watched(database), list[Row]()
    reads = await reads_of(source, tenant_id)
    for name, (read, longest) in reads.items():
        source.now = name
        taken = await timed(read, times)
        rows.append(Row(name=f"{name}: p50", value=median(taken), unit="ms"))
        slowest = taken[min(len(taken) * 99 // 100, len(taken) - 1)]
        rows.append(Row(name=f"{name}: p99", value=slowest, unit="ms", target=longest, at_most=True))
        progress(name)
    rows.append(await offset_to_keyset(database, tenant_id, rows, times))
    return rows, await source.plans()


async def offset_to_keyset(database: Database, tenant_id: TenantId, rows: Sequence[Row], times: int) -> Row:
    """The same page in the middle of the biggest chat by OFFSET."""
    row = await database.fetchrow(
        "SELECT chat_id, count(*) AS number FROM sidestep.messages WHERE tenant_id = $1 AND chat_id ="
        " (SELECT min(chat_id) FROM sidestep.chats WHERE tenant_id = $1) GROUP BY 1",
        tenant_id,
    )
    assert row is not None
    taken = await timed(
        lambda: database.fetch(OFFSET, tenant_id, row["chat_id"], row["number"] // 2), max(times // 10, 3)
    )
    ours = next(r.value for r in rows if r.name.startswith("a page in the middle") and r.name.endswith("p50"))
    return Row(name="that page by OFFSET, to ours", value=median(taken) / ours, target=100.0)


async def run(rows: int, chats: int, times: int, url: str | None) -> tuple[list[Row], str]:
    """Make the store, and read from it."""
    async with server(url) as at, fresh(at, "store") as dsn:
        database = await Database.open(dsn, max_size=2)
        try:
            await fill(database, config(), messages=rows, chats=chats, tell=progress)
            return await measure(database, times)
        finally:
            await database.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-store", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000, help="messages in the store")
    parser.add_argument("--chats", type=int, default=20_000)
    parser.add_argument("--times", type=int, default=200, help="how often each read is made")
    parser.add_argument("--database", help="a server's URL on which databases may be made; default: embedded")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args()
    rows, plans = asyncio.run(run(given.rows, given.chats, given.times, given.database))
    print(table(rows))
    kept = keep(
        given.results, "store", rows, {"rows": given.rows, "chats": given.chats, "times": given.times}
    )
    kept.with_suffix(".plans.txt").write_text(plans)
    print(f"kept in {kept}, the plans beside it")


if __name__ == "__main__":
    main()
