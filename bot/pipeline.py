"""The path of a message, read as a story: seen, classified, marked, recorded, and handed to its chat's lane.

    transport event -> receive -> inbox (recorded, many per commit) -> recorded -> lane -> desk -> outbox

One pipeline an account. It wires the rooms together and calls none of them back: what a human says stops
the lane at once (the mark), and for good once it is committed (the epoch).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from time import monotonic

import structlog

from bot.automatic import Automatic
from bot.breaker import Breaker
from bot.chats import KnownChats
from bot.classify import classify
from bot.clock import Clock
from bot.crashpoints import Point, passing
from bot.desk.commits import Hooks
from bot.desk.desk import Desk
from bot.desk.stores import Stores
from bot.events import Decided, Events
from bot.inbox import Inbox
from bot.lanes import Lane, Lanes
from bot.marks import HumanMarks, Mark
from bot.metrics import Metrics
from bot.notices import OwnerNotices
from bot.outbox import Outbox
from bot.pacing import Pacer
from bot.past import Past
from bot.policy import Policy
from bot.retry import until_stored
from bot.rhythm import Rhythm
from bot.roles import Roles
from bot.slips import Slips
from bot.transports.base import History, Transport
from bot.upkeep import Upkeep
from bot.watch import Watch
from flows.registry import Flows
from storage.errors import StoreUnavailable
from storage.models import (
    GROUP_SERVER,
    MEDIA,
    Account,
    Action,
    Address,
    Arrival,
    ChatId,
    ChatNamed,
    InboundMessage,
    Jid,
    Merge,
    Message,
    Receipt,
    Recorded,
    StatusChange,
    Tenant,
    Typing,
    Unopened,
)

log = structlog.get_logger(__name__)

_LEFT_AFTER = timedelta(seconds=15)
"""Longer than what this daemon has recorded takes to come into its lane, where it is known."""


class Pipeline:
    """One account's path, from the transport's events to the outbox."""

    def __init__(
        self,
        *,
        account: Account,
        tenant: Tenant,
        stores: Stores,
        transport: Transport,
        flows: Flows,
        clock: Clock,
        policy: Policy,
        events: Events,
        metrics: Metrics,
        media_noted: Callable[[], None] = lambda: None,
    ) -> None:
        self.account = account
        self._media_noted = media_noted
        self._stores = stores
        self._clock = clock
        self._policy = policy
        self._events = events
        self._metrics = metrics
        self._roles = Roles(tenant)
        # The configuration names the owner of the first number; a tenant's further ones are their own.
        self._checks_owner = account.name == tenant.instance_name
        self._marks = HumanMarks()
        self._chats = KnownChats()
        self._store_trouble: StoreUnavailable | None = None
        self._recovering: asyncio.Task[None] | None = None
        self._pausing: set[asyncio.Task[None]] = set()
        self.breaker = Breaker(clock, self._roles.is_own)
        sends = Events()
        sends.listen(events.tell)
        pacer = Pacer(clock, policy.pace, self._roles.is_ours)
        self.outbox = Outbox(
            stores.outbox, transport, self._marks, clock, policy, sends, self._delivered, self.breaker, pacer
        )
        self.upkeep = Upkeep(account, stores, clock, policy)
        self.notices = OwnerNotices(
            account, stores.database, stores.tenants, stores.messages, stores.outbox, self.outbox, self._roles,
            clock, lambda: transport.connection.can_send,
        )  # fmt: skip
        self.breaker.listen(self.notices.on_limit)
        pacer.listen(self.notices.on_cap)
        self.watch = Watch(
            account, stores.database, stores.tenants, stores.sessions, self.notices, clock,
            lambda: self.breaker.show(transport.connection),
        )  # fmt: skip
        sends.listen(self.watch.hear)
        self._automatic = Automatic(
            account, stores.database, stores.messages, stores.sessions, stores.automatic, stores.outbox, self.outbox,
            self._roles, clock, policy,
        )  # fmt: skip
        hooks = Hooks(
            wake=self.outbox.wake,
            hasten=self.outbox.hasten,
            interrupt=self._interrupt,
            interrupt_all=self._interrupt_all,
            relearn=self._automatic.reload,
            resumed=self._look_for_backlog,
        )
        self._rhythm = Rhythm(clock, policy.loops)
        sends.listen(self._rhythm.hear)
        desk = Desk(
            account, stores, flows, self._roles, clock, policy, events, hooks, self.notices, self._rhythm
        )
        self._slips = Slips(
            account, stores.database, stores.messages, stores.sessions, stores.outbox, self.outbox, self._roles,
            clock, policy,
        )  # fmt: skip
        self._lanes = Lanes(desk, self.outbox.holds, clock, policy)
        self.inbox = Inbox(account, stores.messages, stores.outbox, clock, self, self._automatic.sift)
        self.past = Past(account, stores.messages, self.inbox, clock, metrics, self._classify, self.merged)

    # -- seen: synchronous, in the order of the transport's events --

    def receive(self, event: InboundMessage | Unopened | History | Receipt | Typing | ChatNamed) -> None:
        """Take an event in, at once and in order; nothing here awaits."""
        match event:
            case InboundMessage():
                self._receive_message(event)
            case Unopened():
                # As of the past: its decision is that it wakes nobody, until it comes live.
                self.inbox.put(classify(event.message, self._roles, self._policy))
            case History():
                self.past.put(event)
            case Receipt() | ChatNamed():
                self.inbox.put(event)
            case Typing():
                self._receive_typing(event)

    def linked(self, own: tuple[Jid, ...]) -> None:
        """The account's own addresses are known."""
        if own and not self._roles.link(own) and self._checks_owner:
            self._checks_owner = False  # it stays so, at every connect
            log.warning(
                "owner_is_not_the_linked_number", account=self.account.name, notices="to the linked number"
            )

    def _receive_message(self, event: InboundMessage) -> None:
        arrival = self._classify(event)
        mark = None
        if arrival.takes_over:
            # Before the first await, and before the commit: no send of the bot starts after this line.
            mark = self._marks.put(event.chat.jids, self._known_lanes(event.chat.jids))
        self.inbox.put(arrival, mark)
        passing(Point.SEEN)

    def _classify(self, event: InboundMessage) -> Arrival:
        self._roles.learn(event.sender)
        for address in (event.chat, event.sender):
            self._marks.learn(address)
        return self._automatic.judge(classify(event, self._roles, self._policy))

    def _receive_typing(self, event: Typing) -> None:
        # In a group it may be anybody: whoever has asked there is not waited for.
        if event.typing and not event.chat.jid.endswith(f"@{GROUP_SERVER}"):
            for lane in self._known_lanes(event.chat.jids):
                lane.typing()

    # -- recorded: called by the inbox, synchronously, after the commit --

    def recorded(self, recorded: Recorded, mark: Mark | None) -> None:
        """A message is safe in the store: now it may be acted on."""
        message, event = recorded.message, recorded.arrival.event
        self._chats.remember(event.chat.jids, message.chat_id)
        if event.is_history:  # its place only: what is decided about it is told when it comes live
            if recorded.is_new:
                self._metrics.count_decision(Action.IMPORTED)
            return
        if recorded.is_new:
            self._metrics.count_message(self.account.name, message.direction, message.author)
            if message.type in MEDIA:
                self._media_noted()
        if recorded.action is not None:
            self._tell(message, recorded.action)
        if mark is not None:
            self._stand_aside(recorded, mark)
        if recorded.changed is not None and (lane := self._lanes.find(message.chat_id)) is not None:
            lane.change(recorded.changed)
        self._automatic.recorded(recorded)
        if recorded.is_new and (slip := recorded.arrival.slip) is not None:
            self._slips.recorded(message, slip)
        if recorded.action is None:
            self._rhythm.note(message)
            self._lanes.lane(message.chat_id).push(message)

    def _stand_aside(self, recorded: Recorded, mark: Mark) -> None:
        if recorded.action is Action.IGNORED_AUTOMATIC:
            self._marks.withdraw(mark)
            return
        if recorded.is_new:
            lane = self._lanes.find(recorded.message.chat_id)
            if lane is not None:
                lane.stand_aside(recorded.message)
                # Late, it may have cancelled answers to what was written after it: that comes before what is newer.
                self._look_for_backlog(lane)
            self._metrics.observe_takeover(monotonic() - mark.raised_at)
            log.info("human_spoke", chat_id=recorded.message.chat_id, action=recorded.action)
        # From here on the epoch tells: it was committed with the message.
        self._marks.settle(mark)

    def quarantined(self, arrival: Arrival, mark: Mark | None) -> None:
        """A message cannot be stored. It is out of the way; a human's pauses its chat all the same."""
        self._metrics.count_decision(Action.QUARANTINED)
        if mark is not None:
            self._take_over(arrival.event.chat, arrival.event.sent_at, mark)

    def _take_over(self, chat: Address, at: datetime, mark: Mark) -> None:
        """Pause for a human whose words cannot be recorded."""
        self._pausing.add(task := asyncio.create_task(self._pause(chat, at, mark)))
        task.add_done_callback(self._pausing.discard)

    async def _pause(self, chat: Address, at: datetime, mark: Mark) -> None:
        with self._clock.work.doing():
            await until_stored(lambda: self._store_takeover(chat, at))
            self._marks.settle(mark)

    async def _store_takeover(self, chat: Address, at: datetime) -> None:
        now = self._clock.now()
        chat_id = await self._stores.messages.identify(self.account, chat, now)
        async with self._stores.database.transaction() as connection:
            await self._stores.sessions.take_over(connection, chat_id, at, now)
        self._interrupt(chat_id)

    def merged(self, merge: Merge) -> None:
        """Two chats have become one: what waits in the lane of the one that is gone goes on in the other."""
        log.info("chats_merged", keep=merge.keep, gone=merge.gone)
        self._lanes.merge(merge.keep, merge.gone)
        self._chats.merged(merge)

    def receipts(self, changes: Sequence[StatusChange]) -> None:
        """Statuses of ours have moved forward."""
        self.outbox.moved(changes)

    def store_failed(self, trouble: StoreUnavailable) -> None:
        """A flush failed. Its commit may have succeeded all the same: see `store_works`."""
        self._store_trouble = trouble

    def store_works(self, seconds: float) -> None:
        """A flush succeeded, `seconds` after its first message arrived."""
        self._metrics.observe_record(seconds)
        if self._store_trouble is not None:
            # What looks like a repeat may be our own first try, whose answer was lost: take up all that is open.
            self._store_trouble = None
            self._recovering = asyncio.create_task(self.recover())

    @property
    def store_trouble(self) -> StoreUnavailable | None:
        """Why the store does not take what has arrived; None while it does."""
        return self._store_trouble

    async def start(self) -> None:
        """Go on where the last daemon ended, but in chats whose owner wants them to go on from now."""
        left = await until_stored(
            lambda: self._stores.sessions.leave_backlog(self.account, self._clock.now())
        )
        for _ in range(left):
            self._metrics.count_decision(Action.IGNORED_TOO_OLD)
        if left:
            log.info("backlog_left", count=left)
        await self._automatic.load()
        await self.recover()

    async def take_up_left(self) -> None:
        """Take up what another daemon has recorded here after its time was up: it could not decide it."""
        await self._take_up(self._clock.now() - _LEFT_AFTER)

    async def recover(self) -> None:
        """Take up what is recorded and undecided: after a crash, or after the store was away."""
        for admin in await until_stored(lambda: self._stores.sessions.lids_of(self._roles.admins)):
            self._roles.learn(admin)
        await self._take_up(None)

    async def _take_up(self, before: datetime | None) -> None:
        messages = await until_stored(lambda: self._stores.messages.undecided(self.account, before))
        for message in messages:
            self._chats.remember((message.chat_jid,), message.chat_id)
            self._lanes.lane(message.chat_id).push(message)
        if messages and before is None:
            log.info("undecided_taken_up", count=len(messages))

    async def take_up_backlog(self) -> None:
        """Hand to their lanes what asks once more, since the bot may speak and nobody has answered it."""
        for message in await until_stored(lambda: self._stores.messages.reopened(self.account)):
            self._chats.remember((message.chat_jid,), message.chat_id)
            self._lanes.lane(message.chat_id).push(message, joins=True)

    def _look_for_backlog(self, *waiting: Lane) -> None:
        async def take_up() -> None:
            with self._clock.work.doing():
                await self.take_up_backlog()
                for lane in waiting:
                    lane.release()

        for lane in waiting:
            lane.hold()

        self._pausing.add(task := asyncio.create_task(take_up()))
        task.add_done_callback(self._pausing.discard)

    async def drained(self) -> None:
        """Wait until all that has arrived is in the store, and what a human said that could not be read, too."""
        await self.inbox.drained()
        while self._pausing:
            await asyncio.wait(self._pausing)

    async def close(self) -> None:
        """Stop where things stand: what is undecided or queued stays so in the store."""
        self.past.close()
        await self._lanes.close()
        await self.notices.close()
        await self.outbox.close()
        rest = [*self._pausing, *([self._recovering] if self._recovering is not None else [])]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    # -- what the rooms ask for --

    async def resume_due(self) -> tuple[ChatId, ...]:
        """End the pauses of the tenant's chats whose time has come."""
        now = self._clock.now()
        async with self._stores.database.transaction() as connection:
            resumed = await self._stores.sessions.resume_due(now, connection)
            if resumed:
                await self.watch.returned(resumed, connection)
        if resumed:
            passing(Point.RESUMED)
        for one in resumed:
            self._metrics.observe_resume_lag((now - one.due_at).total_seconds())
            self._interrupt(one.chat.chat_id)
            log.info("resumed_by_clock", chat_id=one.chat.chat_id)
            self._events.tell(
                Decided(
                    chat_id=one.chat.chat_id,
                    message_id=one.message_id,
                    external_id=one.external_id,
                    jid=one.chat.jid,
                    action=Action.RESUMED,
                    detail="clock",
                )
            )
        return tuple(one.chat.chat_id for one in resumed)

    def _delivered(self, chat_id: ChatId) -> None:
        if (lane := self._lanes.find(chat_id)) is not None:
            lane.delivered()

    def _interrupt(self, chat_id: ChatId) -> None:
        if (lane := self._lanes.find(chat_id)) is not None:
            lane.interrupt()

    def _interrupt_all(self) -> None:
        self._lanes.interrupt_all()

    def _known_lanes(self, jids: Sequence[Jid]) -> list[Lane]:
        return [lane for c in self._chats.behind(jids) if (lane := self._lanes.find(c)) is not None]

    def _tell(self, message: Message, action: Action) -> None:
        self._events.tell(
            Decided(
                chat_id=message.chat_id,
                message_id=message.id,
                external_id=message.external_id,
                jid=message.chat_jid,
                action=action,
            )
        )
