"""The path of a message, read as a story: seen, classified, marked, recorded, and handed to its chat's lane.

    transport event -> receive -> inbox (recorded, many per commit) -> recorded -> lane -> desk -> outbox

One pipeline an account. It wires the rooms together and calls none of them back: what a human says stops
the lane at once (the mark), and for good once it is committed (the epoch).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from time import monotonic

import structlog

from bot.classify import classify
from bot.clock import Clock
from bot.desk import Desk, Hooks, Stores
from bot.events import Decided, Events, StatusMoved
from bot.inbox import Inbox
from bot.lanes import Lane, Lanes
from bot.marks import HumanMarks, Mark
from bot.metrics import Metrics
from bot.outbox import Outbox
from bot.policy import Policy
from bot.retry import until_stored
from bot.roles import Roles
from bot.transports.base import Transport
from flows.registry import Flows
from storage.models import (
    Account,
    Action,
    Address,
    Arrival,
    ChatId,
    InboundMessage,
    Jid,
    Merge,
    Message,
    PauseReason,
    Receipt,
    Recorded,
    StatusChange,
    Tenant,
    Typing,
)

log = structlog.get_logger(__name__)

_CHATS_REMEMBERED = 200_000
_RECEIPTS_KEPT = timedelta(days=30)


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
    ) -> None:
        self.account = account
        self._stores = stores
        self._clock = clock
        self._policy = policy
        self._events = events
        self._metrics = metrics
        self._roles = Roles(tenant)
        self._marks = HumanMarks()
        self._chats: dict[Jid, ChatId] = {}
        self._store_failed = False
        self._recovering: asyncio.Task[None] | None = None
        self._pausing: set[asyncio.Task[None]] = set()
        self.outbox = Outbox(stores.outbox, transport, self._marks, clock, policy, events, self._delivered)
        hooks = Hooks(wake=self.outbox.wake, interrupt=self._interrupt, interrupt_all=self._interrupt_all)
        desk = Desk(account, stores, flows, self._roles, clock, policy, events, hooks)
        self._lanes = Lanes(desk, self.outbox, clock, policy)
        self.inbox = Inbox(account, stores.messages, stores.outbox, clock, self)

    # -- seen: synchronous, in the order of the transport's events --

    def receive(self, event: InboundMessage | Receipt | Typing) -> None:
        """Take an event in, at once and in order; nothing here awaits."""
        match event:
            case InboundMessage():
                self._receive_message(event)
            case Receipt():
                self.inbox.put(event)
            case Typing():
                self._receive_typing(event)

    def linked(self, own: tuple[Jid, ...]) -> None:
        """The account's own addresses are known."""
        if own and not self._roles.link(own):
            log.warning(
                "owner_is_not_the_linked_number", account=self.account.name, notices="to the linked number"
            )

    def _receive_message(self, event: InboundMessage) -> None:
        self._roles.learn(event.sender)
        for address in (event.chat, event.sender):
            self._marks.learn(address)
        arrival = classify(event, self._roles, self._policy)
        mark = None
        if arrival.takes_over:
            # Before the first await, and before the commit: no send of the bot starts after this line.
            mark = self._marks.put(event.chat.jids, self._known_lanes(event.chat.jids))
        self.inbox.put(arrival, mark)

    def _receive_typing(self, event: Typing) -> None:
        if event.typing:
            for lane in self._known_lanes(event.chat.jids):
                lane.typing()

    # -- recorded: called by the inbox, synchronously, after the commit --

    def recorded(self, recorded: Recorded, mark: Mark | None) -> None:
        """A message is safe in the store: now it may be acted on."""
        message = recorded.message
        self._remember(recorded.arrival.event.chat.jids, message.chat_id)
        if recorded.is_new:
            self._metrics.count_message(self.account.name, message.direction, message.author)
        if recorded.action is not None:
            self._tell(message, recorded.action)
        if mark is not None:
            self._stand_aside(recorded, mark)
        if recorded.action is None:
            self._lanes.lane(message.chat_id).push(message)

    def _stand_aside(self, recorded: Recorded, mark: Mark) -> None:
        if recorded.is_new:
            lane = self._lanes.find(recorded.message.chat_id)
            if lane is not None:
                lane.stand_aside(recorded.message.id)
            self._metrics.observe_takeover(monotonic() - mark.raised_at)
            log.info("human_spoke", chat_id=recorded.message.chat_id, action=recorded.action)
        # From here on the epoch tells: it was committed with the message.
        self._marks.settle(mark)

    def quarantined(self, arrival: Arrival, mark: Mark | None) -> None:
        """A message cannot be stored. It is out of the way; a human's pauses its chat all the same."""
        self._metrics.count_decision(Action.QUARANTINED)
        if mark is not None:
            self._pausing.add(task := asyncio.create_task(self._pause_anyway(arrival.event.chat, mark)))
            task.add_done_callback(self._pausing.discard)

    async def _pause_anyway(self, chat: Address, mark: Mark) -> None:
        with self._clock.work.doing():
            await until_stored(lambda: self._pause(chat))
            self._marks.settle(mark)

    async def _pause(self, chat: Address) -> None:
        now = self._clock.now()
        chat_id = await self._stores.messages.identify(self.account, chat, now)
        async with self._stores.database.transaction() as connection:
            await self._stores.sessions.pause(connection, chat_id, PauseReason.HUMAN_TAKEOVER, now, None)

    def merged(self, merge: Merge) -> None:
        """Two chats have become one: what waits in the lane of the one that is gone goes on in the other."""
        log.info("chats_merged", keep=merge.keep, gone=merge.gone)
        self._lanes.merge(merge.keep, merge.gone)
        for jid, chat_id in self._chats.items():
            if chat_id == merge.gone:
                self._chats[jid] = merge.keep

    def receipts(self, changes: Sequence[StatusChange]) -> None:
        """Statuses of ours have moved forward."""
        for change in changes:
            self._events.tell(
                StatusMoved(
                    chat_id=change.chat_id,
                    id=change.id,
                    external_id=change.external_id,
                    status=change.status,
                )
            )

    def store_failed(self) -> None:
        """A flush failed. Its commit may have succeeded all the same: see `store_works`."""
        self._store_failed = True

    def store_works(self, seconds: float) -> None:
        """A flush succeeded, `seconds` after its first message arrived."""
        self._metrics.observe_record(seconds)
        if self._store_failed:
            # What looks like a repeat may be our own first try, whose answer was lost: take up all that is open.
            self._store_failed = False
            self._recovering = asyncio.create_task(self.recover())

    @property
    def is_store_failing(self) -> bool:
        """Whether what has arrived is waiting for a store that does not take it."""
        return self._store_failed

    async def recover(self) -> None:
        """Take up what is recorded and undecided: after a crash, or after the store was away."""
        for admin in await until_stored(lambda: self._stores.sessions.lids_of(self._roles.admins)):
            self._roles.learn(admin)
        messages = await until_stored(lambda: self._stores.messages.undecided(self.account))
        for message in messages:
            self._remember((message.chat_jid,), message.chat_id)
            self._lanes.lane(message.chat_id).push(message)
        if messages:
            log.info("undecided_taken_up", count=len(messages))

    async def close(self) -> None:
        """Stop where things stand: what is undecided or queued stays so in the store."""
        await self._lanes.close()
        await self.outbox.close()
        if self._recovering is not None:
            self._recovering.cancel()
            await asyncio.gather(self._recovering, return_exceptions=True)

    # -- what the rooms ask for --

    async def resume_due(self) -> tuple[ChatId, ...]:
        """End the pauses of the tenant's chats whose time has come."""
        now = self._clock.now()
        resumed = await self._stores.sessions.resume_due(now)
        for one in resumed:
            self._metrics.observe_resume_lag((now - one.due_at).total_seconds())
            self._interrupt(one.chat_id)
            log.info("resumed_by_clock", chat_id=one.chat_id)
            self._events.tell(
                Decided(
                    chat_id=one.chat_id,
                    message_id=one.message_id,
                    external_id=one.external_id,
                    jid=one.jid,
                    action=Action.RESUMED,
                    detail="clock",
                )
            )
        return tuple(one.chat_id for one in resumed)

    async def clean(self) -> int:
        """Make the months ahead, and forget receipts that nothing ever claimed; returns how many."""
        now = self._clock.now()
        await self._stores.messages.ensure_months(now)
        return await self._stores.outbox.forget_receipts(now - _RECEIPTS_KEPT)

    def _delivered(self, chat_id: ChatId) -> None:
        if (lane := self._lanes.find(chat_id)) is not None:
            lane.delivered()

    def _interrupt(self, chat_id: ChatId) -> None:
        if (lane := self._lanes.find(chat_id)) is not None:
            lane.interrupt()

    def _interrupt_all(self) -> None:
        self._lanes.interrupt_all()

    def _known_lanes(self, jids: Sequence[Jid]) -> list[Lane]:
        chat_ids = {self._chats[j] for j in jids if j in self._chats}
        return [lane for c in chat_ids if (lane := self._lanes.find(c)) is not None]

    def _remember(self, jids: Sequence[Jid], chat_id: ChatId) -> None:
        if len(self._chats) > _CHATS_REMEMBERED:
            self._chats.clear()
        for jid in jids:
            self._chats[jid] = chat_id

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
