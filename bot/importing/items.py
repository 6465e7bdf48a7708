"""What an import has in its hands on the way from a file to the store: one message each, with what tells it apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bot.importing.stamps import INVISIBLE
from storage.imported import PastMessage
from storage.models import MEDIA, MessageType

_KEPT_BY_KIND = frozenset({MessageType.LOCATION, MessageType.CONTACT, MessageType.POLL, MessageType.SYSTEM})


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A message of a file. `line` is where it stands, `is_made` that its id is one of ours and says what it is.

    `sender_name` is how the file calls who wrote it, `file` what is attached to it in the archive.
    """

    line: int
    message: PastMessage
    is_made: bool = False
    is_edited: bool = False
    is_deleted: bool = False
    sender_name: str | None = None
    file: str | None = None

    @property
    def is_changed(self) -> bool:
        return self.is_edited or self.is_deleted

    @property
    def key(self) -> tuple[bool, str, str]:
        """Two messages of one minute with one key are the same, wherever they were read."""
        event = self.message.event
        return (event.from_me, *content_key(event.type, event.text))


@dataclass(slots=True)
class Tally:
    """What became of the messages of one file, and of the files within it."""

    new: int = 0
    known: int = 0
    changed: int = 0
    files: int = 0
    files_left: int = 0


def content_key(kind: MessageType, text: str | None) -> tuple[str, str]:
    """What is said, without what one way of telling it has and another has not: a file's kind, marks of direction."""
    words = INVISIBLE.sub("", text or "").strip()
    if kind in MEDIA or kind is MessageType.UNKNOWN:
        return "medium", words
    if kind in _KEPT_BY_KIND:
        return kind, ""
    return "text", words


def file_facts(name: str, size: int | None) -> Mapping[str, object]:
    """What is kept of an attached file where the file itself is not."""
    return {"name": name} if size is None else {"name": name, "size_bytes": size}
