"""One account's whole path over real PostgreSQL, with phones that remember what happened when; it judges nothing.

Everything that the daemon sees and everything that leaves it gets a number, in the order of the event loop, so that
"after" is a fact and not a guess.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from bot.clock import VirtualClock
from bot.desk import Stores
from bot.events import Event, Events, StatusMoved
from bot.metrics import Metrics
from bot.pipeline import Pipeline
from bot.policy import Policy
from bot.reader import StoreReader
from bot.scheduler import Scheduler
from bot.transports.base import Content, Sent, TransportError, TransportEvent
from bot.transports.memory import MemoryTransport
from flows.contract import Outcome, Pause, Reply, Turn
from flows.keywords import KeywordFlow
from flows.registry import Flows
from storage.automatic import AutomaticStore
from storage.database import Database
from storage.models import (
    Account,
    Action,
    ExternalId,
    HumanSeen,
    InboundMessage,
    Jid,
    MessageId,
    PauseReason,
    Receipt,
    Status,
    Tenant,
)
from tests.integration.store_world import NOW, SHOP, World

# The owner of the games answers every new customer with the same words and at once, as no person does.
POLICY = Policy(typing_speed=25.0, learns_automatic=False)
_PATIENCE_SECONDS = 60.0
_A_MOMENT = (
    0.02  # seconds: enough for what PostgreSQL is doing; how much of it is done may differ from game to game
)
_names = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A message that has reached the daemon, as `order`-th of all that happened; `repeated`: it came before."""

    order: int
    event: InboundMessage
    repeated: bool


@dataclass(slots=True, kw_only=True)
class Send:
    """A send from its start. `made` is when the flow began to make the text, `ids` are the messages that it answers.

    `ended` is None while it is under way or was cut off; `left` says that it may have reached the phone.
    """

    order: int
    to: Jid
    made: int
    ids: tuple[ExternalId, ...]
    started_at: datetime
    ended: int | None = None
    left: bool = True
    external_id: ExternalId | None = None


class PressingClock(VirtualClock):
    """A virtual clock that does not wait for ever: while a send or a model hangs, time passes all the same."""

    async def press_on(self, duration: timedelta) -> None:
        target = self.now() + duration
        with suppress(TimeoutError):
            async with asyncio.timeout(_A_MOMENT):
                await self.advance(duration)
        while self._fire_next(target):  # noqa: ASYNC110  a step for whoever was woken, before the next is
            await asyncio.sleep(0)
        self._now = max(self._now, target)


class Phones(MemoryTransport):
    """The platform: its queue and its phones outlive the daemon."""

    def __init__(self, shop: Shop, waiting: list[TransportEvent]) -> None:
        super().__init__(shop.clock.now, own=(Jid(f"{SHOP.owner[1:]}@s.whatsapp.net"),))
        self._shop = shop
        self._queued = waiting

    @property
    def waiting(self) -> list[TransportEvent]:
        """What waits at the platform for the next connection."""
        return self._queued

    async def send(self, to: Jid, prepared: object) -> Sent:
        # Nothing is awaited before this: it is the very start of the send.
        send = self._shop.note_start(to, prepared)
        try:
            sent = await super().send(to, prepared)
        except TransportError as exc:
            send.left, send.ended = self._shop.may_have_left(exc), self._shop.next_order()
            raise
        send.ended, send.external_id = self._shop.next_order(), sent.external_id
        return sent


@dataclass(kw_only=True)
class Shop:
    """A tenant of its own in a shared database, a daemon that may crash, and all that was seen of it."""

    world: World
    may_have_left: Callable[[TransportError], bool]
    clock: PressingClock = field(default_factory=lambda: PressingClock(NOW))
    thinking: asyncio.Event = field(default_factory=asyncio.Event)
    seen: list[Seen] = field(default_factory=list)
    sends: list[Send] = field(default_factory=list)
    statuses: dict[MessageId, list[Status]] = field(default_factory=dict)
    on_start: Callable[[Send], None] = lambda send: None
    name: str = "ai"
    action: Action = Action.AI_REPLIED

    def __post_init__(self) -> None:
        self._order = itertools.count(1)
        self._ids: set[tuple[ExternalId, bool]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self.thinking.set()

    @classmethod
    async def open(cls, db: Database, may_have_left: Callable[[TransportError], bool]) -> Shop:
        tenant = replace(SHOP, instance_name=f"shop-{next(_names)}", llm_provider="anthropic")
        shop = cls(world=await World.open(db, tenant), may_have_left=may_have_left)
        await shop.start([])
        return shop

    @property
    def account(self) -> Account:
        return self.world.account

    @property
    def tenant(self) -> Tenant:
        return self.world.tenant

    # -- what happens, in order --

    def next_order(self) -> int:
        return next(self._order)

    def note_start(self, to: Jid, prepared: object) -> Send:
        assert isinstance(prepared, Content)
        kind, _, rest = prepared.text.partition(" ")
        made, *ids = rest.split() if kind == "answer" else ["0"]
        send = Send(
            order=self.next_order(), to=to, made=int(made), ids=tuple(map(ExternalId, ids)),
            started_at=self.clock.now(),
        )  # fmt: skip
        self.sends.append(send)
        self.on_start(send)
        return send

    def deliver(self, event: TransportEvent) -> None:
        if isinstance(event, InboundMessage):
            key = (event.external_id, event.from_me)
            self.seen.append(Seen(order=self.next_order(), event=event, repeated=key in self._ids))
            self._ids.add(key)
        if isinstance(event, InboundMessage | HumanSeen | Receipt):
            self.pipeline.receive(event)

    async def run(self, turn: Turn) -> AsyncIterator[Outcome]:
        """The flow: it names what it answers, thinks as long as it is told, and may hand the chat over."""
        made = self.next_order()
        await self.thinking.wait()
        if turn.text.endswith("handoff"):
            yield Pause(chat_id=turn.chat.chat_id, reason=PauseReason.AI_HANDOFF)
            yield Reply(text="handoff", unfenced=True)
        else:
            yield Reply(text=f"answer {made} {' '.join(str(m.external_id) for m in turn.messages)}")

    # -- the daemon's life --

    async def start(self, waiting: list[TransportEvent]) -> None:
        events = Events()
        events.listen(self._hear)
        world = self.world
        stores = Stores(
            database=world.db,
            tenants=world.tenants,
            messages=world.messages,
            sessions=world.sessions,
            outbox=world.outbox,
            automatic=AutomaticStore(world.db, world.tenant.tenant_id),
            reader=StoreReader(world.db, world.messages, world.sessions, world.tenant),
        )
        self.phones = Phones(self, waiting)
        self.pipeline = Pipeline(
            account=world.account, tenant=world.tenant, stores=stores, transport=self.phones,
            flows=Flows(keywords=KeywordFlow([], ""), ai={"anthropic": self}), clock=self.clock, policy=POLICY,
            events=events, metrics=Metrics(),
        )  # fmt: skip
        self.scheduler = Scheduler(lambda: [self.pipeline], self.clock, Metrics())
        await self.pipeline.outbox.recover()
        await self.pipeline.recover()
        rooms = (
            self.pipeline.inbox.run(),
            self.pipeline.past.run(),
            self.pipeline.outbox.run(),
            self.phones.run(self.deliver),
        )
        self._tasks = [asyncio.create_task(room) for room in rooms]

    async def crash(self) -> None:
        """The daemon is gone between two steps of the loop; what PostgreSQL was told it may have done or not."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.pipeline.close()
        # The count of work under way went with the process.
        self.clock.work = type(self.clock.work)()
        await self._forget_unrecorded()

    async def restart(self) -> None:
        waiting = self.phones.waiting
        await self.crash()
        self.thinking.set()
        await self.start(waiting)

    async def _forget_unrecorded(self) -> None:
        """What was handed over and not recorded is lost with the process: the known gap of the library."""
        rows = await self.world.db.fetch(
            "SELECT external_id, from_me FROM sidestep.message_keys WHERE tenant_id = $1",
            self.tenant.tenant_id,
        )
        recorded = {(row["external_id"], row["from_me"]) for row in rows}
        self.seen = [s for s in self.seen if (s.event.external_id, s.event.from_me) in recorded]
        self._ids &= recorded

    async def breathe(self, steps: int) -> None:
        """Let the daemon go on for so many steps of the loop, or less if it has nothing to do."""
        for _ in range(steps):
            await asyncio.sleep(0)
            with suppress(TimeoutError):
                async with asyncio.timeout(0.002):
                    await self.clock.work.idle()
                    return

    async def settle(self) -> None:
        """Everything comes to its end, waits of the clock included."""
        self.thinking.set()
        self.phones.unblock()
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await self.pipeline.inbox.drained()
            await self.clock.settle()
            await self.pipeline.outbox.take_up()
            await self.clock.settle()

    def _hear(self, event: Event) -> None:
        if isinstance(event, StatusMoved):
            self.statuses.setdefault(event.id, []).append(event.status)
