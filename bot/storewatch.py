"""The watch on the store: when nothing can be written for two seconds, the accounts disconnect, and come back after.

WhatsApp queues what arrives for a disconnected device; what arrives while we are connected is
acknowledged by the library before we have stored it. So being away is the safe state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

import structlog

from bot.clock import Clock
from bot.http.health import DatabaseHealth
from bot.line import Line
from bot.retry import held_for
from storage.database import Database
from storage.errors import StoreUnavailable
from storage.lease import Leases

log = structlog.get_logger(__name__)

UNWRITABLE_SECONDS = 2.0
_PERIOD_SECONDS = 0.25
_PROBE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trouble:
    error: str
    advice: str


_SILENT = _Trouble(error="timeout", advice="it does not answer: check that it runs and can be reached")
_BUSY = _Trouble(
    error="busy",
    advice="it answers, and all our connections wait in it: see in pg_stat_activity who holds a lock",
)
_STUCK = _Trouble(
    error="unwritable",
    advice="it answers, and takes no message: see in pg_stat_activity who holds a lock",
)


class StoreWatch:
    """One database, the leases in it that let us serve, and the lines that depend on both; `lines` are those of now.

    A store that hangs tells nothing, so what is judged is the time since anything last went well.
    """

    def __init__(
        self, database: Database, leases: Leases, lines: Callable[[], Sequence[Line]], clock: Clock
    ) -> None:
        self._database = database
        self._leases = leases
        self._lines = lines
        self._clock = clock
        self._good_at = monotonic()
        self._trouble: _Trouble | None = None
        self._probing: asyncio.Task[None] | None = None
        self._moving: asyncio.Task[None] | None = None
        self._suspended = False
        self._health = DatabaseHealth(ok=True, since=clock.now())

    @property
    def health(self) -> DatabaseHealth:
        """The database as of the last look, a quarter of a second ago at most."""
        return self._health

    async def run(self) -> None:
        """Look until cancelled. No look waits for the store, the pool or a platform."""
        self._good_at = monotonic()
        async with asyncio.TaskGroup() as group:
            while True:
                if self._probing is None or self._probing.done():
                    self._probing = group.create_task(self._probe(), name="store-probe")
                self._judge(group)
                await asyncio.sleep(_PERIOD_SECONDS)

    async def _probe(self) -> None:
        waits_for = _SILENT
        try:
            # Where the connection hangs, so does giving it back: this may take longer than it says.
            async with asyncio.timeout(_PROBE_SECONDS):
                # By a connection of their own: what is ours stays ours while all others are taken. After an outage, or
                # a failover, another daemon may have been quicker.
                await self._leases.keep()
                waits_for = _BUSY
                await self._database.fetchval("SELECT 1")
        except StoreUnavailable as exc:
            self._trouble = _told(exc)
        except TimeoutError:
            self._trouble = waits_for
        else:
            self._trouble = None
            self._good_at = monotonic()

    def _judge(self, group: asyncio.TaskGroup) -> None:
        silent = monotonic() - self._good_at
        pipelines = [line.pipeline for line in self._lines()]
        stuck = max((pipeline.inbox.stuck_seconds for pipeline in pipelines), default=0.0)
        trouble = self._trouble
        if trouble is None and silent >= _PROBE_SECONDS + _PERIOD_SECONDS:
            trouble = _SILENT
        elif trouble is None:
            refused = (_told(p.store_trouble) for p in pipelines if p.store_trouble is not None)
            trouble = next(refused, _STUCK if stuck >= _PROBE_SECONDS else None)
        # Where only answers cannot be written all that comes is recorded, and the number stays.
        held = held_for(_PROBE_SECONDS)
        self._show(trouble or (_told(held) if held else None))
        if trouble is None:
            self._set_suspended(False, group)
        elif max(silent, stuck) + _PERIOD_SECONDS >= UNWRITABLE_SECONDS:
            self._set_suspended(True, group)

    def _show(self, trouble: _Trouble | None) -> None:
        error, advice = (None, None) if trouble is None else (trouble.error, trouble.advice)
        if self._health.error != error:
            self._health = DatabaseHealth(
                ok=trouble is None, since=self._clock.now(), error=error, advice=advice
            )

    def _set_suspended(self, suspended: bool, group: asyncio.TaskGroup) -> None:
        if suspended is self._suspended or not (self._moving is None or self._moving.done()):
            return
        self._suspended = suspended
        log.warning(
            "store_lost" if suspended else "store_back",
            connected=not suspended,
            error=self._health.error,
            advice=self._health.advice,
        )
        self._moving = group.create_task(self._move(suspended), name="store-move")

    async def _move(self, suspended: bool) -> None:
        await asyncio.gather(
            *(line.transport.suspend() if suspended else line.transport.resume() for line in self._lines())
        )


def _told(trouble: StoreUnavailable) -> _Trouble:
    return _Trouble(error=trouble.kind, advice=trouble.advice)
