"""Fetches the media that a reply names by URL and makes the message around it; uploads through what it is given."""

import asyncio
import mimetypes
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx2

from bot.filetypes import mimetype_of
from bot.transports.base import Content, SendRefused
from bot.transports.whatsapp import formats
from bot.transports.whatsapp.content import clean
from bot.transports.whatsapp.library import Neonize
from storage.models import MessageType

LARGEST_BYTES = 64 * 1024 * 1024
_SECONDS = httpx2.Timeout(30.0, connect=10.0)
_ALTOGETHER_SECONDS = 120.0
_MOST_REDIRECTS = 5
# What phones show inline; everything else goes as a document, which they offer to open.
_INLINE = {
    "image/jpeg": MessageType.IMAGE,
    "image/png": MessageType.IMAGE,
    "image/webp": MessageType.IMAGE,
    "video/mp4": MessageType.VIDEO,
    "video/3gpp": MessageType.VIDEO,
    "audio/aac": MessageType.AUDIO,
    "audio/amr": MessageType.AUDIO,
    "audio/mp4": MessageType.AUDIO,
    "audio/mpeg": MessageType.AUDIO,
    "audio/ogg": MessageType.AUDIO,
    "audio/x-m4a": MessageType.AUDIO,
}
_UPLOADED_AS = {
    MessageType.IMAGE: "MediaImage",
    MessageType.VIDEO: "MediaVideo",
    MessageType.AUDIO: "MediaAudio",
    MessageType.DOCUMENT: "MediaDocument",
    # Encrypted as pictures are.
    MessageType.STICKER: "MediaImage",
}
_VOICE = "audio/ogg; codecs=opus"
_LONGEST_NAME, _LONGEST_ENDING = 100, 10

Upload = Callable[[bytes, Any], Awaitable[Any]]
"""Bytes and neonize's MediaType to neonize's UploadResponse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """What was fetched, and as what it goes out. `voice_seconds` None: no voice note."""

    data: bytes
    mimetype: str
    type: MessageType
    name: str
    voice_seconds: int | None = None


async def fetch(content: Content) -> Media:
    """Raises SendRefused, saying why in words that name no more of the URL than its host."""
    url = content.media_url or ""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SendRefused("the media's address must begin with http:// or https://")
    try:
        async with asyncio.timeout(_ALTOGETHER_SECONDS):
            data = await _download(url)
    except TimeoutError as exc:
        raise SendRefused(f"the media at {parts.hostname} took too long") from exc
    except (httpx2.HTTPError, httpx2.InvalidURL) as exc:
        raise SendRefused(
            f"the media could not be fetched from {parts.hostname}: {type(exc).__name__}"
        ) from exc
    mimetype = await asyncio.to_thread(mimetype_of, data)
    # Phones play nothing but Opus as a voice note.
    as_voice = content.voice and mimetype == formats.OGG
    return Media(
        data=data,
        mimetype=mimetype,
        type=_goes_as(mimetype, content),
        name=_named(parts.path, mimetype),
        voice_seconds=formats.opus_seconds(data) if as_voice else None,
    )


async def _download(url: str) -> bytes:
    parts: list[bytes] = []
    size = 0
    async with (
        httpx2.AsyncClient(timeout=_SECONDS, follow_redirects=True, max_redirects=_MOST_REDIRECTS) as http,
        http.stream("GET", url) as response,
    ):
        if response.status_code != httpx2.codes.OK:
            raise SendRefused(
                f"the media could not be fetched: {response.url.host} answered {response.status_code}"
            )
        async for part in response.aiter_bytes():
            size += len(part)
            if size > LARGEST_BYTES:
                raise SendRefused(f"the media is larger than {LARGEST_BYTES // 1024**2} MB")
            parts.append(part)
    if not size:
        raise SendRefused("the media is empty")
    return b"".join(parts)


def _goes_as(mimetype: str, content: Content) -> MessageType:
    kind = _INLINE.get(mimetype, MessageType.DOCUMENT)
    if content.media_type is MessageType.DOCUMENT:
        return MessageType.DOCUMENT
    if content.media_type is MessageType.STICKER and mimetype == formats.WEBP and not content.text:
        return MessageType.STICKER
    if kind is MessageType.AUDIO and content.text:
        # An audio message has no caption, and what the customer shall read must not be lost.
        return MessageType.DOCUMENT
    return kind


def _named(url_path: str, mimetype: str) -> str:
    """What a document is called: phones open it by the ending."""
    name = clean(unquote(PurePosixPath(url_path).name)) or "file"
    path = PurePosixPath(name)
    ending = path.suffix or mimetypes.guess_extension(mimetype) or ""
    return path.stem[:_LONGEST_NAME] + ending[:_LONGEST_ENDING]


async def build(neonize: Neonize, media: Media, caption: str, upload: Upload) -> Any:
    """A message that the customer's phone can fetch and decrypt. Without thumbnail: phones make their own."""
    uploaded = await upload(media.data, getattr(neonize.enums.MediaType, _UPLOADED_AS[media.type]))
    found = {
        "URL": uploaded.url,
        "directPath": uploaded.DirectPath,
        "mediaKey": uploaded.MediaKey,
        "fileEncSHA256": uploaded.FileEncSHA256,
        "fileSHA256": uploaded.FileSHA256,
        "fileLength": len(media.data),
        "mimetype": media.mimetype,
    }
    messages = neonize.messages
    match media.type:
        case MessageType.IMAGE:
            return messages.Message(imageMessage=messages.ImageMessage(caption=caption, **found))
        case MessageType.VIDEO:
            return messages.Message(videoMessage=messages.VideoMessage(caption=caption, **found))
        case MessageType.AUDIO if media.voice_seconds is not None:
            found |= {"mimetype": _VOICE, "PTT": True, "seconds": media.voice_seconds}
            return messages.Message(audioMessage=messages.AudioMessage(**found))
        case MessageType.AUDIO:
            return messages.Message(audioMessage=messages.AudioMessage(**found))
        case MessageType.STICKER:
            sticker = messages.StickerMessage(isAnimated=formats.is_animated(media.data), **found)
            return messages.Message(stickerMessage=sticker)
        case _:
            document = messages.DocumentMessage(
                caption=caption, fileName=media.name, title=media.name, **found
            )
            return messages.Message(documentMessage=document)
