"""Delivers what neonize hears of chats, converted and in order; counts what is not for us."""

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

import structlog

from bot.transports.base import Deliver
from bot.transports.whatsapp.convert import Drop, to_message, to_receipt, to_typing
from bot.transports.whatsapp.ids import People, server_of
from bot.transports.whatsapp.link import Handlers
from storage.models import LID_SERVER, InboundMessage, Jid, Receipt, Typing

_log = structlog.get_logger(__name__)


class Ears:
    """`missing` is told of a LID whose number is not known, so that the next event can have it."""

    def __init__(
        self, account: str, people: People, clock: Callable[[], datetime], missing: Callable[[Jid], None]
    ) -> None:
        self._account = account
        self._people = people
        self._clock = clock
        self._missing = missing
        self.dropped: Counter[str] = Counter()

    def handlers(self, deliver: Deliver) -> Handlers:
        return {
            "MessageEv": lambda event: self._pass_on(to_message(event, self._people, self._clock()), deliver),
            "ReceiptEv": lambda event: self._pass_on(to_receipt(event, self._people, self._clock()), deliver),
            "ChatPresenceEv": lambda event: self._pass_on(to_typing(event, self._people), deliver),
            "UndecryptableMessageEv": self._on_undecryptable,
        }

    def _pass_on(self, heard: InboundMessage | Receipt | Typing | Drop, deliver: Deliver) -> None:
        if isinstance(heard, Drop):
            self.dropped[heard.reason] += 1
            return
        deliver(heard)
        for address in (heard.chat, heard.sender) if isinstance(heard, InboundMessage) else (heard.chat,):
            if address.alt is None and server_of(address.jid) == LID_SERVER:
                self._missing(address.jid)

    def _on_undecryptable(self, event: Any) -> None:
        # No message is made of it: neonize has asked for it again, and its text would then come with the same
        # id and be taken for a repeat. If it never comes, this line is all there is.
        self.dropped["undecryptable"] += 1
        _log.warning(
            "whatsapp_message_undecryptable",
            account=self._account,
            message_id=event.Info.ID,
            from_me=event.Info.MessageSource.IsFromMe,
            unavailable=event.IsUnavailable,
        )
