"""The past: what the platform tells of earlier conversations is recorded behind all that is live; it wakes nothing.

A linked phone hands over months at once. They are taken piece by piece, and no piece before the inbox is
empty, so that whoever writes meanwhile is answered as ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import islice

import structlog

from bot.clock import Clock
from bot.inbox import Inbox
from bot.metrics import Metrics
from bot.retry import until_stored
from bot.transports.base import History
from storage.messages import BadArrival, MessageStore
from storage.models import Account, Action, Arrival, InboundMessage, Merge

log = structlog.get_logger(__name__)

# Converting this many takes the loop a few milliseconds, and recording them holds a chat no longer than that.
_PIECE = 50


class Past:
    """One account's earlier conversations. `classify` says who speaks, `merged` is told of chats that became one."""

    def __init__(
        self,
        account: Account,
        messages: MessageStore,
        inbox: Inbox,
        clock: Clock,
        metrics: Metrics,
        classify: Callable[[InboundMessage], Arrival],
        merged: Callable[[Merge], None],
    ) -> None:
        self._account = account
        self._messages = messages
        self._inbox = inbox
        self._clock = clock
        self._metrics = metrics
        self._classify = classify
        self._merged = merged
        self._waiting: asyncio.Queue[History] = asyncio.Queue()

    def put(self, history: History) -> None:
        """Take a part of the past in, at once; it is recorded in the order of these calls."""
        self._clock.work.begin()
        self._waiting.put_nowait(history)

    async def recorded(self) -> None:
        """Wait until nothing is waiting."""
        await self._waiting.join()

    def close(self) -> None:
        """Give up what is waiting: it is lost, as the phone tells it only once a link."""
        while not self._waiting.empty():
            self._waiting.get_nowait()
            self._done()

    async def run(self) -> None:
        """Record until cancelled."""
        while True:
            history = await self._waiting.get()
            try:
                await self._record(history)
            finally:
                self._done()

    def _done(self) -> None:
        self._waiting.task_done()
        self._clock.work.end()

    async def _record(self, history: History) -> None:
        new = known = 0
        try:
            while piece := [self._classify(event) for event in islice(history.messages, _PIECE)]:
                await self._inbox.drained()
                recorded = await self._until_recorded(piece)
                self._metrics.count_decision(Action.IMPORTED, recorded)
                new, known = new + recorded, known + len(piece) - recorded
            if history.names:
                names, now = history.names, self._clock.now()
                await until_stored(lambda: self._messages.name_contacts(self._account, names, now))
        except asyncio.CancelledError:
            log.warning("history_cut_off", account=self._account.name, recorded=new)
            raise
        log.info("history_recorded", account=self._account.name, messages=new, known=known)

    async def _until_recorded(self, piece: Sequence[Arrival]) -> int:
        try:
            new, merges = await until_stored(
                lambda: self._messages.record_past(self._account, piece, self._clock.now())
            )
        except BadArrival as exc:
            return await self._sort_out(piece, exc)
        for merge in merges:
            self._merged(merge)
        return new

    async def _sort_out(self, piece: Sequence[Arrival], error: BadArrival) -> int:
        """Find the bad one by recording each alone; it is kept whole in quarantine."""
        if len(piece) > 1:
            return sum([await self._until_recorded([arrival]) for arrival in piece])
        log.error("message_quarantined", error=type(error.__cause__ or error).__name__)
        self._metrics.count_decision(Action.QUARANTINED)
        event, now = piece[0].event, self._clock.now()
        await until_stored(lambda: self._messages.quarantine(self._account, event, str(error), now))
        return 0
