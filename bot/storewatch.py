"""The watch on the store: when nothing can be written for two seconds, the accounts disconnect, and come back after.

WhatsApp queues what arrives for a disconnected device; what arrives while we are connected is
acknowledged by the library before we have stored it. So being away is the safe state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from bot.clock import Clock
from bot.http.health import DatabaseHealth
from bot.pipeline import Pipeline
from bot.transports.base import Transport
from storage.database import Database
from storage.errors import StoreUnavailable
from storage.hold import Hold

log = structlog.get_logger(__name__)

UNWRITABLE_SECONDS = 2.0
_PERIOD_SECONDS = 0.25
_PROBE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One account: its way to the platform and its path through the daemon."""

    transport: Transport
    pipeline: Pipeline


class StoreWatch:
    """One database, and the lines that depend on it."""

    def __init__(self, database: Database, hold: Hold, lines: Sequence[Line], clock: Clock) -> None:
        self._database = database
        self._hold = hold
        self._lines = lines
        self._clock = clock
        self._failing_since: float | None = None
        self._suspended = False
        self._health = DatabaseHealth(ok=True, since=clock.now())

    @property
    def health(self) -> DatabaseHealth:
        """The database as of the last look, a quarter of a second ago at most."""
        return self._health

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            error = await self._probe()
            await self._judge(error)
            await asyncio.sleep(_PERIOD_SECONDS)

    async def _probe(self) -> str | None:
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                await self._database.fetchval("SELECT 1")
                # After an outage, or a failover, another daemon may have been quicker.
                if await self._hold.take() is not None:
                    return "account_in_use"
        except StoreUnavailable as exc:
            return type(exc.__cause__ or exc).__name__
        except TimeoutError:
            return "timeout"
        return "unwritable" if any(line.pipeline.is_store_failing for line in self._lines) else None

    async def _judge(self, error: str | None) -> None:
        now = asyncio.get_running_loop().time()
        if self._health.error != error:
            self._health = DatabaseHealth(ok=error is None, since=self._clock.now(), error=error)
        if error is None:
            self._failing_since = None
            await self._set_suspended(False)
        elif self._failing_since is None:
            self._failing_since = now
        elif now - self._failing_since + _PERIOD_SECONDS >= UNWRITABLE_SECONDS:
            await self._set_suspended(True)

    async def _set_suspended(self, suspended: bool) -> None:
        if suspended is self._suspended:
            return
        self._suspended = suspended
        log.warning("store_lost" if suspended else "store_back", connected=not suspended)
        for line in self._lines:
            await (line.transport.suspend() if suspended else line.transport.resume())
