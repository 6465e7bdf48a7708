"""The breaker on first contacts of one account: after a refusal nobody new is written to for a while.

    closed --refused--> open --the time is up--> half-open: one try --it went out--> closed
                          ^-----------refused, for twice as long-----------'

Chats in which the customer has written go on as before. It holds nothing back and sends nothing: it only says
which message is not to be tried. The state is in memory; a restart costs one more try.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from bot.clock import Clock
from bot.transports.base import Connection, ConnectionState
from bot.transports.states import shown
from storage.models import ChatId, Due, Jid, MessageId

log = structlog.get_logger(__name__)

FIRST_PAUSE = timedelta(hours=1)
LONGEST_PAUSE = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """Nobody new is written to until then; `pause` is how long that is from the refusal on."""

    since: datetime
    until: datetime
    pause: timedelta


class Breaker:
    """`is_own` knows the addresses of the account itself: the owner is never somebody new."""

    def __init__(self, clock: Clock, is_own: Callable[[Sequence[Jid]], bool] = lambda jids: False) -> None:
        self._clock = clock
        self._is_own = is_own
        self._limit: Limit | None = None
        self._told = False
        self._refused: dict[ChatId, MessageId] = {}
        self._listeners: list[Callable[[Limit | None], None]] = []

    def listen(self, listener: Callable[[Limit | None], None]) -> None:
        """Is called with a limit when there is one, again with the next, and with None when it is over."""
        self._listeners.append(listener)

    @property
    def limit(self) -> Limit | None:
        """What holds now. After its time the next first contact is tried."""
        return self._limit if self._limit is not None and self._clock.now() < self._limit.until else None

    def forbids(self, due: Due) -> str | None:
        """Why this message is not to be tried; None if it may be."""
        if (limit := self.limit) is None or not self._is_affected(due):
            return None
        return f"not tried: WhatsApp refuses first contacts of this number until {limit.until:%Y-%m-%d %H:%M} UTC"

    def refused(self, due: Due) -> None:
        """The platform has refused this message as a first contact."""
        self._refused[due.chat_id] = due.id
        if self.limit is None:
            now, before = self._clock.now(), self._limit
            pause = FIRST_PAUSE if before is None else min(before.pause * 2, LONGEST_PAUSE)
            self._limit = Limit(since=before.since if before else now, until=now + pause, pause=pause)
            log.warning("reach_out_limited", until=self._limit.until.isoformat(timespec="seconds"))
            self._tell(self._limit)

    def went_out(self, due: Due) -> None:
        """The platform has taken this message."""
        if self._limit is not None and self.limit is None and self._is_affected(due):
            log.info("reach_out_unlimited")
            self._limit = None
            self._refused.clear()
        self._refused.pop(due.chat_id, None)

    def tick(self) -> None:
        """To be called now and then, so that the end of a limit is told: nothing happens at that moment."""
        if self._told and self.limit is None:
            self._tell(None)

    def show(self, connection: Connection) -> Connection:
        """The connection, as the owner is to see it."""
        limit = self.limit
        if limit is None or connection.state is not ConnectionState.CONNECTED or not connection.can_send:
            return connection
        return shown(ConnectionState.REACH_OUT_LIMITED, since=limit.since, next_try=limit.until)

    def _is_affected(self, due: Due) -> bool:
        if self._is_own(due.jids):
            return False
        if (refused := self._refused.get(due.chat_id)) is None:
            return due.is_first_contact
        # Refused there before, unless the customer has written since.
        return all(answered < refused for answered in due.answers)

    def _tell(self, limit: Limit | None) -> None:
        self._told = limit is not None
        for listener in self._listeners:
            listener(limit)
