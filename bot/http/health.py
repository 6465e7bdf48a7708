"""What readiness means, and the port through which the daemon tells it; asks no platform and no database itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from bot.transports.base import Connection

DATABASE_SECONDS = 3.0
"""A database that takes longer to answer is not one to record messages in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseHealth:
    """The database as of one look. `error` is the kind of the failure, never its text; `advice` what to do."""

    ok: bool
    since: datetime
    error: str | None = None
    advice: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountHealth:
    """One account by its configured name, and its connection as of one look."""

    name: str
    connection: Connection


class HealthPort(Protocol):
    """What the daemon tells about itself. Neither call raises."""

    async def database(self) -> DatabaseHealth:
        """Whether the database answers now."""
        ...

    def accounts(self) -> Sequence[AccountHealth]:
        """Every account that this daemon serves."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Whether messages can be recorded and answered now, and if not, why."""

    database: DatabaseHealth
    accounts: tuple[AccountHealth, ...]

    @property
    def ready(self) -> bool:
        if not self.accounts:
            return False
        return self.database.ok and all(
            account.connection.can_send and account.connection.can_receive for account in self.accounts
        )

    @property
    def advice(self) -> str | None:
        """What concerns no one account; each of them has an advice of its own."""
        return None if self.accounts else "there is no number: add one with sidestep account add NAME"

    def as_json(self) -> dict[str, Any]:
        """`{"ready", "advice", "database": {…}, "accounts": {name: {…}}}`."""
        return {
            "ready": self.ready,
            "advice": self.advice,
            "database": {
                "ok": self.database.ok,
                "since": self.database.since.isoformat(),
                "error": self.database.error,
                "advice": self.database.advice,
            },
            "accounts": {account.name: _connection_json(account.connection) for account in self.accounts},
        }


async def read_readiness(port: HealthPort) -> Readiness:
    """One look at everything; a database that hangs counts as not answering."""
    asked_at = datetime.now(UTC)
    try:
        async with asyncio.timeout(DATABASE_SECONDS):
            database = await port.database()
    except TimeoutError:
        database = DatabaseHealth(ok=False, since=asked_at, error="timeout")
    return Readiness(database=database, accounts=tuple(port.accounts()))


def _connection_json(connection: Connection) -> dict[str, Any]:
    return {
        "state": connection.state.value,
        "since": connection.since.isoformat(),
        "can_send": connection.can_send,
        "can_receive": connection.can_receive,
        "next_try": None if connection.next_try is None else connection.next_try.isoformat(),
        "advice": connection.advice,
    }
