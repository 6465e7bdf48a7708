"""Looking at files: what they are whatever they are called, and small pictures of those that are pictures."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import pytest
from PIL import Image

from bot.media.pictures import MOST_PIXELS, look_at


def picture(kind: str = "PNG", mode: str = "RGB", size: tuple[int, int] = (800, 600), **saving: Any) -> bytes:
    written = io.BytesIO()
    Image.new(mode, size).save(written, kind, **saving)
    return written.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG that says it is this large, in a few bytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1 << 20))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("JPEG", "RGB"), ("JPEG", "CMYK"), ("JPEG", "L"), ("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"),
        ("PNG", "I;16"), ("PNG", "1"), ("PNG", "LA"), ("GIF", "P"), ("WEBP", "RGB"), ("WEBP", "RGBA"),
    ],
)  # fmt: skip
async def test_a_picture_has_a_size_and_a_thumbnail(kind: str, mode: str) -> None:
    look = await look_at(picture(kind, mode))
    assert (look.mime, look.width, look.height) == (f"image/{kind.lower()}", 800, 600)
    assert look.thumbnail is not None
    with Image.open(io.BytesIO(look.thumbnail)) as small:
        assert (small.format, small.size) == ("JPEG", (320, 240))


async def test_a_small_picture_is_not_made_larger() -> None:
    look = await look_at(picture(size=(20, 10)))
    assert look.thumbnail is not None
    with Image.open(io.BytesIO(look.thumbnail)) as small:
        assert small.size == (20, 10)


async def test_what_is_transparent_is_shown_on_white() -> None:
    look = await look_at(picture(mode="RGBA"))
    assert look.thumbnail is not None
    with Image.open(io.BytesIO(look.thumbnail)) as small:
        assert small.getpixel((10, 10)) == (255, 255, 255)


async def test_a_photo_is_shown_upright_and_without_what_the_camera_wrote_into_it() -> None:
    said = Image.Exif()
    said[0x0112] = 6  # turned by a quarter
    said[0x010E] = "taken at home"
    photo = picture("JPEG", exif=said)
    assert b"taken at home" in photo
    look = await look_at(photo)
    assert look.thumbnail is not None
    assert b"taken at home" not in look.thumbnail
    with Image.open(io.BytesIO(look.thumbnail)) as small:
        assert small.size == (240, 320)


@pytest.mark.parametrize(
    "size", [(MOST_PIXELS + 1, 1), (65_000, 65_000), (2**31 - 1, 1), (2**31 - 1, 2**31 - 1)]
)
async def test_a_decompression_bomb_is_not_opened(size: tuple[int, int]) -> None:
    look = await look_at(bomb(*size))
    assert (look.mime, look.thumbnail) == ("image/png", None)


async def test_a_picture_that_ends_early_or_holds_nonsense_has_no_thumbnail() -> None:
    for data in (
        picture("PNG")[:60],
        picture("JPEG")[:200],
        b"\x89PNG\r\n\x1a\n" + b"?" * 500,
        b"GIF89a" + b"?" * 50,
    ):
        look = await look_at(data)
        assert look.thumbnail is None


@pytest.mark.parametrize(
    ("data", "mime"),
    [
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "application/pdf"),
        (b"OggS\x00\x02" + bytes(20) + b"\x01\x13OpusHead\x01\x01" + bytes(30), "audio/ogg"),
        (b"hello", "text/plain"),
        (b"", "application/x-empty"),
    ],
)
async def test_what_a_file_is_is_told_from_its_bytes(data: bytes, mime: str) -> None:
    look = await look_at(data)
    assert look.mime == mime
    assert (look.width, look.height, look.thumbnail) == (None, None, None)
