"""The Signal messages as bytes: protobuf fields coded by hand, with no keys and no secrets."""

from dataclasses import dataclass
from typing import Self

from bot.lab.errors import ProtocolError

_VERSION = b"\x33"  # the current and the oldest accepted Signal version, 3, a nibble each
_DJB = b"\x05"  # marks a Curve25519 public key
MAC_BYTES = 8
SIGNATURE_BYTES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class WhisperMessage:
    """One ratchet message. `ciphertext` is padded text under the message key of `counter`."""

    ratchet_key: bytes
    counter: int
    previous_counter: int
    ciphertext: bytes

    def to_bytes(self) -> bytes:
        """Without the MAC, which is computed over exactly these bytes."""
        return _VERSION + _pack(
            {1: _DJB + self.ratchet_key, 2: self.counter, 3: self.previous_counter, 4: self.ciphertext}
        )

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """`data` ends with the MAC."""
        fields = _Fields(data[1:-MAC_BYTES])
        return cls(
            ratchet_key=fields.key(1),
            counter=fields.number(2),
            previous_counter=fields.number(3),
            ciphertext=fields.data(4),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PreKeyMessage:
    """A ratchet message that carries what the other side needs to build the session."""

    registration_id: int
    prekey_id: int | None
    signed_prekey_id: int
    base_key: bytes
    identity_key: bytes
    message: bytes

    def to_bytes(self) -> bytes:
        fields: dict[int, int | bytes] = {} if self.prekey_id is None else {1: self.prekey_id}
        fields |= {2: _DJB + self.base_key, 3: _DJB + self.identity_key, 4: self.message}
        fields |= {5: self.registration_id, 6: self.signed_prekey_id}
        return _VERSION + _pack(fields)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        fields = _Fields(data[1:])
        return cls(
            registration_id=fields.number(5),
            prekey_id=fields.number(1) if fields.has(1) else None,
            signed_prekey_id=fields.number(6),
            base_key=fields.key(2),
            identity_key=fields.key(3),
            message=fields.data(4),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderKeyMessage:
    """One message to a group, the same for all readers. `key_id` tells which of the sender's keys it is under."""

    key_id: int
    iteration: int
    ciphertext: bytes

    def to_bytes(self) -> bytes:
        """Without the signature, which is made over exactly these bytes."""
        return _VERSION + _pack({1: self.key_id, 2: self.iteration, 3: self.ciphertext})

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """`data` ends with the signature."""
        fields = _Fields(data[1:-SIGNATURE_BYTES])
        return cls(key_id=fields.number(1), iteration=fields.number(2), ciphertext=fields.data(3))


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderKeyDistribution:
    """What a group's sender tells each reader in private: how to read from `iteration` on, and who signs."""

    key_id: int
    iteration: int
    chain_key: bytes
    signing_key: bytes

    def to_bytes(self) -> bytes:
        return _VERSION + _pack(
            {1: self.key_id, 2: self.iteration, 3: self.chain_key, 4: _DJB + self.signing_key}
        )

    @classmethod
    def parse(cls, data: bytes) -> Self:
        fields = _Fields(data[1:])
        return cls(
            key_id=fields.number(1),
            iteration=fields.number(2),
            chain_key=fields.data(3),
            signing_key=fields.key(4),
        )


def with_type(public: bytes) -> bytes:
    """A public key as it is signed and authenticated: with its type in front."""
    return _DJB + public


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _pack(fields: dict[int, int | bytes]) -> bytes:
    out = bytearray()
    for number, value in fields.items():
        if isinstance(value, bytes):
            out += _varint(number << 3 | 2) + _varint(len(value)) + value
        else:
            out += _varint(number << 3) + _varint(value)
    return bytes(out)


class _Fields:
    """The fields of one protobuf message: varints and byte strings, all that Signal uses."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0
        self._values: dict[int, int | bytes] = {}
        while self._at < len(data):
            tag = self._read_varint()
            self._values[tag >> 3] = self._read_bytes() if tag & 7 == 2 else self._read_varint()

    def has(self, number: int) -> bool:
        return number in self._values

    def number(self, number: int) -> int:
        value = self._values.get(number, 0)
        if isinstance(value, bytes):
            raise ProtocolError(f"field {number} of a Signal message is not a number")
        return value

    def data(self, number: int) -> bytes:
        value = self._values.get(number)
        if not isinstance(value, bytes):
            raise ProtocolError(f"field {number} of a Signal message is missing")
        return value

    def key(self, number: int) -> bytes:
        value = self.data(number)
        if len(value) != 33 or value[:1] != _DJB:
            raise ProtocolError(f"field {number} of a Signal message is not a public key")
        return value[1:]

    def _read_varint(self) -> int:
        value = shift = 0
        while True:
            if self._at >= len(self._data):
                raise ProtocolError("a Signal message ends within a number")
            byte = self._data[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def _read_bytes(self) -> bytes:
        length = self._read_varint()
        if self._at + length > len(self._data):
            raise ProtocolError("a Signal message ends within a field")
        value = self._data[self._at : self._at + length]
        self._at += length
        return value
