"""Delivers what neonize hears of chats, converted and in order; counts what is not for us.

Only a vote comes a little later than it was heard, because it has to be opened first; nothing answers it.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import structlog

from bot.transports.base import Deliver
from bot.transports.whatsapp.convert import (
    Drop,
    to_message,
    to_receipt,
    to_typing,
    to_unopened,
)
from bot.transports.whatsapp.ids import People, is_person
from bot.transports.whatsapp.link import Handlers
from bot.transports.whatsapp.subjects import Subjects
from bot.transports.whatsapp.timers import Timers
from bot.transports.whatsapp.votes import Votes, is_vote
from storage.models import GROUP_SERVER, InboundMessage, Jid, Receipt, Typing, Unopened

_log = structlog.get_logger(__name__)

_SHARED = (GROUP_SERVER, "broadcast")

OpenVote = Callable[[Any, Callable[[Sequence[bytes] | None], None]], None]
"""Takes the event of a vote, and later calls back with the hashes of what was chosen, None if it does not open."""


class Ears:
    """`missing` is told of a person whose other address is not known, so that the next event can have it."""

    def __init__(
        self,
        account: str,
        people: People,
        timers: Timers,
        clock: Callable[[], datetime],
        missing: Callable[[Jid], None],
        open_vote: OpenVote,
        subjects: Subjects,
    ) -> None:
        self._account = account
        self._people = people
        self._timers = timers
        self._clock = clock
        self._missing = missing
        self._open_vote = open_vote
        self._subjects = subjects
        self._votes = Votes()
        self.dropped: Counter[str] = Counter()

    def handlers(self, deliver: Deliver) -> Handlers:
        return {
            "MessageEv": lambda event: self._on_message(event, deliver),
            "ReceiptEv": lambda event: self._pass_on(to_receipt(event, self._people, self._clock()), deliver),
            "ChatPresenceEv": lambda event: self._pass_on(to_typing(event, self._people), deliver),
            "UndecryptableMessageEv": lambda event: self._on_undecryptable(event, deliver),
            "CallOfferEv": self._on_call,
            "CallOfferNoticeEv": self._on_call,
        }

    def _on_message(self, event: Any, deliver: Deliver) -> None:
        heard = to_message(event, self._people, self._clock())
        if isinstance(heard, Drop):
            self._pass_on(heard, deliver)
            return
        self._timers.learn(heard)
        self._votes.remember(heard, event.Message)
        if not is_vote(event.Message):
            self._pass_on(heard, deliver)
            return

        def on_opened(chosen: Sequence[bytes] | None) -> None:
            self._pass_on(heard if chosen is None else self._votes.named(heard, chosen), deliver)

        self._open_vote(event, on_opened)

    def _pass_on(self, heard: InboundMessage | Unopened | Receipt | Typing | Drop, deliver: Deliver) -> None:
        if isinstance(heard, Drop):
            self.dropped[heard.reason] += 1
            return
        deliver(heard)
        told = heard.message if isinstance(heard, Unopened) else heard
        for address in (told.chat, told.sender) if isinstance(told, InboundMessage) else (told.chat,):
            if address.alt is None and is_person(address.jid):
                self._missing(address.jid)
        if isinstance(told, InboundMessage):
            self._subjects.heard_of(told.chat.jid)

    def _on_undecryptable(self, event: Any, deliver: Deliver) -> None:
        # Of what is sealed once for many, whatsmeow also says so when it has not been told the sender's key yet.
        source, now = event.Info.MessageSource, self._clock()
        kept = event.IsUnavailable and source.Chat.Server not in _SHARED
        # neonize has asked for it again, or WhatsApp may send it after all. Until then its place is recorded: it is not
        # lost if it never comes.
        self._pass_on(to_unopened(event, self._people, now, kept=kept), deliver)
        if kept:
            return
        self.dropped["undecryptable"] += 1
        _log.warning(
            "whatsapp_message_undecryptable",
            account=self._account,
            message_id=event.Info.ID,
            from_me=source.IsFromMe,
        )

    def _on_call(self, event: Any) -> None:
        # Not ours to take or to decline: the phone rings. Counted, so that the owner can be told why a customer
        # was not answered who never wrote.
        self.dropped["call"] += 1
        _log.info("whatsapp_call", account=self._account)
