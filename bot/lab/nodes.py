"""Binary XML, WhatsApp's stanzas as bytes, and the ids in them; it holds no dictionary of its own."""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from bot.lab.errors import ProtocolError

PHONE = "s.whatsapp.net"
LID = "lid"
GROUP = "g.us"
BROADCAST = "broadcast"
# What comes from there was sealed once for many, and names its author beside.
SHARED = (GROUP, BROADCAST)

_EMPTY, _DOUBLE, _AD_JID, _LIST_8, _LIST_16 = 0, 236, 247, 248, 249
_JID_PAIR, _HEX_8, _BINARY_8, _BINARY_20, _BINARY_32, _NIBBLE_8 = 250, 251, 252, 253, 254, 255
_LID_DOMAIN = 1  # the lowest bit of a device id's domain; the next ones mark hosted businesses
_COMPRESSED = 2


# Written by hand all over the lab, so by position: the one exception to keyword-only data.
@dataclass(frozen=True, slots=True)
class Jid:
    """Whom a stanza is from or to. `device` 0 is the phone, and is not written."""

    user: str
    server: str = PHONE
    device: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        user, at, server = text.rpartition("@")
        if not at:
            raise ProtocolError("an id without a server")
        name, _, device = user.partition(":")
        return cls(name, server, int(device or 0))

    def __str__(self) -> str:
        device = f":{self.device}" if self.device else ""
        return f"{self.user}{device}@{self.server}"

    def on(self, device: int) -> "Jid":
        return Jid(self.user, self.server, device)


# The server itself. It must be sent as an id without a user, never as a string: clients compare the two.
SERVER = Jid("")

Value = str | Jid


@dataclass(frozen=True, slots=True)
class Node:
    """One stanza or a part of one. `content` is bytes, further nodes, or nothing."""

    tag: str
    attrs: Mapping[str, Value] = field(default_factory=dict)
    content: "bytes | tuple[Node, ...] | None" = None

    @property
    def children(self) -> "tuple[Node, ...]":
        return self.content if isinstance(self.content, tuple) else ()

    @property
    def data(self) -> bytes:
        if not isinstance(self.content, bytes):
            raise ProtocolError(f"<{self.tag}> carries no data")
        return self.content

    def find(self, *path: str) -> "Node | None":
        """The first descendant on this path of tags."""
        node: Node | None = self
        for tag in path:
            node = next((child for child in node.children if child.tag == tag), None) if node else None
        return node

    def child(self, *path: str) -> "Node":
        node = self.find(*path)
        if node is None:
            raise ProtocolError(f"<{self.tag}> lacks <{'/'.join(path)}>")
        return node

    def all(self, tag: str) -> "tuple[Node, ...]":
        return tuple(child for child in self.children if child.tag == tag)

    def text(self, name: str, default: str | None = None) -> str:
        value = self.attrs.get(name, default)
        if value is None:
            raise ProtocolError(f"<{self.tag}> lacks {name}")
        return str(value)

    def jid(self, name: str) -> Jid:
        value = self.attrs.get(name)
        if isinstance(value, Jid):
            return value
        return Jid.parse(self.text(name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """The dictionaries that clients encode with: single bytes, and four pages of pairs."""

    single: tuple[str, ...]
    double: tuple[tuple[str, ...], ...]


class Codec:
    """Nodes to frames and back, for one version of the dictionaries."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._codes: dict[str, bytes] = {}
        for page, words in enumerate(tokens.double):
            self._codes |= {word: bytes([_DOUBLE + page, i]) for i, word in enumerate(words)}
        self._codes |= {word: bytes([i]) for i, word in enumerate(tokens.single) if word}

    def encode(self, node: Node) -> bytes:
        """A frame, uncompressed."""
        out = bytearray(1)
        self._node(out, node)
        return bytes(out)

    def decode(self, frame: bytes) -> Node:
        try:
            body = zlib.decompress(frame[1:]) if frame[0] & _COMPRESSED else frame[1:]
            return _Reader(body, self._tokens).node()
        except (zlib.error, UnicodeDecodeError, IndexError) as exc:
            raise ProtocolError("a frame is not binary XML of this dictionary") from exc

    def _node(self, out: bytearray, node: Node) -> None:
        _list(out, 1 + 2 * len(node.attrs) + (node.content is not None))
        self._value(out, node.tag)
        for name, value in node.attrs.items():
            self._value(out, name)
            self._value(out, value)
        if isinstance(node.content, bytes):
            _binary(out, node.content)
        elif node.content is not None:
            _list(out, len(node.content))
            for child in node.content:
                self._node(out, child)

    def _value(self, out: bytearray, value: Value) -> None:
        if isinstance(value, Jid):
            self._jid(out, value)
        elif code := self._codes.get(value):
            out += code
        else:
            _binary(out, value.encode())

    def _jid(self, out: bytearray, jid: Jid) -> None:
        if jid.device:
            out += bytes([_AD_JID, _LID_DOMAIN if jid.server == LID else 0, jid.device])
            self._value(out, jid.user)
            return
        out.append(_JID_PAIR)
        if jid.user:
            self._value(out, jid.user)
        else:
            out.append(_EMPTY)
        self._value(out, jid.server)


def _list(out: bytearray, size: int) -> None:
    out += bytes([_LIST_8, size]) if size < 256 else bytes([_LIST_16]) + size.to_bytes(2, "big")


def _binary(out: bytearray, data: bytes) -> None:
    if len(data) < 256:
        out += bytes([_BINARY_8, len(data)])
    else:
        out += bytes([_BINARY_32]) + struct.pack(">I", len(data))
    out += data


class _Reader:
    def __init__(self, data: bytes, tokens: Tokens) -> None:
        self._data, self._at, self._tokens = data, 0, tokens

    def node(self) -> Node:
        if (size := self._size(self._number())) == 0:
            raise ProtocolError("a stanza without a tag")
        tag = self._text()
        attrs = {self._text(): self._attribute() for _ in range((size - 1) // 2)}
        return Node(tag, attrs, self._content() if size % 2 == 0 else None)

    def _take(self, size: int) -> bytes:
        if self._at + size > len(self._data):
            raise ProtocolError("a stanza ends too early")
        self._at += size
        return self._data[self._at - size : self._at]

    def _number(self, size: int = 1) -> int:
        return int.from_bytes(self._take(size), "big")

    def _size(self, tag: int) -> int:
        if tag == _EMPTY:
            return 0
        if tag not in (_LIST_8, _LIST_16):
            raise ProtocolError(f"byte {tag} where a list should start")
        return self._number(1 if tag == _LIST_8 else 2)

    def _content(self) -> bytes | tuple[Node, ...] | None:
        tag = self._number()
        if tag in (_EMPTY, _LIST_8, _LIST_16):
            return tuple(self.node() for _ in range(self._size(tag)))
        if tag in (_BINARY_8, _BINARY_20, _BINARY_32):
            return self._binary(tag)
        # Clients may send a known word as a token even where raw bytes are meant.
        return str(self._value(tag)).encode()

    def _attribute(self) -> Value:
        return self._value(self._number())

    def _text(self) -> str:
        return str(self._attribute())

    def _binary(self, tag: int) -> bytes:
        return self._take(self._number({_BINARY_8: 1, _BINARY_20: 3, _BINARY_32: 4}[tag]))

    def _value(self, tag: int) -> Value:
        if tag == _EMPTY:
            return ""
        if tag < _DOUBLE:
            return self._tokens.single[tag]
        if tag < _DOUBLE + len(self._tokens.double):
            return self._tokens.double[tag - _DOUBLE][self._number()]
        if tag in (_BINARY_8, _BINARY_20, _BINARY_32):
            return self._binary(tag).decode()
        if tag in (_HEX_8, _NIBBLE_8):
            return self._packed("0123456789ABCDEF" if tag == _HEX_8 else "0123456789-.\0\0\0\0")
        if tag == _JID_PAIR:
            return Jid(self._text(), self._text())
        if tag == _AD_JID:
            domain, device = self._number(), self._number()
            return Jid(self._text(), LID if domain & _LID_DOMAIN else PHONE, device)
        raise ProtocolError(f"byte {tag} where a value should start")

    def _packed(self, alphabet: str) -> str:
        """Two characters a byte; the highest bit of the length says that the last one is padding."""
        start = self._number()
        text = "".join(alphabet[byte >> 4] + alphabet[byte & 15] for byte in self._take(start & 127))
        return text[:-1] if start & 128 else text
