"""Which chats have disappearing messages on, as far as their messages have told; forgets it with the process.

A message without the chat's timer stays for ever on the customer's phone, which says so beneath it. Nobody is
written to first, so the message that is answered has told the timer even after a restart.
"""

from collections.abc import Mapping
from typing import Any

from bot.transports.whatsapp.ids import People
from storage.models import InboundMessage, Jid, MessageType

# Everything that carries the timer of its chat if that has one.
_TELLING = frozenset(
    {
        MessageType.TEXT, MessageType.IMAGE, MessageType.VIDEO, MessageType.AUDIO, MessageType.DOCUMENT,
        MessageType.STICKER, MessageType.LOCATION, MessageType.CONTACT,
    }
)  # fmt: skip


class Timers:
    def __init__(self, people: People) -> None:
        self._people = people
        self._seconds: dict[Jid, int] = {}

    def learn(self, message: InboundMessage) -> None:
        seconds = _told_by(message.type, message.metadata)
        if seconds is None:
            return
        for jid in message.chat.jids:
            if seconds:
                self._seconds[jid] = seconds
            else:
                self._seconds.pop(jid, None)

    def applied(self, to: Jid, message: Any) -> Any:
        """The message as this chat wants it: the same one, or a copy with its timer."""
        told = (self._seconds[jid] for jid in self._people.address(to).jids if jid in self._seconds)
        if (seconds := next(told, None)) is None:
            return message
        timed = type(message)()
        timed.CopyFrom(message)
        if timed.HasField("conversation"):
            # A bare text has no place for a timer.
            text = timed.conversation
            timed.ClearField("conversation")
            timed.extendedTextMessage.text = text
        for _, content in timed.ListFields():
            if hasattr(content, "contextInfo"):
                content.contextInfo.expiration = seconds
        return timed


def _told_by(kind: MessageType, metadata: Mapping[str, Any]) -> int | None:
    """Seconds, 0: none; None: this message says nothing of it."""
    told = metadata.get("expires_in")
    if told is None:
        return 0 if kind in _TELLING and not metadata.get("view_once") else None
    return int(told)
