"""Looks at files: what they are, and a small picture of those that are pictures. Content with any bytes."""

from __future__ import annotations

import asyncio
import importlib
import io
from dataclasses import dataclass
from typing import Any

import structlog

from bot.filetypes import mimetype_of

_log = structlog.get_logger(__name__)

THUMBNAIL_MIME = "image/jpeg"
MOST_PIXELS = 25_000_000
"""Of a picture that is opened at all: more takes hundreds of megabytes, however small the file."""

_SIDE = 320
_QUALITY = 80
# The decoders that we let at what strangers send, by what libmagic calls their files.
_FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP", "image/gif": "GIF"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What can be seen of a file. `thumbnail` is a JPEG; None: it is no picture that can be shown small."""

    mime: str
    width: int | None = None
    height: int | None = None
    thumbnail: bytes | None = None


async def look_at(data: bytes) -> Look:
    """Its kind and, if it is a picture, its size and a thumbnail. May take a hundred megabytes meanwhile."""
    mime = await asyncio.to_thread(mimetype_of, data)
    if mime not in _FORMATS:
        return Look(mime=mime)
    return await asyncio.to_thread(_look_at_picture, data, mime)


def _look_at_picture(data: bytes, mime: str) -> Look:
    image = _library()
    try:
        with image.open(io.BytesIO(data), formats=(_FORMATS[mime],)) as picture:
            width, height = picture.size
            if width * height > MOST_PIXELS:
                _log.info("thumbnail_refused", pixels=width * height, most=MOST_PIXELS)
                return Look(mime=mime, width=width, height=height)
            return Look(mime=mime, width=width, height=height, thumbnail=_small(picture))
    except Exception as exc:  # noqa: BLE001  whatever a decoder says of a stranger's bytes: it has no thumbnail
        _log.info("thumbnail_failed", error=type(exc).__name__)
        return Look(mime=mime)


def _small(picture: Any) -> bytes:
    """Without what the camera has written into it. A JPEG is decoded no larger than it takes."""
    image, ops = _library(), importlib.import_module("PIL.ImageOps")
    picture.thumbnail((_SIDE, _SIDE))
    shown = ops.exif_transpose(picture)
    if shown.has_transparency_data:
        shown = shown.convert("RGBA")
        ground = image.new("RGB", shown.size, "white")
        ground.paste(shown, mask=shown.getchannel("A"))
        shown = ground
    written = io.BytesIO()
    shown.convert("RGB").save(written, "JPEG", quality=_QUALITY, optimize=True)
    return written.getvalue()


def _library() -> Any:
    """Loaded when the first picture comes."""
    image: Any = importlib.import_module("PIL.Image")
    # Its own limit is above ours and only warns: we look at the size before anything is decoded.
    image.MAX_IMAGE_PIXELS = None
    return image
