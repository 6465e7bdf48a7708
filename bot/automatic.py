"""Automatic texts: what WhatsApp Business says by itself comes as the owner's message, and is no word of the owner's.

Some texts are configured, or the owner has called them automatic: they take nothing over, at sight. What merely looks
like one is held like a human's word until the store has been asked about it, which is before it is recorded; the owner
is asked about each such text once.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256

from bot.clock import Clock
from bot.outbox import Outbox
from bot.policy import Policy
from bot.retry import until_stored
from bot.roles import Roles
from flows.commands.paging import shortened
from flows.commands.target import label
from flows.words import words_of
from storage.automatic import AutomaticStore
from storage.database import Database
from storage.messages import MessageStore
from storage.models import (
    Account,
    Action,
    Address,
    Arrival,
    ChatId,
    InboundMessage,
    Jid,
    Message,
    MessageType,
    Outgoing,
    Recorded,
    Topic,
)
from storage.outbox import OutboxStore
from storage.sessions import SessionStore

_RIGHT_AFTER = timedelta(seconds=2)
_FASTEST_TYPED = 30
"""Signs that nobody types within that time, nor would. What is shorter may greet new customers, and no others."""
_CHATS_KEPT = 10_000
_QUOTED = 80

_QUESTION = (
    "“{text}” went out from your phone to {name} right after they wrote, faster than by hand. Is it an automatic text "
    "of WhatsApp Business, such as a greeting or an away message? I did not take it for you, and answer there still.\n"
    "Reply to this message with\n"
    "/automatic yes – I never step aside for it\n"
    "/automatic no – it was you: I step aside there, and wherever you send it"
)


def pattern_of(text: str) -> re.Pattern[str]:
    """What matches a text as a whole, word by word, case and accents aside; `*` stands for any words, or none."""
    parts = ("".join(f"{re.escape(word)}\n" for word in words_of(part)) for part in text.split("*"))
    return re.compile(r"(?:[^\n]+\n)*".join(parts))


def digest_of(text: str) -> str:
    """The same for texts of the same words."""
    return sha256("\n".join(words_of(text)).encode("utf-8", "replace")).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heard:
    """When a customer has written, as far as this daemon knows: first, and last."""

    first: datetime
    last: datetime


class Automatic:
    """What one account's phone says by itself."""

    def __init__(
        self,
        account: Account,
        database: Database,
        messages: MessageStore,
        sessions: SessionStore,
        store: AutomaticStore,
        queue: OutboxStore,
        outbox: Outbox,
        roles: Roles,
        clock: Clock,
        policy: Policy,
    ) -> None:
        self._account = account
        self._database = database
        self._messages = messages
        self._sessions = sessions
        self._store = store
        self._queue = queue
        self._outbox = outbox
        self._roles = roles
        self._clock = clock
        self._learns = policy.learns_automatic
        self._configured = [pattern_of(text) for text in policy.ignored_texts]
        self._known: frozenset[str] = frozenset()
        self._heard: OrderedDict[Jid, _Heard] = OrderedDict()
        self._working: set[asyncio.Task[None]] = set()

    # -- at sight --

    def judge(self, arrival: Arrival) -> Arrival:
        """The arrival, with what can be said of it at once: a word of the owner's, none, or perhaps none."""
        event = arrival.event
        if not event.from_me:
            self._hear(event)
        elif arrival.takes_over and event.type is MessageType.TEXT and event.text:
            if self._is_known(event.text):
                return _ignored(arrival)
            if self._is_doubtful(event):
                return replace(arrival, is_doubtful=True)
        return arrival

    def _hear(self, event: InboundMessage) -> None:
        for jid in event.chat.jids:
            before = self._heard.get(jid)
            self._heard[jid] = _Heard(first=before.first if before else event.sent_at, last=event.sent_at)
            self._heard.move_to_end(jid)
        while len(self._heard) > _CHATS_KEPT:
            self._heard.popitem(last=False)

    def _is_known(self, text: str) -> bool:
        if self._known and digest_of(text) in self._known:
            return True
        words = "".join(f"{word}\n" for word in words_of(text)) if self._configured else ""
        return any(pattern.fullmatch(words) for pattern in self._configured)

    def _is_doubtful(self, event: InboundMessage) -> bool:
        # Only the phone speaks by itself, and in private chats.
        if not self._learns or event.is_group or event.sender_device or event.metadata.get("typed"):
            return False
        heard = [self._heard[jid] for jid in event.chat.jids if jid in self._heard]
        # Who has written more than that is greeted by nobody.
        said = (one.last if _is_long(event) else one.first for one in heard)
        return any(timedelta() <= event.sent_at - at <= _RIGHT_AFTER for at in said)

    # -- before it is recorded --

    async def sift(self, arrivals: Sequence[Arrival]) -> Sequence[Arrival]:
        """The same, but that what the store takes for automatic, too, is not obeyed."""
        if not any(arrival.is_doubtful for arrival in arrivals):
            return arrivals
        return [
            _ignored(arrival)
            if arrival.is_doubtful and await self._looks_automatic(arrival.event)
            else arrival
            for arrival in arrivals
        ]

    async def _looks_automatic(self, event: InboundMessage) -> bool:
        return await self._store.looks_automatic(
            self._account,
            event.chat.jids,
            digest_of(event.text or ""),
            event.sent_at,
            is_long=_is_long(event),
        )

    # -- after it --

    def recorded(self, recorded: Recorded) -> None:
        """Remember where a text came that is automatic or may be, and ask the owner about it where that is to be done.

        A crash before that loses the question until the text comes again.
        """
        is_ignored = recorded.action is Action.IGNORED_AUTOMATIC
        is_learned = is_ignored and digest_of(recorded.message.text or "") in self._known
        if recorded.is_new and (recorded.arrival.is_doubtful or is_learned):
            self._work(recorded.message, was_obeyed=not is_ignored)

    def _work(self, message: Message, *, was_obeyed: bool) -> None:
        self._working.add(task := asyncio.create_task(self._remember(message, was_obeyed=was_obeyed)))
        task.add_done_callback(self._working.discard)

    async def _remember(self, message: Message, *, was_obeyed: bool) -> None:
        with self._clock.work.doing():
            owner = await until_stored(lambda: self._note(message, was_obeyed=was_obeyed))
            if owner is not None:
                self._outbox.wake(owner)

    async def _note(self, message: Message, *, was_obeyed: bool) -> ChatId | None:
        now = self._clock.now()
        owner = await self._messages.identify(self._account, Address(jid=self._roles.owner), now)
        chat = await self._sessions.chat(message.chat_id)
        digest = digest_of(message.text or "")
        async with self._database.transaction() as connection:
            text_id = await self._store.note(connection, message, digest, was_obeyed=was_obeyed, now=now)
            if text_id is None:
                return None
            name = label(chat) if chat else "a customer"
            text = _QUESTION.format(text=shortened(message.text or "", _QUOTED), name=name)
            topic = Topic(about=message.chat_id, text_id=text_id)
            notice = Outgoing(text=text, metadata=topic.metadata, fenced=False)
            await self._queue.enqueue(owner, notice, now, connection=connection)
            return owner

    async def load(self) -> None:
        """Learn what the owner has said of texts, also to other daemons."""
        self._known = await until_stored(self._store.known)

    def reload(self) -> None:
        """The owner has just said something of one."""
        self._working.add(task := asyncio.create_task(self.load()))
        task.add_done_callback(self._working.discard)


def _is_long(event: InboundMessage) -> bool:
    return len(event.text or "") >= _FASTEST_TYPED


def _ignored(arrival: Arrival) -> Arrival:
    return replace(arrival, takes_over=False, action=Action.IGNORED_AUTOMATIC, slip=None)
