"""The daemon: keeps its accounts' posts and the watch in one task group, and stops in order; it decides nothing.

Stop: the platform goes on until what is under way is done or the time is up, then each line from the outside in.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import structlog

from bot.clock import Clock
from bot.http.health import AccountHealth, DatabaseHealth
from bot.line import Line, cancel
from bot.post import Post
from bot.scheduler import Scheduler
from bot.storewatch import StoreWatch

log = structlog.get_logger(__name__)

DRAIN_SECONDS = 5.0
"""How long a stop waits for what is under way. With the rest of the stop it stays below ten seconds."""

_RECORD_SECONDS = 1.0


class Daemon:
    """All accounts of one process."""

    def __init__(self, posts: Sequence[Post], scheduler: Scheduler, watch: StoreWatch, clock: Clock) -> None:
        self.scheduler = scheduler
        self._posts = posts
        self._watch = watch
        self._clock = clock

    @property
    def lines(self) -> list[Line]:
        """The accounts that are served here now."""
        return lines_of(self._posts)

    # -- the health port --

    async def database(self) -> DatabaseHealth:
        return self._watch.health

    def accounts(self) -> Sequence[AccountHealth]:
        return [AccountHealth(name=post.name, connection=post.connection) for post in self._posts]

    # -- life --

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run for as long as the block; leaving it drains and stops. Raises the first room's failure."""
        async with asyncio.TaskGroup() as group:
            # What is ours is served before anybody asks.
            for post in self._posts:
                await post.look(group)
                post.tell()
            keepers = [group.create_task(post.keep(group), name="post") for post in self._posts]
            watch = group.create_task(self._watch.run(), name="storewatch")
            try:
                yield
            finally:
                await asyncio.shield(self._stop(keepers, watch))

    async def run(self, stop: asyncio.Event) -> None:
        """Run with the scheduler until `stop` is set."""
        async with self.running():
            self.scheduler.start()
            log.info("sidestep_started", accounts=len(self._posts), served=len(self.lines))
            await stop.wait()
            log.info("sidestep_stopping")

    async def _stop(self, keepers: Sequence[asyncio.Task[None]], watch: asyncio.Task[None]) -> None:
        self.scheduler.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._clock.work.idle()
        await cancel(keepers)
        await asyncio.gather(*(post.stop(_RECORD_SECONDS) for post in self._posts))
        await cancel([watch])


def lines_of(posts: Sequence[Post]) -> list[Line]:
    return [post.line for post in posts if post.line is not None]


@asynccontextmanager
async def stop_on_signals() -> AsyncIterator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set; a second one ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
