"""One export of a chat: looked through, then read again message by message with ids made from its content."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from bot.importing.errors import Problems
from bot.importing.export import Entry, Stray, entries
from bot.importing.items import Item, content_key, file_facts
from bot.importing.order import DateOrder
from bot.importing.people import Cast
from bot.importing.source import Source
from bot.importing.stamps import INVISIBLE
from bot.importing.text import Readable, lines
from bot.importing.wording import Content, read_content
from storage.imported import PREFIX, PastMessage
from storage.models import Address, Author, ExternalId, InboundMessage, Jid, MessageType

OLDEST = datetime(2009, 1, 1)  # noqa: DTZ001 - WhatsApp did not exist before, on any phone's clock
_ORDINALS_KEPT = 50_000

Watch = Callable[[int], None]
"""Told how many bytes have been read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How an export is to be read. `now` is the time at the import."""

    order: DateOrder
    zone: ZoneInfo
    cast: Cast
    own: Jid
    now: datetime


class Ordinals:
    """The how-manieth of its kind something is. It forgets what was long ago, so that its memory is bounded."""

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, int] = OrderedDict()

    def next(self, key: bytes) -> int:
        number = self._seen.pop(key, -1) + 1
        self._seen[key] = number
        if len(self._seen) > _ORDINALS_KEPT:
            self._seen.popitem(last=False)
        return number


def parse(source: Source, watch: Watch) -> Iterator[Entry | Stray]:
    """Every message and note of the file, and every line that is neither."""
    with source.opened() as stream:
        yield from entries(lines(Watched(stream, watch)))


def items(source: Source, reading: Reading, problems: Problems, watch: Watch) -> Iterator[Item]:
    """Every message of the file as it is to be recorded."""
    ordinals = Ordinals()
    files = frozenset(source.files)
    for entry in parse(source, watch):
        if isinstance(entry, Stray):
            problems.add(entry.line, "it stands before the first message")
        elif entry.sender is not None:
            wall = entry.stamp.read(reading.order)
            if entry.is_cut:
                problems.add(entry.line, "the message is longer than one can be")
            elif (reason := _refused(wall, reading)) is not None or wall is None:
                problems.add(entry.line, reason or "there is no such date")
            else:
                content = read_content(entry.text, files)
                yield _item(entry, entry.sender, content, wall, reading, ordinals, source)


def _refused(wall: datetime | None, reading: Reading) -> str | None:
    if wall is None:
        return f"there is no such date ({reading.order})"
    if wall < OLDEST:
        return f"its date is before WhatsApp ({wall.date()})"
    if wall.replace(tzinfo=reading.zone) > reading.now + timedelta(days=1):
        return f"its date is still to come ({wall.date()})"
    return None


def _item(
    entry: Entry,
    sender: str,
    content: Content,
    wall: datetime,
    reading: Reading,
    ordinals: Ordinals,
    source: Source,
) -> Item:
    from_me = sender in reading.cast.mine
    conversation = reading.cast.conversation
    address = reading.own if from_me else reading.cast.address(sender)
    metadata = dict(content.metadata)
    kind, text = content.type, content.text
    if content.file is not None:
        info = source.files.get(content.file)
        metadata["media"] = file_facts(content.file, info.file_size if info else None)
        if "PTT" in content.file:
            metadata["voice"] = True
    if content.by_whatsapp:
        # Words of WhatsApp's own are nobody's: a model is not to take them for the customer's.
        kind, text = MessageType.SYSTEM, None
        metadata["notice"] = content.text
    event = InboundMessage(
        external_id=_identify(
            conversation.jid, "me" if from_me else _who(sender, reading.cast), wall, content, ordinals
        ),
        chat=Address(jid=conversation.jid),
        sender=Address(jid=address),
        sent_at=wall.replace(tzinfo=reading.zone).astimezone(UTC),
        from_me=from_me,
        is_group=conversation.is_group,
        type=kind,
        text=text,
        is_history=True,
        metadata=metadata,
    )
    return Item(
        line=entry.line,
        message=PastMessage(event=event, author=Author.HUMAN if from_me else Author.CUSTOMER),
        is_made=True,
        is_edited=content.edited,
        is_deleted=content.deleted,
        sender_name=None
        if from_me or (address.partition("@")[0].isdigit() and _is_number(sender))
        else sender,
        file=content.file if content.file in source.files else None,
    )


def _is_number(sender: str) -> bool:
    return not any(c.isalpha() for c in sender)


def _who(sender: str, cast: Cast) -> str:
    """In a chat with one person the other side is one, whatever the phone calls them by now."""
    return cast.address(sender) if cast.conversation.is_group else ""


def _identify(chat: Jid, who: str, wall: datetime, content: Content, ordinals: Ordinals) -> ExternalId:
    """An id that the same message has in every export of its chat: with or without media, seconds, or what follows."""
    category, words = content_key(content.type, content.text)
    if content.deleted:
        category = "deleted"
    elif category not in ("text", "medium"):
        words = INVISIBLE.sub("", content.text or "") if content.file is None else ""
    parts = (chat, who, wall.strftime("%Y-%m-%dT%H:%M"), category, words)
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "replace"))
    number = ordinals.next(digest.digest())
    digest.update(f"\0{number}".encode())
    return ExternalId(f"{PREFIX}{digest.hexdigest()[:32]}")


class Watched:
    """A stream that tells how far it has been read."""

    def __init__(self, stream: Readable, watch: Watch) -> None:
        self._stream = stream
        self._watch = watch

    def read(self, size: int = -1, /) -> bytes:
        chunk = self._stream.read(size)
        self._watch(len(chunk))
        return chunk
