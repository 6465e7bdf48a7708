"""`sidestep stats`: how much was said, and how the store is; reads only (but for an extension that `--slow` needs)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import typer

from bot.commands import replica_of, store_of
from bot.config import Config
from storage.database import Database
from storage.models import ChatSummary, Tenant
from storage.reading.models import By, Stats
from storage.reading.reads import Reads
from storage.reading.search import FOLDS_ACCENTS
from storage.reading.sizes import (
    IndexUse,
    Statement,
    TableSize,
    index_use,
    slow_statements,
    table_sizes,
)
from storage.reading.source import Replica
from storage.reading.stats import Period
from storage.sessions import SessionStore
from storage.tenants import TenantStore


class _NotOne(Exception):
    """No chat is meant, or more than one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked for. `chat` is a name or a number, `since` how far back; None: all."""

    chat: str | None = None
    since: timedelta | None = None
    by: Period | None = None
    slow: bool = False
    indexes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """The answer, before it is text or JSON."""

    tenants: Sequence[dict[str, Any]]
    tables: Sequence[TableSize]
    indexes: Sequence[IndexUse] | None
    slow: Sequence[Statement] | None
    folds_accents: bool


async def tell(config: Config, wanted: Wanted, *, as_json: bool) -> bool:
    """Print it; False when no chat is meant, or more than one.

    Raises StatementsUnknown where `slow` is asked of a server that does not count statements.
    """
    async with store_of(config) as database, replica_of(config) as replica:
        try:
            told = await _ask(config, database, replica, wanted)
        except _NotOne as exc:
            typer.echo(str(exc), err=True)
            return False
    if as_json:
        typer.echo(orjson.dumps(_as_json(told)).decode())
    else:
        typer.echo("\n".join(_as_text(told)))
    return True


async def _ask(config: Config, database: Database, replica: Replica | None, wanted: Wanted) -> _Told:
    tenants = TenantStore(database)
    seeded = [await tenants.find(tenant.instance_name) for tenant in config.tenants]
    known = [tenant for tenant in seeded if tenant is not None]
    found = [await _of_tenant(database, replica, tenant, wanted) for tenant in known]
    if wanted.chat is not None and not any(found):
        raise _NotOne(f"no chat has the name or number {wanted.chat!r}")
    return _Told(
        tenants=[each for each in found if each is not None],
        tables=await table_sizes(database),
        indexes=await index_use(database) if wanted.indexes else None,
        slow=await slow_statements(database) if wanted.slow else None,
        folds_accents=bool(await database.fetchval(FOLDS_ACCENTS)),
    )


async def _of_tenant(
    database: Database, replica: Replica | None, tenant: Tenant, wanted: Wanted
) -> dict[str, Any] | None:
    """None: the chat that is meant is not this tenant's."""
    chat = None
    if wanted.chat is not None and (chat := await _meant(database, tenant, wanted.chat)) is None:
        return None
    chat_id = chat.chat_id if chat else None
    since = None if wanted.since is None else datetime.now(UTC) - wanted.since
    reads = Reads.of(database, tenant.tenant_id, replica).stats
    told: dict[str, Any] = {"tenant": tenant.instance_name}
    if chat is not None:
        told["chat"] = chat.jid
    told |= keys_of(await reads.message_stats(chat_id, since=since))
    if wanted.by is not None:
        periods = await reads.stats_by_period(wanted.by, chat_id, since=since)
        told["periods"] = [{"from": day.isoformat(), **keys_of(stats)} for day, stats in periods.items()]
    return told


async def _meant(database: Database, tenant: Tenant, who: str) -> ChatSummary | None:
    found = await SessionStore(database, tenant).find_chats(who, 2)
    exact = [chat for chat in found if chat.name and chat.name.casefold() == who.casefold()]
    if len(found) > 1 and len(exact) != 1:
        raise _NotOne(f"several chats match {who!r}: use the full name or number")
    return next(iter(exact or found), None)


def keys_of(stats: Stats) -> dict[str, Any]:
    """The numbers by the names that the documents give them, and what they are split by."""
    return {
        "total": stats.total,
        "incoming": stats.incoming,
        "outgoing": stats.outgoing,
        "with_media": stats.with_media,
        "commands": stats.commands,
        "failed": stats.failed,
        "by": {by.value: dict(stats.split(by)) for by in By},
    }


def _as_json(told: _Told) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "tenants": told.tenants,
        "tables": [asdict(t) for t in told.tables],
        "folds_accents": told.folds_accents,
    }
    if told.indexes is not None:
        answer["indexes"] = [asdict(i) for i in told.indexes]
    if told.slow is not None:
        answer["slow"] = [asdict(s) for s in told.slow]
    return answer


_KEYS = ("total", "incoming", "outgoing", "with_media", "commands", "failed")


def _as_text(told: _Told) -> list[str]:
    lines: list[str] = []
    for tenant in told.tenants:
        head = tenant["tenant"] + (f", {tenant['chat']}" if "chat" in tenant else "")
        rows = [(head, *(str(tenant[key]) for key in _KEYS))]
        rows += [(p["from"], *(str(p[key]) for key in _KEYS)) for p in tenant.get("periods", ())]
        lines += [*table(("messages", *_KEYS), rows), ""]
        for by, numbers in tenant["by"].items():
            if numbers:
                lines.append(f"by {by}: " + ", ".join(f"{name} {n}" for name, n in numbers.items()))
        lines.append("")
    sizes = [
        (
            t.name + (f" ({t.months} months)" if t.months else ""),
            str(t.row_count),
            size(t.table_bytes),
            size(t.index_bytes),
        )
        for t in told.tables
    ]
    lines += table(("table", "rows (about)", "size", "indexes"), sizes)
    if told.indexes is not None:
        used = [
            (
                i.name,
                i.table_name,
                str(i.scans),
                str(i.tuples_read),
                str(i.tuples_fetched),
                size(i.size_bytes),
            )
            for i in told.indexes
        ]
        lines += ["", *table(("index", "table", "scans", "read", "fetched", "size"), used)]
    if told.slow is not None:
        slow = [
            (" ".join(s.query.split())[:100], str(s.calls), f"{s.mean_ms:.2f}", f"{s.total_ms:.0f}")
            for s in told.slow
        ]
        lines += ["", *table(("statement", "calls", "mean ms", "total ms"), slow)]
    if not told.folds_accents:
        lines += ["", "Search tells accents apart here: the extension unaccent could not be created."]
    return lines


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns under their names: the first to the left, the others to the right."""
    widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head))]
    return [
        "  ".join(
            cell.ljust(width) if n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *rows)
    ]


def size(number: int) -> str:
    """Bytes as people read them."""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TB"
