"""Finds the file of a received message in the event that was kept of it; fetching and opening it is Go's.

Go reads a file whole, however large WhatsApp says it is. So what a sender claims is checked before, and what
has come is checked again.
"""

from dataclasses import dataclass
from typing import Any

import orjson
from google.protobuf.json_format import ParseDict, ParseError

from bot.transports.base import MediaDamaged, MediaTooLarge, Medium
from bot.transports.whatsapp.content import clean, unwrapped
from bot.transports.whatsapp.library import Neonize
from bot.transports.whatsapp.link import Link

# What Go downloads. A round video is a video to it.
_FIELDS = {
    "imageMessage": "imageMessage",
    "videoMessage": "videoMessage",
    "ptvMessage": "videoMessage",
    "audioMessage": "audioMessage",
    "documentMessage": "documentMessage",
    "stickerMessage": "stickerMessage",
}
_KEY_BYTES = _HASH_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What it takes to fetch a file: a message with nothing but that, and what its sender says of it."""

    message: Any
    mimetype: str
    name: str | None


async def fetch(link: Link, ticket: Ticket, most_bytes: int) -> Medium:
    data = await link.download(ticket.message)
    _check_size(len(data), most_bytes)
    return Medium(data=data, mimetype=ticket.mimetype, name=ticket.name)


def ticket_of(neonize: Neonize, raw: str, most_bytes: int) -> Ticket:
    """Raises MediaDamaged where nothing can be fetched by it, and MediaTooLarge."""
    message = unwrapped(_message_of(neonize, raw))
    name = next((name for name in _FIELDS if message.HasField(name)), None)
    if name is None:
        raise MediaDamaged("this message has no file")
    part = getattr(message, name)
    hashes = (part.fileSHA256, part.fileEncSHA256)
    if (
        not isinstance(part.directPath, str)
        or not part.directPath.startswith("/")
        or len(part.mediaKey) != _KEY_BYTES
        or any(len(each) != _HASH_BYTES for each in hashes)
    ):
        raise MediaDamaged("this message does not say where its file is, or how to open it")
    _check_size(part.fileLength, most_bytes)
    asked = {
        "directPath": part.directPath,
        "mediaKey": part.mediaKey,
        "fileSHA256": part.fileSHA256,
        "fileEncSHA256": part.fileEncSHA256,
        "fileLength": part.fileLength,
    }
    messages, field = neonize.messages, _FIELDS[name]
    kind = getattr(messages, field[0].upper() + field[1:])
    return Ticket(
        message=messages.Message(**{field: kind(**asked)}),
        mimetype=clean(part.mimetype) or "application/octet-stream",
        name=clean(getattr(part, "fileName", None)),
    )


def _message_of(neonize: Neonize, raw: str) -> Any:
    """The message of a live event, or of one that the phone told of the past."""
    try:
        tree = orjson.loads(raw)
        said = tree.get("Message") or tree.get("message") or {}
        return ParseDict(said, neonize.messages.Message(), ignore_unknown_fields=True)
    except (ValueError, TypeError, AttributeError, ParseError) as exc:
        raise MediaDamaged("what was kept of this message is no event of WhatsApp's") from exc


def _check_size(size: int, most_bytes: int) -> None:
    if size > most_bytes:
        raise MediaTooLarge(f"the file has {size} bytes, and {most_bytes} are the most")
