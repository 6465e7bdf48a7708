"""The nouns of reading: pages and what stands on them, excerpts, statistics; pure, as those of storage.models.

A page is read by key, never by offset: hand its `next` back as `before`, and the next one costs no more than the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Generic, TypeVar

from storage.models import Author, ChatSummary, Direction, Message, MessageId, MessageType, Status

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """Some of a list, newest first unless told otherwise. `next` continues it; None: this was the end."""

    items: tuple[T, ...]
    next: MessageId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A message as lists show it: with names, and what became of it if the bot said it.

    `status` and what follows is the outbox's; None for what people wrote. `chat_phone` is digits alone.
    """

    message: Message
    sender_name: str | None = None
    chat_name: str | None = None
    chat_phone: str | None = None
    status: Status | None = None
    error: str | None = None
    delivered_at: datetime | None = None
    read_at: datetime | None = None
    failed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """The part of a text in which the words are that were looked for; `marks` are their places in it, end excluded.

    `has_before` and `has_after`: the text goes on at that side.
    """

    text: str
    marks: tuple[tuple[int, int], ...] = ()
    has_before: bool = False
    has_after: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Find:
    """A message with the words that were looked for."""

    entry: Entry
    excerpt: Excerpt


@dataclass(frozen=True, slots=True, kw_only=True)
class Medium:
    """A message with a file, as a gallery shows it. `url` is None until the file is stored somewhere."""

    entry: Entry
    url: str | None = None
    thumbnail_url: str | None = None
    name: str | None = None
    mime: str | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatEntry:
    """A chat in the list of chats, with the newest that was said there; `preview` has at most 100 signs."""

    chat: ChatSummary
    last_message_id: MessageId
    preview: str | None = None
    type: MessageType | None = None
    author: Author | None = None
    sent_at: datetime | None = None


class By(StrEnum):
    """What statistics can be split by."""

    DIRECTION = "direction"
    AUTHOR = "author"
    CONTEXT = "context"
    TYPE = "type"
    COMMAND = "command"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many messages of one kind there are, and how many of them have a file."""

    direction: Direction
    author: Author
    is_group: bool
    type: MessageType
    command: str | None
    messages: int
    media: int

    def key(self, by: By) -> str | None:
        """Where it belongs in a split; `context` is group or private."""
        match by:
            case By.DIRECTION:
                return self.direction
            case By.AUTHOR:
                return self.author
            case By.CONTEXT:
                return "group" if self.is_group else "private"
            case By.TYPE:
                return self.type
            case By.COMMAND:
                return self.command


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """How much was said. Edits, reactions and revokes are no messages of their own; what was deleted, or never said,
    is not counted. `failed` are ours that could not be sent; `total` holds them."""

    tallies: tuple[Tally, ...]
    failed: int = 0

    @property
    def total(self) -> int:
        return sum(t.messages for t in self.tallies)

    @property
    def incoming(self) -> int:
        return self.split(By.DIRECTION).get(Direction.INBOUND, 0)

    @property
    def outgoing(self) -> int:
        return self.split(By.DIRECTION).get(Direction.OUTBOUND, 0)

    @property
    def with_media(self) -> int:
        return sum(t.media for t in self.tallies)

    @property
    def commands(self) -> int:
        return sum(t.messages for t in self.tallies if t.command is not None)

    def split(self, by: By) -> Mapping[str, int]:
        """Messages by one of their properties, most first; what has none (no command) is left out."""
        found: dict[str, int] = {}
        for tally in self.tallies:
            if (key := tally.key(by)) is not None:
                found[str(key)] = found.get(key, 0) + tally.messages
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
