"""What files tell of themselves, whatever their bytes are."""

import io
import random

import pytest
from PIL import Image

from bot.transports.whatsapp.formats import is_animated, opus_seconds


def ogg(samples: int, *, skipped: int = 312) -> bytes:
    head = b"OggS" + bytes(24) + b"OpusHead\x01\x01" + skipped.to_bytes(2, "little") + bytes(8)
    return head + b"OggS\x00\x04" + samples.to_bytes(8, "little") + bytes(14)


@pytest.mark.parametrize(
    ("samples", "seconds"),
    [(48_000 * 7 + 312, 7), (48_000 * 90 + 30_000, 91), (312, 1), (0, 1), (2**64 - 1, 86_400)],
)
def test_a_recording_lasts_as_long_as_its_last_page_says(samples: int, seconds: int) -> None:
    assert opus_seconds(ogg(samples)) == seconds


@pytest.mark.parametrize("data", [b"", b"OggS", b"OpusHead", b"ID3" * 100, b"OggS" + b"\x01vorbis" * 9])
def test_what_is_no_opus_has_no_length(data: bytes) -> None:
    assert opus_seconds(data) is None


def test_any_bytes_will_do() -> None:
    dice = random.Random(3)  # noqa: S311 - only for tests
    whole = ogg(48_000)
    for _ in range(500):
        spoilt = bytearray(whole[: dice.randrange(len(whole))])
        for _ in range(min(4, len(spoilt))):
            spoilt[dice.randrange(len(spoilt))] = dice.randrange(256)
        assert opus_seconds(bytes(spoilt)) is None or opus_seconds(bytes(spoilt))
        is_animated(bytes(spoilt))


def test_a_moving_sticker_is_told_from_a_still_one() -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    moving, still = io.BytesIO(), io.BytesIO()
    frames[0].save(moving, "WEBP", save_all=True, append_images=frames[1:], duration=100)
    frames[0].save(still, "WEBP")
    assert is_animated(moving.getvalue())
    assert not is_animated(still.getvalue())
