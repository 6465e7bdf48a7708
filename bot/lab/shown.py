"""What a phone shows beside messages, read from their stanzas: ticks, "typing…", who is online; no network."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from bot.lab.nodes import Jid, Node
from bot.lab.sealing import speaker_of

Number = Callable[[Jid], str]
"""The phone number behind an id, as +5511…."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a phone is told about its messages; `kind` is delivered, inactive, read, read-self, played…"""

    kind: str
    ids: tuple[str, ...]
    sender: str

    @classmethod
    def read(cls, stanza: Node, number: Number) -> Self:
        items = (item.text("id") for part in stanza.all("list") for item in part.all("item"))
        kind = stanza.text("type", "") or "delivered"
        return cls(kind=kind, ids=(stanza.text("id"), *items), sender=number(speaker_of(stanza)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatState:
    """`state` is composing or paused; `recording` a voice message."""

    state: str
    recording: bool
    sender: str

    @classmethod
    def read(cls, stanza: Node, number: Number) -> Self:
        state = stanza.children[0]
        recording = state.text("media", "") == "audio"
        return cls(state=state.tag, recording=recording, sender=number(speaker_of(stanza)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """What stands above a chat. `last_seen` is None of who is online, and of who never was."""

    person: str
    online: bool
    last_seen: dt.datetime | None

    @classmethod
    def read(cls, stanza: Node, number: Number) -> Self:
        last = stanza.text("last", "")
        return cls(
            person=number(stanza.jid("from")),
            online=stanza.text("type", "available") == "available",
            last_seen=dt.datetime.fromtimestamp(int(last), dt.UTC) if last else None,
        )
