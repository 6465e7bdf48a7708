"""Pacing: when a message may leave, so that a number does not look like a machine. It waits and sends nothing itself.

Two token buckets, a chat's and the account's: a burst goes at once, then one each while; who comes later waits. And
a cap on what leaves in any 24 hours, lower for a number that was linked not long ago; what is beyond it is not sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from bot.clock import Clock
from bot.policy import Pace, Rate
from storage.models import ChatId, Due, Jid

_DAY = timedelta(days=1)
_MOST_REMEMBERED = 1000


class Pacer:
    """One account's. `is_own` knows the addresses of the account itself: what the owner is told is not paced."""

    def __init__(self, clock: Clock, pace: Pace, is_own: Callable[[Sequence[Jid]], bool]) -> None:
        self._clock = clock
        self._pace = pace
        self._is_own = is_own
        self._chats: dict[ChatId, datetime] = {}
        self._account: datetime | None = None
        self._left: deque[datetime] = deque()
        self._linked_at: datetime | None = None
        self._told_at: datetime | None = None
        self._listeners: list[Callable[[int], None]] = []

    def listen(self, listener: Callable[[int], None]) -> None:
        """Is called with the cap when it is reached, once a day."""
        self._listeners.append(listener)

    def remember(self, linked_at: datetime | None, left: Sequence[datetime]) -> None:
        """What is known from before: when the number was linked, and what has left in the last 24 hours."""
        self._linked_at = linked_at
        self._left = deque(sorted(left))

    def turn_in_chat(self, due: Due) -> datetime:
        """When the chat's next may leave; whoever asks has taken that turn."""
        if (rate := self._pace.per_chat) is None or self._is_own(due.jids):
            return self._clock.now()
        self._forget_idle_chats()
        at, self._chats[due.chat_id] = _next(rate, self._chats.get(due.chat_id), self._clock.now())
        return at

    def turn_of_account(self, due: Due) -> datetime:
        """When the account's next may leave; whoever asks has taken that turn."""
        if (rate := self._pace.per_account) is None or self._is_own(due.jids):
            return self._clock.now()
        at, self._account = _next(rate, self._account, self._clock.now())
        return at

    def forbids(self, due: Due) -> str | None:
        """Why this one is not to be sent today; None if it may be."""
        now = self._clock.now()
        cap = self._pace.cap(self._linked_at, now)
        while self._left and self._left[0] <= now - _DAY:
            self._left.popleft()
        if cap is None or len(self._left) < cap or self._is_own(due.jids):
            return None
        self._tell(cap, now)
        warming = (
            " of a number that was linked not long ago (pace.first_day)" if cap != self._pace.daily else ""
        )
        return f"not tried: {cap} messages in 24 hours are the most{warming or ' (pace.daily)'}"

    def set_out(self, due: Due) -> None:
        """This one counts from now on: others must not take its place while it is on its way."""
        if not self._is_own(due.jids):
            self._left.append(self._clock.now())

    def came_back(self, due: Due) -> None:
        """It has not left after all."""
        if self._left and not self._is_own(due.jids):
            self._left.pop()

    def _tell(self, cap: int, now: datetime) -> None:
        if self._told_at is None or now - self._told_at >= _DAY:
            self._told_at = now
            for listener in self._listeners:
                listener(cap)

    def _forget_idle_chats(self) -> None:
        if len(self._chats) >= _MOST_REMEMBERED:
            now = self._clock.now()
            self._chats = {chat: full for chat, full in self._chats.items() if full > now}


def _next(rate: Rate, spent_until: datetime | None, now: datetime) -> tuple[datetime, datetime]:
    """The next turn, and until when the bucket is spent after it: one is refilled in each `every`."""
    spent_until = max(spent_until or now, now)
    at = max(now, spent_until - (rate.burst - 1) * rate.every)
    return at, max(spent_until, at) + rate.every
