"""The rhythm of a chat: whether the other side answers like a bot, and whether an answer was given just now. In memory.

Only what comes after an answer of ours has left is an answer to it; people who write while we type are in no loop. A
restart forgets it all, and costs some more rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from bot.clock import Clock
from bot.events import Event, Said
from bot.policy import Loops
from storage.models import Author, ChatId, Message, Outgoing

_PATIENCE = 10
"""Who repeats the same words need not be as quick: so many times as long."""
_MOST_REMEMBERED = 10_000
_FORGOTTEN_AFTER = timedelta(hours=1)
_GIVEN_TWICE = 2
_FASTEST_TYPED_PER_SECOND = 7.0
_MENU_WORDS = 20
"""Signs: as little as "yes" or "2" is said again and again to different questions."""


@dataclass(slots=True)
class _Chat:
    touched_at: datetime
    said_at: datetime | None = None
    words: str | None = None
    quick: int = 0
    same: int = 0
    answer: tuple[str, tuple[str, ...]] | None = None
    given: list[datetime] = field(default_factory=list)


class Rhythm:
    """One account's chats with one person each."""

    def __init__(self, clock: Clock, loops: Loops) -> None:
        self._clock = clock
        self._loops = loops
        self._chats: dict[ChatId, _Chat] = {}

    def hear(self, event: Event) -> None:
        """An answer of ours has left."""
        if isinstance(event, Said) and event.due.fenced and event.due.answers:
            self._chat(event.due.chat_id).said_at = self._clock.now()

    def note(self, message: Message) -> None:
        """A customer has written."""
        if message.is_group or message.author is not Author.CUSTOMER or message.command is not None:
            return
        chat = self._chat(message.chat_id)
        # Pictures and voice notes have no words, and no two of them are the same.
        words = _folded(message.text or "") or None
        waited = None if chat.said_at is None else self._clock.now() - chat.said_at
        chat.said_at = None  # what else comes before our next is no answer
        if waited is None:
            return
        chat.quick = chat.quick + 1 if self._is_quick(words, waited) else 0
        chat.same = chat.same + 1 if self._is_same(chat, words, waited) else 0
        chat.words = words

    def _is_quick(self, words: str | None, waited: timedelta) -> bool:
        """Whether nobody types that in that time."""
        typed = waited.total_seconds() * _FASTEST_TYPED_PER_SECOND
        return words is not None and timedelta(0) < waited <= self._loops.within and len(words) > typed

    def _is_same(self, chat: _Chat, words: str | None, waited: timedelta) -> bool:
        if (
            words is None
            or words != chat.words
            or not timedelta(0) < waited <= self._loops.within * _PATIENCE
        ):
            return False
        return len(words) > _MENU_WORDS or len(chat.given) >= _GIVEN_TWICE

    def loop(self, chat_id: ChatId) -> str | None:
        """What shows that a bot is at the other end; None if nothing does."""
        chat, loops = self._chats.get(chat_id), self._loops
        if chat is None:
            return None
        if loops.rounds is not None and chat.quick >= loops.rounds:
            return f"{chat.quick} answers in a row within {loops.within.total_seconds():.0f} s of ours"
        # The first time is no repetition.
        if loops.repeats is not None and chat.same + 1 >= loops.repeats:
            return f"the same words {chat.same + 1} times in a row, each soon after ours"
        return None

    def forget(self, chat_id: ChatId) -> None:
        """The loop was dealt with: it begins anew."""
        self._chats.pop(chat_id, None)

    def is_needless(self, question: Message, replies: Sequence[Outgoing]) -> bool:
        """Whether the same question had just this answer twice in a row, a short time ago, and after each had left."""
        chat, within = self._chats.get(question.chat_id), self._loops.same_answer
        if chat is None or within is None or not question.text or chat.answer != _pair(question, replies):
            return False
        since = self._clock.now() - within
        return chat.same > 0 and sum(at > since for at in chat.given) >= _GIVEN_TWICE

    def answered(self, question: Message, replies: Sequence[Outgoing]) -> None:
        """This answer is on its way."""
        if question.is_group or question.command is not None or not replies:
            return
        chat, pair = self._chat(question.chat_id), _pair(question, replies)
        now = self._clock.now()
        chat.given = [*chat.given[-1:], now] if chat.answer == pair else [now]
        chat.answer = pair

    def _chat(self, chat_id: ChatId) -> _Chat:
        now = self._clock.now()
        if len(self._chats) >= _MOST_REMEMBERED:
            self._chats = {c: k for c, k in self._chats.items() if now - k.touched_at < _FORGOTTEN_AFTER}
        chat = self._chats.setdefault(chat_id, _Chat(now))
        chat.touched_at = now
        return chat


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _pair(question: Message, replies: Sequence[Outgoing]) -> tuple[str, tuple[str, ...]]:
    return _folded(question.text or ""), tuple(reply.text for reply in replies)
