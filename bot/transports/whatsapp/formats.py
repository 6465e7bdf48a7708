"""Looks into files as far as a message has to tell of them; pure, and content with any bytes."""

OGG = "audio/ogg"
WEBP = "image/webp"
_OPUS_PER_SECOND = 48_000  # whatever the recording's own rate is (RFC 7845)
_LONGEST_SECONDS = 24 * 3600


def opus_seconds(data: bytes) -> int | None:
    """How long an Ogg file of Opus lasts, at least one second; None where it is no such file.

    Its last page counts the samples up to there, the ones that players skip at the start included.
    """
    head, last = data.find(b"OpusHead", 0, 512), data.rfind(b"OggS")
    if head < 0 or last < 0:
        return None
    skipped = int.from_bytes(data[head + 10 : head + 12], "little")
    samples = int.from_bytes(data[last + 6 : last + 14], "little")
    seconds = round((samples - skipped) / _OPUS_PER_SECOND)
    return min(max(seconds, 1), _LONGEST_SECONDS)


def is_animated(webp: bytes) -> bool:
    """Whether this picture moves: a flag of the extended header."""
    return webp[12:16] == b"VP8X" and len(webp) > 20 and bool(webp[20] & 0x02)
