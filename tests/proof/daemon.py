"""One daemon of a game: the real post with the real line behind it. It may be frozen, killed, and lose its account."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from bot.desk.stores import Stores
from bot.events import Events
from bot.line import Line
from bot.metrics import Metrics
from bot.pipeline import Pipeline
from bot.post import Post
from bot.reader import StoreReader
from bot.scheduler import Scheduler
from bot.transports.base import Content, Deliver, PairingCode, Sent, TransportError, TransportEvent
from bot.transports.memory import MemoryTransport
from flows.keywords import KeywordFlow
from flows.registry import Flows
from storage.automatic import AutomaticStore
from storage.database import Connection, Database
from storage.lease import Lease, Leases
from storage.messages import MessageStore
from storage.models import Account, Claim, Due, Jid
from storage.outbox import OutboxStore
from storage.sessions import SessionStore
from storage.tenants import TenantStore
from tests.integration.store_world import OWNER
from tests.proof.clock import Watch

if TYPE_CHECKING:
    from tests.proof.shop import Shop

_LONGER_THAN_A_GAME = timedelta(hours=1)


class Reach(Database):
    """PostgreSQL as this daemon reaches it. While it is frozen nothing is asked, and no answer is heard."""

    def __init__(self, shared: Database) -> None:
        super().__init__(shared._pool, shared.address)
        self.going = asyncio.Event()
        self.going.set()

    @asynccontextmanager
    async def _acquire(self, *, clean: bool) -> AsyncIterator[Connection]:
        await self.going.wait()
        async with super()._acquire(clean=clean) as connection:
            yield connection
        await self.going.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """When a daemon asked to be given something to send."""

    order: int
    at: datetime


class NotedOutbox(OutboxStore):
    """The real one; what is claimed is noted before it is asked for."""

    def __init__(self, daemon: Daemon, lease: Lease) -> None:
        super().__init__(daemon.reach, daemon.shop.account, lease)
        self._daemon = daemon

    async def claim(self, due: Due, now: datetime, oldest: datetime) -> Claim:
        self._daemon.asked[due.outgoing.text] = Asked(order=self._daemon.shop.next_order(), at=now)
        return await super().claim(due, now, oldest)


class Phones(MemoryTransport):
    """The platform: what waits there for the daemon, and its phones, outlive it."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__(daemon.clock.now, own=(OWNER.jid,))
        self._daemon = daemon

    def take_over(self, other: Phones) -> None:
        """What waits at the platform is handed over to us."""
        self._queued, other._queued = other._queued, self._queued

    @property
    def is_waiting(self) -> bool:
        """Whether something waits there for a connection."""
        return bool(self._queued)

    async def run(self, deliver: Deliver) -> None:
        def hand_over(event: TransportEvent) -> None:
            self._daemon.shop.note(event, self._daemon)
            deliver(event)

        await super().run(hand_over)

    async def send(self, to: Jid, prepared: object) -> Sent:
        # Nothing is awaited before this: it is the very start of the send.
        assert isinstance(prepared, Content)
        shop = self._daemon.shop
        send = shop.note_start(self._daemon, to, prepared.text)
        try:
            sent = await super().send(to, prepared)
        except TransportError as exc:
            send.left, send.ended = shop.may_have_left(exc), shop.next_order()
            raise
        send.ended, send.external_id = shop.next_order(), sent.external_id
        return sent


class Nobody:
    """No phone is linked in a game."""

    def show(self, account: Account, code: PairingCode) -> None:
        raise AssertionError("nothing is to be paired")


class Daemon:
    """As a process: what it knows goes with it. `lost_at`: when another took its account, which it may not know."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self._number = shop.next_order()
        self.reach = Reach(shop.world.db)
        self.clock = Watch(shop.time)
        self.asked: dict[str, Asked] = {}
        self.lost_at: int | None = None
        self._metrics = Metrics()
        # Its session is no part of what freezes: the server keeps it, whoever has fallen silent.
        self._leases = Leases(shop.world.db, [shop.account], _LONGER_THAN_A_GAME, to_serve=True)
        self._post = Post(self._leases.each[0], self._line, self.clock, self._metrics)
        self.scheduler = Scheduler(lambda: self.pipelines, self.clock, self._metrics)
        self._rooms = asyncio.TaskGroup()
        self._ready = asyncio.Event()
        self._process = asyncio.create_task(self._live())

    def __repr__(self) -> str:
        return f"daemon {self._number}"

    async def _live(self) -> None:
        async with self._rooms:
            self._ready.set()
            await asyncio.Event().wait()

    @property
    def pipelines(self) -> list[Pipeline]:
        """The one of the account, while this daemon believes that it is its own."""
        return [self._post.line.pipeline] if self._post.line is not None else []

    @property
    def is_frozen(self) -> bool:
        return not self.reach.going.is_set()

    def freeze(self) -> None:
        """It stops between two steps; what is on its way to PostgreSQL arrives there."""
        self.reach.going.clear()

    def go_on(self) -> None:
        self.reach.going.set()

    async def look(self) -> None:
        """Look at the lease, as a daemon does four times a second, and serve or stand by accordingly."""
        self.go_on()
        await self._ready.wait()
        await self._leases.keep()
        if self._leases.each[0].is_ours:
            self.shop.note_holder(self)
        await self._post.look(self._rooms)

    async def kill(self) -> None:
        """It is gone between two steps of the loop; what PostgreSQL was told it may have done or not."""
        self._process.cancel()
        with suppress(asyncio.CancelledError):
            await self._process
        for pipeline in self.pipelines:
            await pipeline.close()
        self.clock.stop()
        self.go_on()
        await self._leases.release()

    async def _line(self, lease: Lease) -> Line:
        world, shop = self.shop.world, self.shop
        messages, tenants = MessageStore(self.reach), TenantStore(self.reach)
        sessions = SessionStore(self.reach, world.tenant)
        stores = Stores(
            database=self.reach,
            tenants=tenants,
            messages=messages,
            sessions=sessions,
            outbox=NotedOutbox(self, lease),
            automatic=AutomaticStore(self.reach, world.tenant.tenant_id),
            reader=StoreReader(self.reach, messages, sessions, world.tenant),
        )
        events = Events()
        events.listen(partial(shop.hear, self))
        phones = Phones(self)
        shop.link(phones)
        pipeline = Pipeline(
            account=world.account, tenant=world.tenant, stores=stores, transport=phones,
            flows=Flows(keywords=KeywordFlow([], ""), ai={"anthropic": shop}), clock=self.clock, policy=shop.policy,
            events=events, metrics=self._metrics,
        )  # fmt: skip
        return Line(
            transport=phones, pipeline=pipeline, media=None, tenants=tenants, clock=self.clock,
            metrics=self._metrics, pairing=Nobody(),
        )  # fmt: skip
