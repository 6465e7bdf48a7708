"""One virtual time for several daemons, each of which counts its own work; and it does not wait for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from bot.clock import Clock, VirtualClock, Work

_A_MOMENT = (
    0.02  # seconds: enough for what PostgreSQL is doing; how much of it is done may differ from game to game
)


class Together(Work):
    """What several daemons do, taken together."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[Work] = []

    @property
    def is_idle(self) -> bool:
        return all(part.is_idle for part in self.parts)

    async def idle(self) -> None:
        while busy := [part for part in self.parts if not part.is_idle]:
            await busy[0].idle()


class Time(VirtualClock):
    """The time of a game. While a send or a model hangs, or a daemon is frozen, it passes all the same."""

    def __init__(self, start: datetime) -> None:
        super().__init__(start)
        self.work: Together = Together()

    async def press_on(self, duration: timedelta) -> None:
        target = self.now() + duration
        with suppress(TimeoutError):
            async with asyncio.timeout(_A_MOMENT):
                await self.advance(duration)
        while self._fire_next(target):  # noqa: ASYNC110  a step for whoever was woken, before the next is
            await asyncio.sleep(0)
        self._now = max(self._now, target)


class Watch(Clock):
    """One daemon's look at the time. The count of its work goes with it."""

    def __init__(self, time: Time) -> None:
        super().__init__()
        self._time = time
        time.work.parts.append(self.work)

    def now(self) -> datetime:
        return self._time.now()

    def call_at(self, at: datetime, callback: Callable[[], None]) -> Callable[[], None]:
        return self._time.call_at(at, callback)

    async def settle(self) -> None:
        await self._time.settle()

    def stop(self) -> None:
        self._time.work.parts.remove(self.work)
