"""Pacing: when a message may leave, so that a number does not look like a machine. It waits and sends nothing itself.

What the owner and the admins are told, what a person wrote, and what is taken back is neither paced nor counted.

Two token buckets, a chat's and the account's: a burst goes at once, then one each while; who comes later waits. And
a cap on what leaves in any 24 hours, lower for a number that was linked not long ago; what is beyond it is not sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from bot.clock import Clock
from bot.policy import Pace, Rate
from storage.models import ChatId, Due, Jid, Origin

_DAY = timedelta(days=1)
_MOST_REMEMBERED = 1000


class Pacer:
    """One account's. `is_ours` knows the addresses of the owner and the admins."""

    def __init__(self, clock: Clock, pace: Pace, is_ours: Callable[[Sequence[Jid]], bool]) -> None:
        self._clock = clock
        self._pace = pace
        self._is_ours = is_ours
        self._seen = clock.now()
        self._chats: dict[ChatId, datetime] = {}
        self._account: datetime | None = None
        self._left: deque[datetime] = deque()
        self._linked_at: datetime | None = None
        self._told_at: datetime | None = None
        self._listeners: list[Callable[[int], None]] = []

    def listen(self, listener: Callable[[int], None]) -> None:
        """Is called with the cap when it is reached, once a day."""
        self._listeners.append(listener)

    def remember(self, left: Sequence[tuple[datetime, Sequence[Jid]]]) -> None:
        """What is known from before: what has left in the last 24 hours, and to whom."""
        self._left = deque(sorted(at for at, jids in left if not self._is_ours(jids)))

    def link(self, at: datetime | None) -> None:
        """When the number was linked, as far as is known."""
        self._linked_at = at

    def turn_in_chat(self, due: Due) -> datetime:
        """When the chat's next may leave; whoever asks has taken that turn."""
        now = self._now()
        if (rate := self._pace.per_chat) is None or not self._counts(due):
            return now
        self._forget_idle_chats(now)
        at, self._chats[due.chat_id] = _next(rate, self._chats.get(due.chat_id), now)
        return at

    def turn_of_account(self, due: Due) -> datetime:
        """When the account's next may leave; whoever asks has taken that turn."""
        now = self._now()
        if (rate := self._pace.per_account) is None or not self._counts(due):
            return now
        at, self._account = _next(rate, self._account, now)
        return at

    def forbids(self, due: Due) -> str | None:
        """Why this one is not to be sent today; None if it may be."""
        now = self._now()
        cap = self._pace.cap(self._linked_at, now)
        while self._left and self._left[0] <= now - _DAY:
            self._left.popleft()
        if cap is None or len(self._left) < cap or not self._counts(due):
            return None
        self._tell(cap, now)
        warming = (
            " of a number that was linked not long ago (pace.first_day)" if cap != self._pace.daily else ""
        )
        return f"not tried: {cap} messages in 24 hours are the most{warming or ' (pace.daily)'}"

    def set_out(self, due: Due) -> None:
        """This one counts from now on: others must not take its place while it is on its way."""
        if self._counts(due):
            self._left.append(self._now())

    def came_back(self, due: Due) -> None:
        """It has not left after all."""
        if self._left and self._counts(due):
            self._left.pop()

    def _counts(self, due: Due) -> bool:
        by_human = due.outgoing.metadata.get("origin") == Origin.CONSOLE
        return due.outgoing.revokes is None and not by_human and not self._is_ours(due.jids)

    def _now(self) -> datetime:
        """The time. Where the clock was set back all that is remembered goes with it: nobody waits for the old one."""
        now = self._clock.now()
        if (back := self._seen - now) > timedelta(0):
            self._chats = {chat: at - back for chat, at in self._chats.items()}
            self._account = None if self._account is None else self._account - back
            self._left = deque(at - back for at in self._left)
            self._told_at = None if self._told_at is None else self._told_at - back
        self._seen = now
        return now

    def _tell(self, cap: int, now: datetime) -> None:
        if self._told_at is None or now - self._told_at >= _DAY:
            self._told_at = now
            for listener in self._listeners:
                listener(cap)

    def _forget_idle_chats(self, now: datetime) -> None:
        if len(self._chats) >= _MOST_REMEMBERED:
            self._chats = {chat: full for chat, full in self._chats.items() if full > now}


def _next(rate: Rate, spent_until: datetime | None, now: datetime) -> tuple[datetime, datetime]:
    """The next turn, and until when the bucket is spent after it: one is refilled in each `every`."""
    spent_until = max(spent_until or now, now)
    at = max(now, spent_until - (rate.burst - 1) * rate.every)
    return at, max(spent_until, at) + rate.every
