"""Bytes to lines, whatever their size: memory stays bounded, and what is no text is refused with its place."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import Protocol

from bot.importing.errors import ImportRefused

LONGEST_LINE = 1 << 20
"""In characters. WhatsApp takes 65,536 in a message."""

_CHUNK = 1 << 16
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


class Readable(Protocol):
    """A stream of bytes: a file, or an entry of an archive while it is unpacked."""

    def read(self, size: int = -1, /) -> bytes: ...


def lines(stream: Readable, *, longest: int = LONGEST_LINE) -> Iterator[str]:
    """Each line without its end. Raises ImportRefused for a binary file, another encoding, or a line without end.

    Lines end where WhatsApp ends them, at a line feed, and not at other signs that a message may hold.
    """
    first = stream.read(_CHUNK)
    mark, encoding = next(((m, e) for m, e in _MARKS if first.startswith(m)), (b"", "utf-8"))
    decoder = codecs.getincrementaldecoder(encoding)()
    rest, number = "", 1
    chunk = first[len(mark) :]
    while True:
        decoded = _decoded(decoder, chunk, number, final=not chunk)
        if "\0" in decoded:
            raise ImportRefused(
                f"line {number + decoded[: decoded.index(chr(0))].count(chr(10))}: this is no text, but a binary file"
            )
        *whole, rest = (rest + decoded).split("\n")
        for line in whole:
            if len(line) > longest:
                break
            yield line.removesuffix("\r")
            number += 1
        if len(rest) > longest or any(len(line) > longest for line in whole):
            raise ImportRefused(f"line {number}: it is longer than {longest} characters, which no message is")
        if not chunk:
            break
        chunk = stream.read(_CHUNK)
    if rest:
        yield rest.removesuffix("\r")


def _decoded(decoder: codecs.IncrementalDecoder, chunk: bytes, number: int, *, final: bool) -> str:
    try:
        return decoder.decode(chunk, final)
    except UnicodeDecodeError as exc:
        line = number + exc.object[: exc.start].count(b"\n")
        byte = exc.object[exc.start] if exc.start < len(exc.object) else 0
        raise ImportRefused(
            f"line {line}: the byte {byte:#04x} is not UTF-8. A binary file cannot be imported; one in Latin-1 "
            "or Windows-1252 can once it is converted: iconv -f WINDOWS-1252 -t UTF-8 FILE"
        ) from None
