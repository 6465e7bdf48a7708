"""Fetches the files of messages that are recorded, one at a time an account, behind all that is live.

What is to be fetched stands in the database, since the commit that recorded its message. Whatever goes wrong here
is written there, and no message waits for it.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from time import monotonic

import structlog

from bot.clock import Clock
from bot.media.keeper import Keeper
from bot.media.places import PlaceError
from bot.metrics import Metrics
from bot.transports.base import MediaExpired, MediaLost, NotConnected, Transport
from storage.database import Database
from storage.errors import StoreUnavailable
from storage.media import DueMedium, MediaStatus, MediaStore
from storage.models import Account

log = structlog.get_logger(__name__)

_PAUSES = tuple(timedelta(seconds=seconds) for seconds in (10, 60, 300, 1_800, 7_200, 21_600, 43_200, 86_400))
# No fault of the file's: it is tried for as long as it takes.
_PLACE_PAUSE = timedelta(minutes=2)
# What others have queued is found so soon: a command, or a daemon that was killed.
_POLL_SECONDS = 5.0
_SWEEP_SECONDS = 60.0


class MediaFetcher:
    """One account's. `most_bytes`: what is larger is not fetched; None: nothing is, and files are only tidied away."""

    def __init__(
        self,
        account: Account,
        transport: Transport,
        database: Database,
        keeper: Keeper,
        clock: Clock,
        metrics: Metrics,
        *,
        most_bytes: int | None,
    ) -> None:
        self._account = account
        self._transport = transport
        self._store = MediaStore(database)
        self._keeper = keeper
        self._clock = clock
        self._metrics = metrics
        self._most_bytes = most_bytes
        self._woken = asyncio.Event()
        self._swept_at = monotonic()

    def wake(self) -> None:
        """Something is to be fetched, or can be now."""
        self._woken.set()

    async def run(self) -> None:
        """Fetch until cancelled; what is under way then is fetched by the next run."""
        while True:
            self._woken.clear()
            try:
                await self._sweep()
                if await self.step():
                    continue
                pause = await self._pause()
            except StoreUnavailable:
                pause = _POLL_SECONDS
            try:
                async with asyncio.timeout(pause):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def step(self) -> bool:
        """Fetch the one that has waited longest; False: there is none, or none can be fetched now."""
        if self._most_bytes is None or not self._transport.connection.can_receive:
            return False
        due = await self._store.take_due(self._account, self._clock.now(), _PAUSES)
        if due is None:
            return False
        try:
            await self._fetch(due, self._most_bytes)
        except StoreUnavailable:
            raise
        except Exception as exc:
            # A mistake of ours must not cost the other media theirs; this one is due again later.
            log.exception("media_failed", media_id=due.media_id)
            await self._failed(due, type(exc).__name__)
        return True

    async def _fetch(self, due: DueMedium, most_bytes: int) -> None:
        if due.raw is None:
            await self._settle(due, MediaStatus.FAILED, "what was recorded of its message is no longer kept")
            return
        try:
            medium = await self._transport.download(due.raw, most_bytes=most_bytes)
            await self._keeper.keep(
                due.tenant_id, due.media_id, medium.data, self._clock.now(), name=medium.name
            )
        except NotConnected as exc:
            if self._transport.connection.can_receive:
                await self._failed(due, str(exc))
            else:
                # Not asked for at all: as before, and first when we are connected.
                await self._later(due, str(exc), timedelta())
        except MediaExpired as exc:
            await self._settle(due, MediaStatus.EXPIRED, str(exc))
        except MediaLost as exc:
            await self._settle(due, MediaStatus.FAILED, str(exc))
        except PlaceError as exc:
            log.error("media_not_stored", media_id=due.media_id, error=str(exc))
            await self._later(due, str(exc), _PLACE_PAUSE)
        else:
            self._metrics.count_media(MediaStatus.STORED)
            log.info("media_stored", media_id=due.media_id, type=due.type, size_bytes=len(medium.data))

    async def _failed(self, due: DueMedium, error: str) -> None:
        if due.attempts > len(_PAUSES):
            await self._settle(due, MediaStatus.FAILED, error)
            return
        at = self._clock.now() + _PAUSES[due.attempts - 1]
        await self._store.postpone(due, error, at, attempts=due.attempts)

    async def _later(self, due: DueMedium, error: str, pause: timedelta) -> None:
        await self._store.postpone(due, error, self._clock.now() + pause, attempts=due.attempts - 1)

    async def _settle(self, due: DueMedium, status: MediaStatus, error: str) -> None:
        await self._store.settle(due, status, error)
        self._metrics.count_media(status)
        log.info("media_not_fetched", media_id=due.media_id, type=due.type, status=status, reason=error)

    async def _pause(self) -> float:
        """Seconds until something may be due; others may queue it meanwhile."""
        if self._most_bytes is None or not self._transport.connection.can_receive:
            return _POLL_SECONDS
        at: datetime | None = await self._store.next_due_at(self._account)
        if at is None:
            return _POLL_SECONDS
        return min(max((at - self._clock.now()).total_seconds(), 0.05), _POLL_SECONDS)

    async def _sweep(self) -> None:
        if monotonic() - self._swept_at >= _SWEEP_SECONDS:
            self._swept_at = monotonic()
            await self._keeper.sweep(self._account.tenant_id)
