"""Curve25519 keys as Signal uses them: agreement, XEdDSA signatures and key derivation; no protocol here."""

import hashlib
import hmac
import os
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_FIELD = 2**255 - 19


class KeyPair:
    """A Montgomery key pair that can also sign.

    The private scalar is derived from an Ed25519 seed the way Ed25519 itself does it, so an ordinary
    Ed25519 signature, with the sign of the Edwards point put into its last bit, is a valid XEdDSA one.
    """

    def __init__(self, seed: bytes) -> None:
        self._signing = Ed25519PrivateKey.from_private_bytes(seed)
        self._agreeing = X25519PrivateKey.from_private_bytes(hashlib.sha512(seed).digest()[:32])
        self._sign_bit = self._signing.public_key().public_bytes_raw()[31] & 0x80
        self.public = self._agreeing.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> Self:
        return cls(os.urandom(32))

    def agree(self, public: bytes) -> bytes:
        return self._agreeing.exchange(X25519PublicKey.from_public_bytes(public))

    def sign(self, message: bytes) -> bytes:
        signature = bytearray(self._signing.sign(message))
        signature[63] |= self._sign_bit
        return bytes(signature)


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the owner of a Montgomery public key signed the message (XEdDSA)."""
    if len(public) != 32 or len(signature) != 64:
        return False
    u = int.from_bytes(public, "little") % _FIELD
    # The birational map between the two forms of the curve: y = (u - 1) / (u + 1).
    y = (u - 1) * pow(u + 1, -1, _FIELD) % _FIELD
    edwards = bytearray(y.to_bytes(32, "little"))
    edwards[31] |= signature[63] & 0x80
    plain_signature = signature[:63] + bytes([signature[63] & 0x7F])
    try:
        Ed25519PublicKey.from_public_bytes(bytes(edwards)).verify(plain_signature, message)
    except InvalidSignature:
        return False
    return True


def hkdf(secret: bytes, length: int, *, salt: bytes | None = None, info: bytes = b"") -> bytes:
    return HKDF(hashes.SHA256(), length, salt, info).derive(secret)


def hmac_sha256(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")
