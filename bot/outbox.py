"""The outbox: `send_and_log`, the one way out. It records before it sends, and is the only caller of Transport.send.

For each message, in this order: prepare the medium, type, wait for the account's turn, take a stamp, claim
(the durable fence), look at the marks, start the send. Between that last look and the start stands no await.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from bot.clock import Alarm, Clock
from bot.events import Events, Said, StatusMoved
from bot.marks import HumanMarks
from bot.policy import Policy
from bot.retry import until_stored
from bot.transports.base import Content, NotConnected, SendRefused, SendUnconfirmed, Sent, Transport
from storage.models import (
    ChatId,
    Claim,
    Due,
    ExternalId,
    MessageId,
    Outgoing,
    Status,
)
from storage.outbox import OutboxStore

log = structlog.get_logger(__name__)

_POLL = timedelta(seconds=1)
_BACKOFF = timedelta(seconds=2)
_LONGEST_BACKOFF = timedelta(minutes=2)
_END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hold:
    """Replies that wait until it is known whether another answer takes their place."""

    ids: frozenset[MessageId]
    alarm: Alarm


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
    ) -> None:
        self._store = store
        self._transport = transport
        self._marks = marks
        self._clock = clock
        self._policy = policy
        self._events = events
        self._delivered = delivered
        self._turn = asyncio.Lock()
        self._deliveries: dict[ChatId, asyncio.Task[None]] = {}
        self._again: set[ChatId] = set()
        self._claimed: dict[ChatId, set[MessageId]] = {}
        self._holds: dict[ChatId, _Hold] = {}

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
        self._clock.work.begin()
        self._deliveries[chat_id] = asyncio.create_task(self._deliver_all(chat_id), name=f"outbox-{chat_id}")

    def hold_back(self, chat_id: ChatId, ids: Sequence[MessageId]) -> bool:
        """Claim none of these replies until `let_go`; False when one is already on its way.

        Nothing of it is stored: when the daemon ends meanwhile, they go out at the next start.
        """
        if not self._claimed.get(chat_id, set()).isdisjoint(ids):
            return False
        self._holds[chat_id] = _Hold(ids=frozenset(ids), alarm=Alarm(self._clock))
        return True

    def let_go(self, chat_id: ChatId) -> None:
        """What was held back goes out, unless it has been withdrawn meanwhile."""
        if (hold := self._holds.pop(chat_id, None)) is not None:
            hold.alarm.ring()

    async def run(self) -> None:
        """Find what others have queued: other processes, a daemon that was killed, a retry that has become due."""
        while True:
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

    async def expire(self) -> None:
        """Give up on sends whose lease has ended without a word."""
        for chat_id, message_id in await self._store.abandon(self._clock.now()):
            self._tell(chat_id, message_id, None, Status.UNKNOWN)

    async def close(self) -> None:
        """Stop between two messages, or in the middle of one, which is then unknown."""
        tasks = list(self._deliveries.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._holds.clear()

    async def _deliver_all(self, chat_id: ChatId) -> None:
        try:
            while True:
                self._again.discard(chat_id)
                due = await until_stored(lambda: self._store.next_due(chat_id, self._clock.now()))
                if due is not None and (hold := self._hold_on(due)) is not None:
                    await hold.alarm.wait()
                elif due is not None:
                    await self._deliver(due)
                elif chat_id not in self._again:
                    return
        except Exception:
            # The row keeps its state: a queued one is found again by the poll, one being sent becomes unknown.
            log.exception("delivery_failed")
        finally:
            del self._deliveries[chat_id]
            self._claimed.pop(chat_id, None)
            self._delivered(chat_id)
            self._clock.work.end()

    def _hold_on(self, due: Due) -> _Hold | None:
        hold = self._holds.get(due.chat_id)
        return hold if hold is not None and due.id in hold.ids else None

    async def _deliver(self, due: Due) -> None:
        if not self._transport.connection.can_send:
            await self._later(due)
            return
        outgoing = due.outgoing
        try:
            prepared = await self._transport.prepare(
                Content(text=outgoing.text, media_url=outgoing.media_url, media_type=outgoing.type)
            )
        except NotConnected:
            await self._later(due)
            return
        except SendRefused as exc:
            await self._settle(due, Status.FAILED, str(exc))
            return
        except Exception as exc:
            # Nothing has left, and what cannot be prepared must not hold up its chat for ever.
            log.exception("prepare_failed", outbox_id=due.id)
            await self._settle(due, Status.FAILED, type(exc).__name__)
            return
        typed = await self._type(due)
        async with self._turn:
            started = await self._claim_and_send(due, prepared)
        if typed and not started:
            await self._transport.set_typing(due.to, False)

    async def _type(self, due: Due) -> bool:
        duration = self._policy.typing_time(due.outgoing.text)
        if not due.fenced or not duration:
            return False
        await self._transport.set_typing(due.to, True)
        await self._clock.sleep(duration)
        return True

    async def _claim_and_send(self, due: Due, prepared: object) -> bool:
        """Whether the send was started."""
        if not self._transport.connection.can_send:
            await self._later(due)
            return False
        if self._hold_on(due) is not None:
            return False
        # With the look at the hold, before the first await: a reply is either held back or on its way.
        self._claimed.setdefault(due.chat_id, set()).add(due.id)
        stamp = self._marks.stamp()
        now = self._clock.now()
        claim = await until_stored(lambda: self._store.claim(due, now, now - self._policy.max_age))
        if claim is not Claim.CLAIMED:
            if claim is Claim.CANCELLED:
                self._tell(due.chat_id, due.id, None, Status.CANCELLED)
            return False
        if due.fenced and self._marks.human_since(due.jids, stamp):
            await self._settle(due, Status.CANCELLED, "a human took over")
            return False
        await self._send(due, prepared, stamp)
        return True

    async def _send(self, due: Due, prepared: object, stamp: int) -> None:
        # The last look was just before: no await may come in between, nor before the transport's own first step.
        try:
            sent = await self._transport.send(due.to, prepared)
        except NotConnected:
            await self._later(due)
        except SendRefused as exc:
            await self._settle(due, Status.FAILED, str(exc))
        except SendUnconfirmed as exc:
            await self._settle(due, Status.UNKNOWN, str(exc), overlapped=self._overlapped(due, stamp))
        except Exception as exc:
            # Whether it has left is not known, so it is never tried again.
            log.exception("send_failed", outbox_id=due.id)
            error = type(exc).__name__
            await self._settle(due, Status.UNKNOWN, error, overlapped=self._overlapped(due, stamp))
        else:
            await self._mark_sent(due, sent, overlapped=self._overlapped(due, stamp))

    def _overlapped(self, due: Due, stamp: int) -> bool:
        return due.fenced and self._marks.human_since(due.jids, stamp)

    async def _mark_sent(self, due: Due, sent: Sent, *, overlapped: bool) -> None:
        status = await until_stored(
            lambda: self._store.mark_sent(due, sent.external_id, sent.at, overlapped=overlapped)
        )
        self._events.tell(Said(due=due, external_id=sent.external_id))
        self._tell(due.chat_id, due.id, sent.external_id, Status.SENT)
        if status is not Status.SENT:
            self._tell(due.chat_id, due.id, sent.external_id, status)

    async def _later(self, due: Due) -> None:
        """Nothing has left this machine, so that trying again cannot reach the customer twice."""
        pause = min(_BACKOFF * 2 ** min(due.attempts, 10), _LONGEST_BACKOFF)
        at = self._clock.now() + pause
        await until_stored(lambda: self._store.settle(due, Status.QUEUED, "not connected", at))

    async def _settle(self, due: Due, status: Status, error: str, *, overlapped: bool = False) -> None:
        now = self._clock.now()
        await until_stored(lambda: self._store.settle(due, status, error, now, overlapped=overlapped))
        log.info("reply_not_sent", outbox_id=due.id, status=status, reason=error)
        self._tell(due.chat_id, due.id, None, status)

    def _tell(
        self, chat_id: ChatId, message_id: MessageId, external_id: ExternalId | None, status: Status
    ) -> None:
        self._events.tell(StatusMoved(chat_id=chat_id, id=message_id, external_id=external_id, status=status))
