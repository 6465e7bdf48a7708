"""One account's whole path over real PostgreSQL, with phones that remember what happened when; it judges nothing.

Everything that a daemon sees and everything that leaves it gets a number, in the order of the event loop, so that
"after" is a fact and not a guess.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from bot.events import Decided, Event, StatusMoved
from bot.policy import Policy
from bot.transports.base import TransportError, TransportEvent
from bot.transports.memory import SentMessage
from flows.contract import Outcome, Pause, Reply, Turn
from storage.database import Database
from storage.models import (
    Account,
    Action,
    Address,
    ChatId,
    ExternalId,
    InboundMessage,
    Jid,
    MessageId,
    MessageType,
    PauseReason,
    Status,
    Tenant,
)
from tests.integration.store_world import NOW, SHOP, World
from tests.proof.clock import Time
from tests.proof.daemon import Daemon, Phones

LINE = "it is me"
"""What the owner says to customers."""
# The owner of the games answers every new customer with the same words and at once, as no person does.
POLICY = Policy(typing_speed=25.0, learns_automatic=False)
LEASE = timedelta(seconds=5)
"""As the daemon's: whoever says nothing for longer is replaced."""
_LATE = timedelta(seconds=16)
"""After so long a daemon takes up what another one has recorded too late."""
_TURNS = 8  # of the loop
_PATIENCE_SECONDS = 60.0
_names = itertools.count(1)

EXPIRE = "UPDATE sidestep.leases SET expires_at = '-infinity' WHERE tenant_id = $1"
RECORDED = "SELECT external_id, from_me FROM sidestep.message_keys WHERE tenant_id = $1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A message that has reached a daemon, as `order`-th of all that happened; `repeated`: it came before."""

    order: int
    by: Daemon
    event: InboundMessage
    repeated: bool


@dataclass(slots=True, kw_only=True)
class Line:
    """The owner has spoken. `by` is the daemon that saw it, as `order`-th of all; None: it was said by SQL.

    `known` is when it was certain to be in the store, and so for every daemon to heed; None: not yet.
    """

    order: int
    by: Daemon | None
    chat: Address
    at: datetime
    external_id: ExternalId | None = None
    known: int | None = None


@dataclass(slots=True, kw_only=True)
class Send:
    """A send from its start. `made` is when the flow began to make the text, `ids` are the messages that it answers.

    `asked` is when its claim was asked for. `ended` is None while it is under way or was cut off; `left` says that it
    may have reached the phone.
    """

    order: int
    by: Daemon
    to: Jid
    made: int
    ids: tuple[ExternalId, ...]
    asked: int
    asked_at: datetime
    started_at: datetime
    ended: int | None = None
    left: bool = True
    external_id: ExternalId | None = None


@dataclass(kw_only=True)
class Shop:
    """A tenant of its own in a shared database, one or two daemons, and all that was seen of them.

    `serving` is the daemon that took the account last.
    """

    world: World
    policy: Policy
    may_have_left: Callable[[TransportError], bool]
    time: Time = field(default_factory=lambda: Time(NOW))
    thinking: asyncio.Event = field(default_factory=asyncio.Event)
    seen: list[Seen] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    sends: list[Send] = field(default_factory=list)
    statuses: dict[tuple[Daemon, MessageId], list[Status]] = field(default_factory=dict)
    resumed: Counter[tuple[ChatId, datetime]] = field(default_factory=Counter)
    on_start: Callable[[Send], None] = lambda send: None
    name: str = "ai"
    action: Action = Action.AI_REPLIED

    def __post_init__(self) -> None:
        self._order = itertools.count(1)
        self._platform: list[Phones] = []
        self._was_lost = False
        self.serving = Daemon(self)
        self.daemons = [self.serving]
        self.thinking.set()

    @classmethod
    async def open(
        cls, db: Database, policy: Policy, may_have_left: Callable[[TransportError], bool]
    ) -> Shop:
        tenant = replace(SHOP, instance_name=f"shop-{next(_names)}", llm_provider="anthropic")
        shop = cls(world=await World.open(db, tenant), policy=policy, may_have_left=may_have_left)
        await shop.serving.look()
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

    def note(self, event: TransportEvent, by: Daemon) -> None:
        """A daemon is handed something."""
        if not isinstance(event, InboundMessage):
            return
        seen = Seen(order=self.next_order(), by=by, event=event, repeated=self._was_seen(event))
        self.seen.append(seen)
        if self._is_line(event) and not seen.repeated:
            self.lines.append(
                Line(
                    order=seen.order, by=by, chat=event.chat, at=event.sent_at, external_id=event.external_id
                )
            )

    def note_start(self, by: Daemon, to: Jid, text: str) -> Send:
        kind, _, rest = text.partition(" ")
        made, *ids = rest.split() if kind == "answer" else ["0"]
        asked = by.asked[text]
        send = Send(
            order=self.next_order(), by=by, to=to, made=int(made), ids=tuple(map(ExternalId, ids)),
            asked=asked.order, asked_at=asked.at, started_at=self.time.now(),
        )  # fmt: skip
        self.sends.append(send)
        self.on_start(send)
        return send

    def note_holder(self, daemon: Daemon) -> None:
        """This daemon has the account's lease: from here on nobody else is to do anything for it."""
        if daemon is self.serving:
            return
        self.serving.lost_at, daemon.lost_at = self.next_order(), None
        self.serving, self._was_lost = daemon, True

    def hear(self, by: Daemon, event: Event) -> None:
        """What a daemon tells."""
        if isinstance(event, StatusMoved):
            self.statuses.setdefault((by, event.id), []).append(event.status)
        if isinstance(event, Decided) and event.action is Action.RESUMED and event.detail == "clock":
            self.resumed[event.chat_id, self.time.now()] += 1
        if isinstance(event, Decided) and event.external_id is not None:
            self._make_known(event.external_id)

    def _make_known(self, *external_ids: ExternalId) -> None:
        for line in self.lines:
            if line.external_id in external_ids and line.known is None:
                line.known = self.next_order()

    def _is_line(self, event: InboundMessage) -> bool:
        is_read = event.text == LINE and event.type is MessageType.TEXT
        said = event.from_me and (is_read or event.type is MessageType.UNDECRYPTABLE)
        return said and (not event.is_group or self.policy.takeover_in_groups)

    def _was_seen(self, event: InboundMessage) -> bool:
        key = (event.external_id, event.from_me)
        return any((seen.event.external_id, seen.event.from_me) == key for seen in self.seen)

    async def run(self, turn: Turn) -> AsyncIterator[Outcome]:
        """The flow: it names what it answers, thinks as long as it is told, and may hand the chat over."""
        made = self.next_order()
        await self.thinking.wait()
        if turn.text.endswith("handoff"):
            yield Pause(chat_id=turn.chat.chat_id, reason=PauseReason.AI_HANDOFF)
            yield Reply(text="handoff", unfenced=True)
        else:
            yield Reply(text=f"answer {made} {' '.join(str(m.external_id) for m in turn.messages)}")

    # -- the platform --

    @property
    def phones(self) -> Phones:
        """Where what happens on the platform arrives: at the daemon that was linked last."""
        return self._platform[-1]

    @property
    def started(self) -> list[SentMessage]:
        """What any daemon has begun to send."""
        return [sent for phones in self._platform for sent in phones.started]

    def link(self, phones: Phones) -> None:
        """A daemon is linked anew: what was not handed over waits for it."""
        if self._platform:
            phones.take_over(self.phones)
        self._platform.append(phones)

    # -- the daemons' lives --

    async def restart(self, *, by_another: bool) -> None:
        """The serving daemon is killed; it starts again, or the one that stands by is quicker."""
        await self._bury(self.serving)
        self.thinking.set()
        successor = self.daemons[0] if by_another and self.daemons else self._start()
        await successor.look()

    async def take_over(self, *, frozen: bool) -> None:
        """The serving daemon says nothing for longer than its lease lasts, and is replaced; it does not know it yet.

        It is frozen meanwhile, or goes on with all but its look at the lease.
        """
        if frozen:
            self.serving.freeze()
        await self.time.press_on(LEASE + timedelta(seconds=1))
        await self.world.db.execute(EXPIRE, self.tenant.tenant_id)
        waiting = [daemon for daemon in self.daemons if daemon is not self.serving]
        await (waiting[0] if waiting else self._start()).look()

    @property
    def lost(self) -> list[Daemon]:
        """Whoever has lost the account, and may not know it."""
        return [daemon for daemon in self.daemons if daemon.lost_at is not None]

    def _start(self) -> Daemon:
        self.daemons.append(started := Daemon(self))
        return started

    async def close(self) -> None:
        for daemon in list(self.daemons):
            await self._bury(daemon)

    async def _bury(self, daemon: Daemon) -> None:
        """What was handed to it and not recorded is lost with the process: the known gap of the library."""
        await daemon.kill()
        self.daemons.remove(daemon)
        rows = await self.world.db.fetch(RECORDED, self.tenant.tenant_id)
        recorded = {(row["external_id"], row["from_me"]) for row in rows}
        self.seen = [
            s for s in self.seen if s.by is not daemon or (s.event.external_id, s.event.from_me) in recorded
        ]
        self._make_known(*(external_id for external_id, from_me in recorded if from_me))
        self.lines = [line for line in self.lines if line.by is not daemon or line.known is not None]

    # -- time --

    async def pass_time(self, duration: timedelta) -> None:
        """With all that daemons do by the clock."""
        await self.time.press_on(duration)
        going = [daemon for daemon in self.daemons if not daemon.is_frozen]
        # At once: of two that believe themselves to serve the account, each finds what is due.
        await asyncio.gather(*(daemon.scheduler.run_due() for daemon in going))
        for daemon in going:
            for pipeline in daemon.pipelines:
                await pipeline.outbox.take_up()

    async def breathe(self, steps: int) -> None:
        """Let the daemons go on for a short time, or less if they have nothing to do; a claim takes some such steps."""
        for _ in range(steps * _TURNS):
            if self.time.work.is_idle:
                return
            await asyncio.sleep(0)

    async def settle(self) -> None:
        """Everything comes to its end, waits of the clock included."""
        self.thinking.set()
        for phones in self._platform:
            phones.unblock()
        async with asyncio.timeout(_PATIENCE_SECONDS):
            for daemon in self.daemons:
                await daemon.look()
            await self._come_to_rest()
            if self._was_lost:
                await self.pass_time(_LATE)
                await self._come_to_rest()
        self._was_lost = False
        for line in self.lines:
            line.known = line.known or self.next_order()

    async def _come_to_rest(self) -> None:
        [pipeline] = self.serving.pipelines
        await pipeline.drained()
        await self.time.settle()
        await pipeline.outbox.take_up()
        await self.time.settle()
