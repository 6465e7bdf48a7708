"""One account's whole path over real PostgreSQL and the memory transport, on a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from bot.clock import VirtualClock
from bot.desk.stores import Stores
from bot.events import Decided, Event, Events
from bot.metrics import Metrics
from bot.pipeline import Pipeline
from bot.policy import Policy
from bot.reader import StoreReader
from bot.transports.memory import MemoryTransport
from flows.contract import Flow
from flows.keywords import KeywordFlow, KeywordRule
from flows.registry import Flows
from storage.automatic import AutomaticStore
from storage.database import Database
from storage.messages import MessageStore
from storage.models import Action, Arrival, InboundMessage, Receipt
from storage.outbox import OutboxStore
from tests.integration.store_world import NOW, World

# Its owners say the same to each new customer and at once, as no person does.
POLICY = Policy(debounce=timedelta(seconds=2), typing_speed=25.0, learns_automatic=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """A running pipeline, and everything that was told on the way."""

    world: World
    pipeline: Pipeline
    transport: MemoryTransport
    clock: VirtualClock
    told: list[Event]

    @classmethod
    def build(
        cls,
        db: Database,
        world: World,
        *,
        messages: MessageStore | None = None,
        outbox: OutboxStore | None = None,
        answer: str = "From 10 to 50.",
        ai: Mapping[str, Flow] | None = None,
    ) -> Self:
        """`messages` and `outbox` may be stores that fail, or act at a certain moment; so may the flows in `ai`."""
        clock, events, told = VirtualClock(NOW), Events(), list[Event]()
        events.listen(told.append)
        transport = MemoryTransport(clock.now)
        messages = messages or world.messages
        stores = Stores(
            database=db,
            tenants=world.tenants,
            messages=messages,
            sessions=world.sessions,
            outbox=outbox or world.outbox,
            automatic=AutomaticStore(db, world.tenant.tenant_id),
            reader=StoreReader(db, messages, world.sessions, world.tenant),
        )
        keywords = KeywordFlow([KeywordRule(match=("price",), answer=answer)], "Ask me about prices.")
        pipeline = Pipeline(
            account=world.account, tenant=world.tenant, stores=stores, transport=transport,
            flows=Flows(keywords=keywords, ai=ai or {}), clock=clock, policy=POLICY, events=events, metrics=Metrics(),
        )  # fmt: skip
        return cls(world=world, pipeline=pipeline, transport=transport, clock=clock, told=told)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Connected, with the inbox and the outbox at work."""
        coroutines = (
            self.transport.run(
                lambda event: self.see(event) if isinstance(event, InboundMessage | Receipt) else None
            ),
            self.pipeline.inbox.run(),
            self.pipeline.past.run(),
            self.pipeline.outbox.run(),
        )
        tasks = [asyncio.create_task(c) for c in coroutines]
        try:
            yield
            for task in tasks:
                assert not task.done(), "a room has ended by itself"
        finally:
            await self.pipeline.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def see(self, *events: Arrival | InboundMessage | Receipt) -> None:
        """Something happens on the platform."""
        for event in events:
            self.pipeline.receive(event.event if isinstance(event, Arrival) else event)

    async def settle(self) -> None:
        """Let everything come to its end."""
        await self.pipeline.inbox.drained()
        await self.clock.settle()

    @property
    def said(self) -> Sequence[str]:
        """What has reached the customers' phones."""
        return [m.content.text for m in self.transport.sent]

    @property
    def decided(self) -> Sequence[Action]:
        return [e.action for e in self.told if isinstance(e, Decided)]
