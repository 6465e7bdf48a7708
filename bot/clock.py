"""Time and waiting: the real clock, a virtual one, and the count of work under way; nothing else reads the time.

Whoever waits for a moment does it here, so that a virtual clock can tell work from waiting: it
stands still while anything works, and jumps when all that is left is waiting.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any


class Work:
    """How much is under way; a clean stop and a virtual clock both wait for none."""

    def __init__(self) -> None:
        self._count = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def begin(self) -> None:
        self._count += 1
        self._idle.clear()

    def end(self) -> None:
        self._count -= 1
        if self._count == 0:
            self._idle.set()

    @contextmanager
    def doing(self) -> Iterator[None]:
        self.begin()
        try:
            yield
        finally:
            self.end()

    def count(self, task: asyncio.Task[Any]) -> None:
        """Until it is done; one that is cancelled before its first step could not say so itself."""
        self.begin()
        task.add_done_callback(lambda _: self.end())

    @property
    def is_idle(self) -> bool:
        return self._count == 0

    async def idle(self) -> None:
        """Wait until nothing is under way, not even what is waiting on the clock has yet been woken."""
        await self._idle.wait()


class Clock(ABC):
    """The daemon's time. `work` counts what runs; a wait on the clock does not count."""

    def __init__(self) -> None:
        self.work = Work()

    @abstractmethod
    def now(self) -> datetime:
        """Aware, UTC."""

    @abstractmethod
    def call_at(self, at: datetime, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back once at a moment; returns what cancels it."""

    @abstractmethod
    async def settle(self) -> None:
        """Let everything that is under way come to its end, waits included."""

    async def sleep(self, duration: timedelta) -> None:
        """Wait, while counted as work that the caller has begun."""
        if duration > timedelta(0):
            await Alarm(self).wait(self.now() + duration)


class _Waiter(asyncio.Future[bool]):
    """Somebody waiting on the clock; counted as work again from the moment in which they are woken or cancelled."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self._work = work

    def wake(self, rung: bool) -> None:
        # Counted by the waker: between the ring and the waiter's next step nothing must look idle.
        if not self.done():
            self._work.begin()
            self.set_result(rung)

    def cancel(self, msg: object | None = None) -> bool:
        cancelled = super().cancel(msg)
        if cancelled:
            self._work.begin()
        return cancelled


class Alarm:
    """Wakes one waiter: when it is rung, or at a moment. Ringing before the wait is not lost."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rung = False
        self._waiter: _Waiter | None = None

    def ring(self) -> None:
        if self._waiter is None:
            self._rung = True
        else:
            self._waiter.wake(True)

    async def wait(self, until: datetime | None = None) -> bool:
        """True when rung, False when the time has come. The caller's work is not counted meanwhile."""
        if self._rung:
            self._rung = False
            return True
        waiter = self._waiter = _Waiter(self._clock.work)
        cancel = self._clock.call_at(until, lambda: waiter.wake(False)) if until else None
        self._clock.work.end()
        try:
            return await waiter
        finally:
            self._waiter = None
            if cancel:
                cancel()


class SystemClock(Clock):
    """The machine's clock."""

    def __init__(self) -> None:
        super().__init__()
        self._timers: set[asyncio.TimerHandle] = set()

    def now(self) -> datetime:
        return datetime.now(UTC)

    def call_at(self, at: datetime, callback: Callable[[], None]) -> Callable[[], None]:
        def fire() -> None:
            self._timers.discard(timer)
            callback()

        def cancel() -> None:
            self._timers.discard(timer)
            timer.cancel()

        seconds = max(0.0, (at - self.now()).total_seconds())
        timer = asyncio.get_running_loop().call_later(seconds, fire)
        self._timers.add(timer)
        return cancel

    async def settle(self) -> None:
        await self.work.idle()
        while self._timers:
            next_at = min(timer.when() for timer in self._timers)
            await asyncio.sleep(max(0.0, next_at - asyncio.get_running_loop().time()))
            await self.work.idle()


class VirtualClock(Clock):
    """A clock that stands still until it is moved: for `sidestep chat --jsonl` and for tests."""

    def __init__(self, start: datetime | None = None) -> None:
        super().__init__()
        self._now = start or datetime.now(UTC)
        self._order = itertools.count()
        self._timers: list[tuple[datetime, int, Callable[[], None]]] = []
        self._cancelled: set[int] = set()

    def now(self) -> datetime:
        return self._now

    def call_at(self, at: datetime, callback: Callable[[], None]) -> Callable[[], None]:
        number = next(self._order)
        heapq.heappush(self._timers, (at, number, callback))
        return lambda: self._cancelled.add(number)

    async def settle(self) -> None:
        """The clock moves on as far as that requires."""
        await self.work.idle()
        while self._fire_next(None):
            await self.work.idle()

    async def advance(self, duration: timedelta) -> None:
        """Move on, stopping at every moment that something waits for."""
        target = self._now + duration
        await self.work.idle()
        while self._fire_next(target):
            await self.work.idle()
        self._now = target

    def jump(self, duration: timedelta) -> None:
        """Move on while nothing else does, as time does for a process that is stopped: all are woken late."""
        target = self._now + duration
        while self._fire_next(target):
            pass
        self._now = target

    def _fire_next(self, limit: datetime | None) -> bool:
        while self._timers and self._timers[0][1] in self._cancelled:
            self._cancelled.discard(heapq.heappop(self._timers)[1])
        if not self._timers or (limit is not None and self._timers[0][0] > limit):
            return False
        at, _, callback = heapq.heappop(self._timers)
        self._now = max(self._now, at)
        callback()
        return True
