"""A post: one account of this daemon, served by a line as long as we have its lease; else it stands by.

A line is made anew each time, as after a restart: while another served the account, all that was in memory grew old.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import structlog

from bot.clock import Clock
from bot.line import Line
from bot.metrics import Metrics
from bot.retry import until_stored
from bot.transports.base import Connection, ConnectionState
from bot.transports.states import shown
from storage.lease import Lease

log = structlog.get_logger(__name__)

_PERIOD_SECONDS = 0.25

_STEPS_BACK = timedelta(seconds=5)
"""By then who has woken up, and logged in before it looked at its lease, has looked, and left."""


class Post:
    """`make` makes a line of the account as it is in the store by then."""

    def __init__(
        self, lease: Lease, make: Callable[[Lease], Awaitable[Line]], clock: Clock, metrics: Metrics
    ) -> None:
        self.name = lease.account.name
        self.line: Line | None = None
        self._lease = lease
        self._make = make
        self._clock = clock
        self._metrics = metrics
        self._fence = lease.fence
        self._since = clock.now()
        self._returns_at: datetime | None = None
        self._has_returned = False

    @property
    def connection(self) -> Connection:
        """As the owner is to see it."""
        if self.line is not None:
            return self.line.connection
        holder = self._lease.holder
        advice = f"another sidestep serves this number ({holder}): this one takes over when that one is gone"
        return shown(ConnectionState.STANDBY, since=self._since, advice=advice if holder else None)

    async def keep(self, group: asyncio.TaskGroup) -> None:
        """Follow the lease until cancelled."""
        while True:
            await self.look(group)
            await asyncio.sleep(_PERIOD_SECONDS)

    async def look(self, group: asyncio.TaskGroup) -> None:
        """Step down where another has the account by now, take it up where it has come to us."""
        if self.line is not None and self._lease.fence != self._fence:
            await self._step_down()
        elif self.line is not None and self._is_to_return(self.line):
            log.warning("account_taken_back", account=self.name)
            await self.line.stop(patience=None)
            self.line = None
        if self.line is None and self._lease.is_ours:
            await self._take_up(group)

    async def stop(self, patience: float) -> None:
        """The daemon ends."""
        if self.line is not None:
            await self.line.stop(patience)

    def _is_to_return(self, line: Line) -> bool:
        """Once for each lease: the session was taken from us, while the lease is ours.

        A daemon that was frozen, and another has replaced, finds its connection lost when it wakes up, and its library
        logs in at once. Who takes the session again is a program that knows of no lease.
        """
        if self._has_returned or line.connection.state is not ConnectionState.REPLACED:
            return False
        self._returns_at = self._returns_at or self._clock.now() + _STEPS_BACK
        self._has_returned = self._clock.now() >= self._returns_at
        return self._has_returned

    async def _take_up(self, group: asyncio.TaskGroup) -> None:
        if self._lease.fence != self._fence:
            self._fence, self._returns_at, self._has_returned = self._lease.fence, None, False
        self.line = await until_stored(lambda: self._make(self._lease))
        log.info("account_taken_up", account=self.name, fence=self._fence)
        await self.line.start(group)

    async def _step_down(self) -> None:
        assert self.line is not None  # noqa: S101  as its caller has seen
        log.warning("account_taken_over", account=self.name, holder=self._lease.holder)
        # What has reached us is recorded, however long that takes: it is whoever serves the account now who answers.
        await self.line.stop(patience=None)
        self.line, self._since = None, self._clock.now()
        self.tell()

    def tell(self) -> None:
        """Nobody is served here yet, or no more."""
        if self.line is None:
            self._metrics.set_connection(self.name, ConnectionState.STANDBY)
            log.info("account_stands_by", account=self.name, holder=self._lease.holder)
