"""Noise_XX_25519_AESGCM_SHA256 as the server speaks it: a pure state machine over bytes, no sockets."""

import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bot.lab.errors import ProtocolError
from bot.lab.keys import KeyPair, hkdf

_PATTERN = b"Noise_XX_25519_AESGCM_SHA256\0\0\0\0"


class _Cipher:
    """AES-GCM whose nonce is a counter."""

    def __init__(self, key: bytes) -> None:
        self._aead, self._counter = AESGCM(key), 0

    def seal(self, plain: bytes, associated: bytes | None = None) -> bytes:
        return self._aead.encrypt(self._nonce(), plain, associated)

    def open(self, sealed: bytes, associated: bytes | None = None) -> bytes:
        try:
            return self._aead.decrypt(self._nonce(), sealed, associated)
        except InvalidTag as exc:
            raise ProtocolError("a Noise frame does not open") from exc

    def _nonce(self) -> bytes:
        nonce = bytes(8) + self._counter.to_bytes(4, "big")
        self._counter += 1
        return nonce


class SymmetricState:
    """The transcript hash and the chaining key that both sides of a handshake compute."""

    def __init__(self, header: bytes) -> None:
        self._hash = self._chaining_key = _PATTERN
        self._cipher = _Cipher(_PATTERN)
        self.absorb(header)

    def absorb(self, data: bytes) -> None:
        self._hash = hashlib.sha256(self._hash + data).digest()

    def mix(self, shared: bytes) -> None:
        material = hkdf(shared, 64, salt=self._chaining_key)
        self._chaining_key, self._cipher = material[:32], _Cipher(material[32:])

    def seal(self, plain: bytes) -> bytes:
        sealed = self._cipher.seal(plain, self._hash)
        self.absorb(sealed)
        return sealed

    def open(self, sealed: bytes) -> bytes:
        plain = self._cipher.open(sealed, self._hash)
        self.absorb(sealed)
        return plain

    def split(self) -> tuple[bytes, bytes]:
        """The key from the initiator to the responder, and the one back."""
        material = hkdf(b"", 64, salt=self._chaining_key)
        return material[:32], material[32:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """An established connection, seen from one side."""

    receiving: _Cipher
    sending: _Cipher

    @classmethod
    def between(cls, *, receiving_key: bytes, sending_key: bytes) -> "Channel":
        return cls(receiving=_Cipher(receiving_key), sending=_Cipher(sending_key))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The responder's one message: `e, ee, s, es` and its payload."""

    ephemeral: bytes
    static: bytes
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The initiator's last message, opened: who it is and what it says first."""

    static: bytes
    payload: bytes


class Responder:
    """Noise XX, the server's side: `reply` to the client's ephemeral key, then `finish`, then `channel`."""

    def __init__(self, static: KeyPair, header: bytes) -> None:
        self._static, self._ephemeral = static, KeyPair.generate()
        self._state = SymmetricState(header)

    def reply(self, client_ephemeral: bytes, payload: bytes) -> Reply:
        state, ephemeral = self._state, self._ephemeral
        state.absorb(client_ephemeral)
        state.absorb(ephemeral.public)
        state.mix(ephemeral.agree(client_ephemeral))
        sealed_static = state.seal(self._static.public)
        state.mix(self._static.agree(client_ephemeral))
        return Reply(ephemeral=ephemeral.public, static=sealed_static, payload=state.seal(payload))

    def finish(self, static: bytes, payload: bytes) -> Finish:
        client_static = self._state.open(static)
        self._state.mix(self._ephemeral.agree(client_static))
        return Finish(static=client_static, payload=self._state.open(payload))

    def channel(self) -> Channel:
        from_client, to_client = self._state.split()
        return Channel.between(receiving_key=from_client, sending_key=to_client)
