"""Holds: replies that wait until it is known whether another answer takes their place. Sends and stores nothing.

When the daemon ends meanwhile they are as any others in the store, and go out at the next start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bot.clock import Alarm, Clock
from storage.models import ChatId, Due, MessageId


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """These replies of a chat are not sent before the alarm rings."""

    ids: frozenset[MessageId]
    alarm: Alarm


class Holds:
    """One account's: a reply is either held back or on its way."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._holds: dict[ChatId, Hold] = {}
        self._under_way: dict[ChatId, set[MessageId]] = {}

    def hold_back(self, chat_id: ChatId, ids: Sequence[MessageId]) -> bool:
        """Claim none of these replies until `let_go`; False when one is already on its way."""
        if not self._under_way.get(chat_id, set()).isdisjoint(ids):
            return False
        self._holds[chat_id] = Hold(ids=frozenset(ids), alarm=Alarm(self._clock))
        return True

    def let_go(self, chat_id: ChatId) -> None:
        """What was held back goes out, unless it has been withdrawn meanwhile."""
        if (hold := self._holds.pop(chat_id, None)) is not None:
            hold.alarm.ring()

    def on(self, due: Due) -> Hold | None:
        """What keeps this reply from being sent."""
        hold = self._holds.get(due.chat_id)
        return hold if hold is not None and due.id in hold.ids else None

    def set_out(self, due: Due) -> None:
        """This reply is on its way: it is too late to hold it back."""
        self._under_way.setdefault(due.chat_id, set()).add(due.id)

    def arrived(self, chat_id: ChatId) -> None:
        """Nothing of the chat is on its way any more."""
        self._under_way.pop(chat_id, None)

    def clear(self) -> None:
        """Forget what is held back, without a word to who waits for it."""
        self._holds.clear()
