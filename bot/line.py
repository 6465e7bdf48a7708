"""A line: one account while this daemon serves it, from what its last holder left to the last thing that arrived.

Start: what was left behind, then the rooms from the store outwards, the platform last. Stop: from the outside in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, Protocol

import structlog

from bot.clock import Clock
from bot.media.fetcher import MediaFetcher
from bot.metrics import Metrics
from bot.pipeline import Pipeline
from bot.retry import until_stored
from bot.transports.base import (
    Connection,
    ConnectionChanged,
    ConnectionState,
    History,
    NotConnected,
    Paired,
    PairingCode,
    Transport,
    TransportEvent,
)
from storage.errors import NumberTaken
from storage.models import Account, ChatNamed, InboundMessage, Receipt, Typing, Unopened
from storage.tenants import TenantStore

log = structlog.get_logger(__name__)


class Pairing(Protocol):
    """Who shows a QR text to whoever holds the phone."""

    def show(self, account: Account, code: PairingCode) -> None: ...


class Line:
    """One account: its way to the platform and its path through the daemon."""

    def __init__(
        self,
        *,
        transport: Transport,
        pipeline: Pipeline,
        media: MediaFetcher | None,
        tenants: TenantStore,
        clock: Clock,
        metrics: Metrics,
        pairing: Pairing,
    ) -> None:
        self.transport = transport
        self.pipeline = pipeline
        self.media = media
        self._tenants = tenants
        self._clock = clock
        self._metrics = metrics
        self._pairing = pairing
        self._to_unlink = False  # linked to a number that another account has
        self._rooms: list[asyncio.Task[None]] = []
        self._platform: list[asyncio.Task[None]] = []
        self._background: set[asyncio.Task[None]] = set()
        pipeline.breaker.listen(lambda _: self._connection_changed())

    @property
    def connection(self) -> Connection:
        """As the owner is to see it."""
        return self.pipeline.breaker.show(self.transport.connection)

    async def start(self, group: asyncio.TaskGroup) -> None:
        """Go on where the last holder ended, and connect. A room that fails takes the group with it."""
        await self.pipeline.outbox.recover()
        await self.pipeline.start()
        rooms = {
            "inbox": self.pipeline.inbox.run(),
            "past": self.pipeline.past.run(),
            "outbox": self.pipeline.outbox.run(),
        }
        if self.media is not None:
            rooms["media"] = self.media.run()
        self._rooms = [group.create_task(room, name=name) for name, room in rooms.items()]
        self._platform = [group.create_task(self._run_transport(), name="transport")]

    async def stop(self, patience: float | None) -> None:
        """Disconnect, and record what has come for so many seconds at most; what is open stays so in the store."""
        await cancel(self._platform)
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self.pipeline.drained()
        await self.pipeline.close()
        await cancel([*self._rooms, *self._background])

    async def _run_transport(self) -> None:
        await self.transport.run(self._deliver)
        # It cannot go on by itself. The daemon stays, so that the health page can tell what to do.
        log.error(
            "account_stopped", account=self.pipeline.account.name, state=self.transport.connection.state
        )

    def _deliver(self, event: TransportEvent) -> None:
        match event:
            case InboundMessage() | Unopened() | History() | Receipt() | Typing() | ChatNamed():
                self.pipeline.receive(event)
            case ConnectionChanged():
                self._connection_changed()
                self.pipeline.linked(event.own)
                if self._to_unlink:
                    self._spawn(self._unlink_if_connected())
            case Paired():
                self._spawn(self._remember_pairing(event))
                log.info("account_paired", account=self.pipeline.account.name)
            case PairingCode():
                self._pairing.show(self.pipeline.account, event)

    async def _remember_pairing(self, paired: Paired) -> None:
        account, now = self.pipeline.account, self._clock.now()
        try:
            await until_stored(lambda: self._tenants.set_paired(account, paired.jid, paired.lid, now))
            self.pipeline.outbox.link(now)
        except NumberTaken as taken:
            log.error("number_linked_twice", account=account.name, advice=str(taken))
            self._to_unlink = True
            await self._unlink_if_connected()

    async def _unlink_if_connected(self) -> None:
        # The login comes some moments after the pairing, before or after it could be remembered.
        if self.transport.connection.can_send:
            with suppress(NotConnected):
                await self.transport.unlink()

    def _connection_changed(self) -> None:
        account, connection = self.pipeline.account, self.connection
        if self.media is not None:
            self.media.wake()
        self._metrics.set_connection(account.name, connection.state)
        # Between a failed try and the pause after it there is a moment without a next try: no news, and soon over.
        passing = connection.state is ConnectionState.RECONNECTING and connection.next_try is None
        (log.debug if passing else log.info)(
            "connection_changed",
            account=account.name,
            state=connection.state,
            can_send=connection.can_send,
            can_receive=connection.can_receive,
            next_try=connection.next_try and connection.next_try.isoformat(timespec="seconds"),
            advice=connection.advice,
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._background.add(task := asyncio.create_task(work))
        task.add_done_callback(self._background.discard)


async def cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    """End these tasks, and wait until they have."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
