"""Where files lie, behind one port: a folder, or an S3 server. Knows bytes and keys, nothing of messages.

PlaceError
|- PlaceUnavailable   cannot be read or written now: trying again may help
|- PlaceRefused       cannot be used as it is configured
`- NoSuchFile         it has no such file

A key is `shelf/ab/sha256`, the shelf a tenant's own: made of nothing that anybody has sent.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import NewType, Protocol

from storage.blobs import Sha256

Key = NewType("Key", str)

_KEY = re.compile(r"([0-9]{1,19}-[0-9a-f]{1,16})/([0-9a-f]{2})/(\2[0-9a-f]{62})")


class PlaceError(Exception):
    """Files cannot be read or written there."""


class PlaceUnavailable(PlaceError):
    """Not now."""


class PlaceRefused(PlaceError):
    """Not as it is configured."""


class NoSuchFile(PlaceError):
    """There is no file of this key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Something that lies in a place. `key` None: no file of ours by its name. `age_seconds` since it was written."""

    name: str
    key: Key | None
    size_bytes: int
    age_seconds: float


class Place(Protocol):
    """Files of ours under one address. Raises PlaceError."""

    @property
    def base(self) -> str:
        """Its URL, without a slash at the end."""
        ...

    async def put(self, key: Key, data: bytes) -> None:
        """Write a file, whole or not at all; it lasts when this returns. One that is there is replaced."""
        ...

    async def get(self, key: Key) -> bytes: ...

    async def size(self, key: Key) -> int | None:
        """None: there is no such file."""
        ...

    async def remove(self, key: Key) -> None:
        """Also where there is none."""
        ...

    async def set_aside(self, key: Key) -> None:
        """Let it be a file of ours no longer, without destroying it; what was set aside before of it is replaced."""
        ...

    async def discard(self, entry: Entry) -> None:
        """Remove what a write that was cut off has left."""
        ...

    def entries(self) -> AsyncIterator[Entry]:
        """All that lies there."""
        ...


def key_of(shelf: str, sha256: Sha256) -> Key:
    name = sha256.hex()
    return checked(f"{shelf}/{name[:2]}/{name}")


def checked(key: str) -> Key:
    """The last guard before a path is made of it. Raises ValueError."""
    if not _KEY.fullmatch(key):
        raise ValueError("this is no key of a file of ours")
    return Key(key)


SET_ASIDE = "damaged"
"""The folder, or prefix, of files that were set aside."""


def read_key(name: str) -> Key | None:
    return Key(name) if _KEY.fullmatch(name) else None


def file_of(key: Key) -> tuple[str, Sha256]:
    """A key's shelf and its file."""
    shelf, _, name = key.split("/")
    return shelf, Sha256(bytes.fromhex(name))


def url_of(place: Place, key: Key) -> str:
    return f"{place.base}/{key}"


def split(url: str) -> tuple[str, Key]:
    """A file's address as its place's and its key. Raises ValueError."""
    base, *parts = url.rsplit("/", 3)
    return base, checked("/".join(parts))
