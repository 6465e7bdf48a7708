"""The daemon: starts everything in order, keeps it in one task group, and stops it in order; it decides nothing.

Start: what the last daemon left behind, then the rooms from the store outwards, the platform last.
Stop: the platform goes on until what is under way is done or the time is up, then from the outside in.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

import structlog

from bot.clock import Clock
from bot.http.health import AccountHealth, DatabaseHealth
from bot.metrics import Metrics
from bot.retry import until_stored
from bot.scheduler import Scheduler
from bot.storewatch import Line, StoreWatch
from bot.transports.base import Connection, ConnectionChanged, Paired, PairingCode, TransportEvent
from storage.models import Account, InboundMessage, Receipt, Typing
from storage.tenants import TenantStore

log = structlog.get_logger(__name__)

DRAIN_SECONDS = 5.0
"""How long a stop waits for what is under way. With the rest of the stop it stays below ten seconds."""

_RECORD_SECONDS = 1.0


class Pairing(Protocol):
    """Who shows a QR text to whoever holds the phone."""

    def show(self, account: Account, code: PairingCode) -> None: ...


class Daemon:
    """All accounts of one process."""

    def __init__(
        self,
        lines: Sequence[Line],
        tenants: TenantStore,
        scheduler: Scheduler,
        watch: StoreWatch,
        clock: Clock,
        metrics: Metrics,
        pairing: Pairing,
    ) -> None:
        self.lines = lines
        self.scheduler = scheduler
        self._tenants = tenants
        self._watch = watch
        self._clock = clock
        self._metrics = metrics
        self._pairing = pairing
        self._background: set[asyncio.Task[None]] = set()

    # -- the health port --

    async def database(self) -> DatabaseHealth:
        return self._watch.health

    def accounts(self) -> Sequence[AccountHealth]:
        return [
            AccountHealth(name=line.pipeline.account.name, connection=line.transport.connection)
            for line in self.lines
        ]

    # -- life --

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run for as long as the block; leaving it drains and stops. Raises the first room's failure."""
        await self._recover()
        async with asyncio.TaskGroup() as group:
            inner = [group.create_task(self._watch.run(), name="storewatch")]
            for line in self.lines:
                inner.append(group.create_task(line.pipeline.inbox.run(), name="inbox"))
                inner.append(group.create_task(line.pipeline.outbox.run(), name="outbox"))
            platforms = [
                group.create_task(self._run_transport(line), name="transport") for line in self.lines
            ]
            try:
                yield
            finally:
                await asyncio.shield(self._stop(platforms, inner))

    async def run(self, stop: asyncio.Event) -> None:
        """Run with the scheduler until `stop` is set."""
        async with self.running():
            self.scheduler.start()
            log.info("sidestep_started", accounts=len(self.lines))
            await stop.wait()
            log.info("sidestep_stopping")

    async def _recover(self) -> None:
        for line in self.lines:
            await line.pipeline.outbox.recover()
            await line.pipeline.recover()

    async def _stop(self, platforms: list[asyncio.Task[None]], inner: list[asyncio.Task[None]]) -> None:
        self.scheduler.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._clock.work.idle()
        await _cancel(platforms)
        with suppress(TimeoutError):
            async with asyncio.timeout(_RECORD_SECONDS):
                await asyncio.gather(*(line.pipeline.inbox.drained() for line in self.lines))
        await asyncio.gather(*(line.pipeline.close() for line in self.lines))
        await _cancel([*inner, *self._background])

    async def _run_transport(self, line: Line) -> None:
        account = line.pipeline.account

        def deliver(event: TransportEvent) -> None:
            match event:
                case InboundMessage() | Receipt() | Typing():
                    line.pipeline.receive(event)
                case ConnectionChanged():
                    self._connection_changed(account, event.connection)
                    line.pipeline.linked(event.own)
                case Paired():
                    self._spawn(self._remember_pairing(account, event))
                    log.info("account_paired", account=account.name)
                case PairingCode():
                    self._pairing.show(account, event)

        await line.transport.run(deliver)
        # It cannot go on by itself. The daemon stays, so that the health page can tell what to do.
        log.error("account_stopped", account=account.name, state=line.transport.connection.state)

    async def _remember_pairing(self, account: Account, paired: Paired) -> None:
        now = self._clock.now()
        await until_stored(lambda: self._tenants.set_paired(account, paired.jid, paired.lid, now))

    def _connection_changed(self, account: Account, connection: Connection) -> None:
        self._metrics.set_connection(account.name, connection.state)
        log.info("connection_changed", account=account.name, state=connection.state, advice=connection.advice)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._background.add(task := asyncio.create_task(work))
        task.add_done_callback(self._background.discard)


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


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
