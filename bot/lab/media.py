"""Media as WhatsApp stores it: encrypted under a key that only the message carries. Knows no stanzas."""

import base64
import hashlib
import hmac
import os
from dataclasses import dataclass
from typing import Literal

from bot.lab import cbc
from bot.lab.errors import ProtocolError
from bot.lab.keys import hkdf, hmac_sha256

MediaKind = Literal["image", "video", "audio", "document", "sticker"]
# What the server and the owner's phone leave for linked devices is stored as people's files are.
FileKind = MediaKind | Literal["app-state", "history"]

_MAC_BYTES = 10
# Stickers are encrypted as images are.
_INFO: dict[FileKind, bytes] = {
    "image": b"WhatsApp Image Keys",
    "sticker": b"WhatsApp Image Keys",
    "video": b"WhatsApp Video Keys",
    "audio": b"WhatsApp Audio Keys",
    "document": b"WhatsApp Document Keys",
    "app-state": b"WhatsApp App State Keys",
    "history": b"WhatsApp History Keys",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """What a message says about its file. `path` is where the encrypted file is stored."""

    key: bytes
    path: str
    plain_sha256: bytes
    sealed_sha256: bytes
    plain_bytes: int


class MediaStore:
    """The media server's files, by path; they are encrypted, it has no keys."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}

    def put(self, path: str, sealed: bytes) -> None:
        self._files[path] = sealed

    def get(self, path: str) -> bytes | None:
        """`path` may carry a query, as direct paths in messages do."""
        return self._files.get(path.partition("?")[0])

    def delete(self, path: str) -> None:
        self._files.pop(path, None)

    def upload(self, kind: FileKind, plain: bytes) -> Attachment:
        key = os.urandom(32)
        sealed = seal(kind, key, plain)
        digest = hashlib.sha256(sealed).digest()
        path = f"/v/{kind}/{base64.urlsafe_b64encode(digest).decode()}"
        self.put(path, sealed)
        return Attachment(
            key=key,
            # Clients append their own parameters with "&", so a direct path has to contain a "?".
            path=f"{path}?ccb=1",
            plain_sha256=hashlib.sha256(plain).digest(),
            sealed_sha256=digest,
            plain_bytes=len(plain),
        )

    def download(self, kind: FileKind, attachment: Attachment) -> bytes:
        sealed = self.get(attachment.path)
        if sealed is None:
            raise ProtocolError("a message names a file that was never uploaded")
        plain = unseal(kind, attachment.key, sealed)
        if hashlib.sha256(sealed).digest() != attachment.sealed_sha256:
            raise ProtocolError("the hash of the encrypted file is wrong")
        if hashlib.sha256(plain).digest() != attachment.plain_sha256:
            raise ProtocolError("the hash of the file is wrong")
        return plain


def seal(kind: FileKind, key: bytes, plain: bytes) -> bytes:
    iv, cipher_key, mac_key = _keys(kind, key)
    sealed = cbc.encrypt(cipher_key, iv, plain)
    return sealed + hmac_sha256(mac_key, iv + sealed)[:_MAC_BYTES]


def unseal(kind: FileKind, key: bytes, data: bytes) -> bytes:
    iv, cipher_key, mac_key = _keys(kind, key)
    sealed, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
    if not hmac.compare_digest(hmac_sha256(mac_key, iv + sealed)[:_MAC_BYTES], mac):
        raise ProtocolError("the MAC of a file is wrong")
    return cbc.decrypt(cipher_key, iv, sealed)


def _keys(kind: FileKind, key: bytes) -> tuple[bytes, bytes, bytes]:
    material = hkdf(key, 112, info=_INFO[kind])
    return material[:16], material[16:48], material[48:80]
