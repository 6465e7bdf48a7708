"""The outbox: `send_and_log`, the one way out. It records before it sends, and is the only caller of Transport.send.

For each message, in this order: prepare the medium, type, wait for the account's turn, take a stamp, claim
(the durable fence), look at the marks, start the send. Between that last look and the start stands no await.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog

from bot.breaker import Breaker
from bot.clock import Clock
from bot.crashpoints import Point, passing
from bot.events import Events, Said, StatusMoved, TakenBack
from bot.holds import Holds
from bot.marks import HumanMarks
from bot.pacing import Pacer
from bot.policy import Policy
from bot.retry import until_stored
from bot.transports.base import (
    Content,
    NotConnected,
    ReachOutLimited,
    SendPostponed,
    SendRefused,
    SendUnconfirmed,
    Sent,
    Transport,
)
from storage.lease import FencedOut
from storage.models import (
    ChatId,
    Claim,
    Due,
    ExternalId,
    MessageId,
    Outgoing,
    Status,
    StatusChange,
)
from storage.outbox import OutboxStore

log = structlog.get_logger(__name__)

_DAY = timedelta(days=1)
_POLL = timedelta(seconds=1)
_BACKOFF = timedelta(seconds=2)
_LONGEST_BACKOFF = timedelta(minutes=2)
_MOST_POSTPONEMENTS = 8  # within some five minutes: then the platform has been asked often enough
_MOST_STUMBLES = 3
_HEARD_WITHIN = timedelta(seconds=2)
"""Less than is left of a lease when a claim is granted under it. What is heard of later is no longer ours for certain:
we were frozen, or PostgreSQL was, and another daemon may have taken the account, and heard a human."""
_END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)

Record = Callable[[], Awaitable[None]]
"""Writes down what became of a send."""


class Outbox:
    """One account's way out."""

    def __init__(
        self,
        store: OutboxStore,
        transport: Transport,
        marks: HumanMarks,
        clock: Clock,
        policy: Policy,
        events: Events,
        delivered: Callable[[ChatId], None],
        breaker: Breaker | None = None,
        pacer: Pacer | None = None,
    ) -> None:
        self._store = store
        self._transport = transport
        self._marks = marks
        self._clock = clock
        self._policy = policy
        self._events = events
        self._delivered = delivered
        self._breaker = breaker or Breaker(clock)
        self._pacer = pacer or Pacer(clock, policy.pace, lambda _: False)
        self._turn = asyncio.Lock()
        self._deliveries: dict[ChatId, asyncio.Task[None]] = {}
        self._again: set[ChatId] = set()
        self._paced: dict[ChatId, MessageId] = {}  # whose turn has been waited for
        self._marking: dict[
            MessageId, list[StatusChange]
        ] = {}  # and the receipts that are heard of before that
        self._stumbled: dict[ChatId, int] = {}
        self._hastened: set[asyncio.Task[None]] = set()
        self.holds = Holds(clock)

    async def send_and_log(
        self, chat_id: ChatId, outgoing: Outgoing, *, answers: Sequence[MessageId] = ()
    ) -> MessageId:
        """Record a message of ours and have it sent. Returns its id once it is stored; the sending goes on.

        For flows' replies the pipeline queues within its own commit instead; this is for jobs, notices and
        scripts. A fenced message is dropped when the chat is paused, or its state changes, before it is sent.
        """
        epoch = await self._store.epoch(chat_id) if outgoing.fenced else None
        message_id = await self._store.enqueue(
            chat_id, outgoing, self._clock.now(), epoch=epoch, answers=answers
        )
        self.wake(chat_id)
        return message_id

    def wake(self, chat_id: ChatId) -> None:
        """Something is queued for this chat."""
        if chat_id in self._deliveries:
            self._again.add(chat_id)
            return
        task = asyncio.create_task(self._deliver_all(chat_id), name=f"outbox-{chat_id}")
        self._deliveries[chat_id] = task
        self._clock.work.count(task)

    def hasten(self, chat_id: ChatId, message_id: MessageId) -> None:
        """Send this one at once, ahead of what its chat has queued: a line is taken back before it is read.

        The claim sees to it that it is sent once, although the chat's own turn may find it, too.
        """
        self._hastened.add(task := asyncio.create_task(self._deliver_one(chat_id, message_id)))
        task.add_done_callback(self._hastened.discard)
        self._clock.work.count(task)

    async def run(self) -> None:
        """Find what others have queued: other processes, a daemon that was killed, a retry that has become due."""
        while True:
            self._breaker.tick()
            await self.take_up()
            await asyncio.sleep(_POLL.total_seconds())

    async def take_up(self) -> None:
        """Begin with whatever is due now and not under way."""
        for chat_id in await until_stored(lambda: self._store.due_chats(self._clock.now())):
            if chat_id not in self._deliveries:
                self.wake(chat_id)

    async def recover(self) -> None:
        """At the start: whatever was being sent when the last daemon ended may have gone out."""
        for chat_id, message_id in await self._store.abandon(_END_OF_TIME):
            log.warning("send_unknown", outbox_id=message_id)
            self._tell(chat_id, message_id, None, Status.UNKNOWN)
        self._pacer.link(await until_stored(self._store.linked_at))
        self._pacer.remember(await until_stored(lambda: self._store.past_sends(self._clock.now() - _DAY)))
        passing(Point.RECOVERING)

    def link(self, at: datetime) -> None:
        """A phone has linked the number: it warms up from now on."""
        self._pacer.link(at)

    async def expire(self) -> None:
        """Give up on sends whose lease has ended without a word."""
        for chat_id, message_id in await self._store.abandon(self._clock.now()):
            self._tell(chat_id, message_id, None, Status.UNKNOWN)

    async def close(self) -> None:
        """Stop between two messages, or in the middle of one, which is then unknown."""
        tasks = [*self._deliveries.values(), *self._hastened]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.holds.clear()

    async def _deliver_all(self, chat_id: ChatId) -> None:
        try:
            while True:
                self._again.discard(chat_id)
                due = await until_stored(lambda: self._store.next_due(chat_id, self._clock.now()))
                if due is not None and (hold := self.holds.on(due)) is not None:
                    await hold.alarm.wait()
                    continue
                if due is not None and due.fenced and await self._marks.settled(due.jids):
                    continue  # a human's word has cancelled it meanwhile: nobody is to see us type
                # After one that has left and was the last there is nothing to look for.
                is_over = due is None or (await self._deliver(due) and due.is_last)
                if is_over and chat_id not in self._again:
                    return
        except FencedOut:
            # Another daemon has the account, and finds what is queued.
            log.info("delivery_left", chat_id=chat_id)
        except Exception as exc:
            # The row keeps its state: a queued one is found again by the poll, one being sent becomes unknown.
            log.exception("delivery_failed")
            await self._stumble(chat_id, exc)
        else:
            self._stumbled.pop(chat_id, None)
        finally:
            del self._deliveries[chat_id]
            self._paced.pop(chat_id, None)
            self.holds.arrived(chat_id)
            self._delivered(chat_id)

    async def _stumble(self, chat_id: ChatId, exc: Exception) -> None:
        """What stops its chat again and again is given up: it must not hold up the others for ever."""
        self._stumbled[chat_id] = self._stumbled.get(chat_id, 0) + 1
        if self._stumbled[chat_id] < _MOST_STUMBLES:
            return
        del self._stumbled[chat_id]
        with suppress(FencedOut):
            error, now = f"could not be handled: {type(exc).__name__}", self._clock.now()
            given_up = await until_stored(lambda: self._store.give_up(chat_id, error, now))
            if given_up is not None:
                self._tell(chat_id, given_up, None, Status.FAILED)

    async def _deliver_one(self, chat_id: ChatId, message_id: MessageId) -> None:
        try:
            due = await until_stored(lambda: self._store.this_due(chat_id, message_id))
            if due is not None:
                await self._deliver(due)
        except FencedOut:
            log.info("delivery_left", chat_id=chat_id)
        except Exception:
            log.exception("delivery_failed")  # its chat's own turn finds it again

    async def _deliver(self, due: Due) -> bool:
        """Whether it was sent, or may have been."""
        if not self._transport.connection.can_send:
            await self._later(due)
            return False
        if (forbidden := self._forbidden(due)) is not None:
            await self._settle(due, Status.FAILED, forbidden)
            return False
        if await self._wait_for_turn(due):
            return False  # the row may have changed meanwhile, and the connection too: all is looked at anew
        prepared = await self._prepare(due)
        if prepared is None:
            return False
        if due.outgoing.media_url is not None:
            await until_stored(lambda: self._store.note_medium(due, self._clock.now()))
        typed = await self._type(due)
        async with self._turn_of(due):
            record = await self._claim_and_send(due, prepared)
        if record is not None:
            await record()
        elif typed:
            await self._transport.set_typing(due.to, False)
        return record is not None

    async def _prepare(self, due: Due) -> object | None:
        """What the transport takes; None where there is nothing to send, and the row says why."""
        outgoing = due.outgoing
        try:
            return await self._transport.prepare(
                Content(
                    text=outgoing.text,
                    media_url=outgoing.media_url,
                    quoted=due.quoted,
                    media_type=outgoing.type,
                    voice=bool(outgoing.metadata.get("voice")),
                    revokes=outgoing.revokes,
                )
            )
        except NotConnected as exc:
            # Connected all the while, perhaps, and only this medium does not get through: less and less often.
            age = self._clock.now() - due.queued_at
            if age > self._policy.max_age:
                await self._settle(due, Status.FAILED, str(exc))
            else:
                await self._later(due, at_least=age)
            return None
        except SendRefused as exc:
            await self._settle(due, Status.FAILED, str(exc))
            return None
        except Exception as exc:
            # Nothing has left, and what cannot be prepared must not hold up its chat for ever.
            log.exception("prepare_failed", outbox_id=due.id)
            await self._settle(due, Status.FAILED, type(exc).__name__)
            return None

    def _forbidden(self, due: Due) -> str | None:
        """Why this one is not to be tried; None if it may be."""
        return self._breaker.forbids(due) or self._pacer.forbids(due)

    async def _wait_for_turn(self, due: Due) -> bool:
        """Whether it had to wait: its chat's turn first, then the account's. Nothing is claimed meanwhile."""
        if self._paced.get(due.chat_id) == due.id or due.outgoing.revokes is not None:
            return False
        self._paced[due.chat_id] = due.id
        in_chat = await self._wait_until(self._pacer.turn_in_chat(due), due, "pace.per_chat")
        return await self._wait_until(self._pacer.turn_of_account(due), due, "pace.per_account") or in_chat

    async def _wait_until(self, at: datetime, due: Due, key: str) -> bool:
        if (wait := at - self._clock.now()) <= timedelta(0):
            return False
        waited = f"waited {wait.total_seconds():.0f} s for its turn ({key})"
        await until_stored(lambda: self._store.note_wait(due, waited))
        await self._clock.sleep(wait)
        return True

    def _turn_of(self, due: Due) -> AbstractAsyncContextManager[None]:
        # First contacts always one by one: after a refusal the next must not be on its way already.
        in_turn = self._transport.one_at_a_time or due.is_first_contact
        return self._turn if in_turn else nullcontext()

    async def _type(self, due: Due) -> bool:
        duration = self._policy.typing_time(due.outgoing.text)
        if not due.fenced or not duration:
            return False
        await self._transport.set_typing(due.to, True)
        await self._clock.sleep(duration)
        return True

    async def _claim_and_send(self, due: Due, prepared: object) -> Record | None:
        """None: the send was not started. Else what is left to be done about it, out of turn."""
        if not self._transport.connection.can_send:
            await self._later(due)
            return None
        if self.holds.on(due) is not None:
            return None
        if (forbidden := self._forbidden(due)) is not None:
            # While this one was typed another was refused, or was the last of the day.
            await self._settle(due, Status.FAILED, forbidden)
            return None
        # With the look at the hold, before the first await: a reply is either held back or on its way.
        self.holds.set_out(due)
        self._pacer.set_out(due)
        stamp = self._marks.stamp()
        now = self._clock.now()
        claim = await until_stored(lambda: self._store.claim(due, now, now - self._policy.max_age))
        if claim is not Claim.CLAIMED:
            self._pacer.came_back(due)
            if claim is Claim.CANCELLED:
                self._tell(due.chat_id, due.id, None, Status.CANCELLED)
            return None
        passing(Point.CLAIMED)
        if (overtaken := self._overtaken(due, stamp, now)) is not None:
            self._pacer.came_back(due)
            at = self._clock.now()
            await until_stored(lambda: self._store.settle(due, Status.QUEUED, overtaken, at))
            return None
        return await self._send(due, prepared, stamp)

    def _overtaken(self, due: Due, stamp: int, asked_at: datetime) -> str | None:
        """What has come between a claim and its send, so that it is to be claimed anew; None if nothing has."""
        if self._clock.now() - asked_at > _HEARD_WITHIN:
            return "the claim was heard of too late"
        if due.fenced and self._marks.human_since(due.jids, stamp):
            # Whether it was one is known once it is committed; then the epoch tells the next claim.
            return "a human is writing"
        return None

    async def _send(self, due: Due, prepared: object, stamp: int) -> Record:
        # The last look was just before: no await may come in between, nor before the transport's own first step.
        try:
            sent = await self._transport.send(due.to, prepared)
        except NotConnected:
            self._pacer.came_back(due)
            return partial(self._later, due)
        except SendPostponed as exc:
            self._pacer.came_back(due)
            late = due.attempts + 1 >= _MOST_POSTPONEMENTS
            return (
                partial(self._settle, due, Status.FAILED, str(exc))
                if late
                else partial(self._later, due, str(exc))
            )
        except SendRefused as exc:
            self._pacer.came_back(due)
            if isinstance(exc, ReachOutLimited):
                self._breaker.refused(due)
            return partial(self._settle, due, Status.FAILED, str(exc))
        except SendUnconfirmed as exc:
            return partial(
                self._settle, due, Status.UNKNOWN, str(exc), overlapped=self._overlapped(due, stamp)
            )
        except Exception as exc:
            # Whether it has left is not known, so it is never tried again.
            log.exception("send_failed", outbox_id=due.id)
            error = type(exc).__name__
            return partial(self._settle, due, Status.UNKNOWN, error, overlapped=self._overlapped(due, stamp))
        self._breaker.went_out(due)
        return partial(self._mark_sent, due, sent, overlapped=self._overlapped(due, stamp))

    def _overlapped(self, due: Due, stamp: int) -> bool:
        return due.fenced and self._marks.human_since(due.jids, stamp)

    async def _mark_sent(self, due: Due, sent: Sent, *, overlapped: bool) -> None:
        passing(Point.SENT)
        received = self._marking[due.id] = list[StatusChange]()
        try:
            status = await until_stored(
                lambda: self._store.mark_sent(due, sent.external_id, sent.at, overlapped=overlapped)
            )
        finally:
            del self._marking[due.id]
        passing(Point.MARKED)
        if (revoked := due.outgoing.revokes) is not None:
            await until_stored(lambda: self._store.note_taken_back(due, sent.at))
            self._events.tell(TakenBack(due=due, external_id=revoked))
        else:
            self._events.tell(Said(due=due, external_id=sent.external_id))
        if status is not None:
            self._tell(due.chat_id, due.id, sent.external_id, Status.SENT)
        if status not in (None, Status.SENT):
            self._tell(due.chat_id, due.id, sent.external_id, status)
        self.moved(received)

    def moved(self, changes: Sequence[StatusChange]) -> None:
        """Receipts have moved statuses forward. What is just being marked as sent is told of as sent first."""
        for change in changes:
            if (received := self._marking.get(change.id)) is not None:
                received.append(change)
            else:
                self._tell(change.chat_id, change.id, change.external_id, change.status)

    async def _later(
        self, due: Due, reason: str = "not connected", *, at_least: timedelta = timedelta()
    ) -> None:
        """Nothing has reached anybody, so that trying again cannot reach the customer twice."""
        pause = min(max(_BACKOFF * 2 ** min(due.attempts, 10), at_least), _LONGEST_BACKOFF)
        at = self._clock.now() + pause
        await until_stored(lambda: self._store.settle(due, Status.QUEUED, reason, at))

    async def _settle(self, due: Due, status: Status, error: str, *, overlapped: bool = False) -> None:
        now = self._clock.now()
        await until_stored(lambda: self._store.settle(due, status, error, now, overlapped=overlapped))
        log.info("reply_not_sent", outbox_id=due.id, status=status, reason=error)
        self._tell(due.chat_id, due.id, None, status)

    def _tell(
        self, chat_id: ChatId, message_id: MessageId, external_id: ExternalId | None, status: Status
    ) -> None:
        self._events.tell(StatusMoved(chat_id=chat_id, id=message_id, external_id=external_id, status=status))
