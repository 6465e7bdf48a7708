"""The memory of the loaded neonize library: reads its dictionaries and replaces one key; calls nothing in it."""

import ctypes
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bot.lab.errors import UnexpectedLibrary
from bot.lab.nodes import Tokens

# The public key that signs WhatsApp's Noise certificates, as every client carries it.
_WHATSAPP_ROOT = bytes.fromhex("142375574d0a587166aae71ebe516437c4a28b73e3695c6ce1f7f9545da8ee6b")
_MAPS = Path("/proc/self/maps")
_SINGLE_TOKENS = 236
_PAGES = 4
_FIRST_SINGLE, _FIRST_DOUBLE = "xmlstreamstart", "read-self"
_STRING_HEADER = struct.Struct("<QQ")  # Go's string: address, length
_SLICE_HEADER = struct.Struct("<QQQ")  # Go's slice: address, length, capacity


@dataclass(frozen=True, slots=True)
class _Region:
    start: int
    data: bytes
    writable: bool

    def find(self, needle: bytes) -> Iterator[int]:
        return (self.start + match.start() for match in re.finditer(re.escape(needle), self.data))


class Library:
    """A snapshot of the library's mapped memory."""

    def __init__(self, path: Path) -> None:
        self._regions = list(_mapped(path))

    def trust(self, root: bytes) -> None:
        """Lets the library accept a server whose certificate this key signed. Before the first connection."""
        hits = [at for region in self._regions if region.writable for at in region.find(_WHATSAPP_ROOT)]
        if len(hits) != 1:
            raise UnexpectedLibrary(
                f"WhatsApp's Noise root should be in neonize's writable memory once, it is there {len(hits)} times: "
                "the lab does not know this version of neonize"
            )
        ctypes.memmove(hits[0], root, len(_WHATSAPP_ROOT))

    def tokens(self) -> Tokens:
        """The dictionaries of binary XML, so that the lab always speaks the library's own version."""
        return Tokens(single=self._single(), double=self._double())

    def _single(self) -> tuple[str, ...]:
        for header in self._headers_of(_FIRST_SINGLE):
            # The table is an array of strings; its first entry, before this one, is empty.
            table = self._strings(header - _STRING_HEADER.size, _SINGLE_TOKENS)
            if table is not None and table[0] == "" and "message" in table:
                return table
        raise UnexpectedLibrary("neonize's dictionary of single-byte tokens was not found")

    def _double(self) -> tuple[tuple[str, ...], ...]:
        for header in self._headers_of(_FIRST_DOUBLE):
            for slices in self._find(struct.pack("<Q", header)):
                pages = [self._page(slices + i * _SLICE_HEADER.size) for i in range(_PAGES)]
                found = tuple(page for page in pages if page is not None)
                if len(found) == _PAGES:
                    return found
        raise UnexpectedLibrary("neonize's dictionary of double-byte tokens was not found")

    def _page(self, address: int) -> tuple[str, ...] | None:
        header = self._read(address, _SLICE_HEADER.size)
        if header is None:
            return None
        start, length, capacity = _SLICE_HEADER.unpack(header)
        return self._strings(start, length) if 0 < length <= capacity <= 256 else None

    def _headers_of(self, text: str) -> Iterator[int]:
        """Where Go string headers for this text lie. The linker may have put the text in several places."""
        for at in self._find(text.encode()):
            yield from self._find(_STRING_HEADER.pack(at, len(text)))

    def _strings(self, address: int, count: int) -> tuple[str, ...] | None:
        headers = self._read(address, count * _STRING_HEADER.size)
        if headers is None:
            return None
        texts = [self._read(at, length) for at, length in _STRING_HEADER.iter_unpack(headers)]
        if any(text is None for text in texts):
            return None
        return tuple((text or b"").decode() for text in texts)

    def _find(self, needle: bytes) -> Iterator[int]:
        for region in self._regions:
            yield from region.find(needle)

    def _read(self, address: int, size: int) -> bytes | None:
        if size == 0:
            return b""
        for region in self._regions:
            if region.start <= address and address + size <= region.start + len(region.data):
                offset = address - region.start
                return region.data[offset : offset + size]
        return None


def _mapped(path: Path) -> Iterator[_Region]:
    """The library's readable mappings, and the anonymous one behind them that holds its zeroed variables."""
    if not _MAPS.exists():
        raise UnexpectedLibrary(f"the lab needs {_MAPS}, which only Linux has")
    inside, end = False, 0
    for line in _MAPS.read_text().splitlines():
        span, permissions, *rest = line.split(maxsplit=5)
        start, stop = (int(edge, 16) for edge in span.split("-"))
        name = rest[3] if len(rest) > 3 else ""
        inside = Path(name) == path if name else inside and start == end
        end = stop
        if inside and permissions.startswith("r"):
            yield _Region(start, ctypes.string_at(start, stop - start), "w" in permissions)
