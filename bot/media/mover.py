"""Moves files from where they lie to another place, one after the other; stopped at any moment, it goes on later.

A file is copied, compared and then known by its new address, with the old one beside it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from bot.media.places import Key, NoSuchFile, Place, split, url_of
from bot.media.shelf import Shelf
from storage.blobs import Blob, BlobStore, Sha256
from storage.models import TenantId


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What became of one file. `error` None: it lies in its new place."""

    blob: Blob
    error: str | None = None


class Mover:
    """`remove`: the files are removed from where they lay, and their old addresses only tell where that was."""

    def __init__(
        self, blobs: BlobStore, shelf: Shelf, to: Place, now: Callable[[], datetime], *, remove: bool = False
    ) -> None:
        self._blobs = blobs
        self._shelf = shelf
        self._to = to
        self._now = now
        self._remove = remove

    async def move(self, tenant_id: TenantId) -> AsyncIterator[Moved]:
        """Move what is not there yet. Raises PlaceError and StoreUnavailable: what is moved by then is."""
        after = Sha256(b"")
        while some := await self._blobs.after(tenant_id, after):
            after = some[-1].sha256
            for blob in some:
                async with self._blobs.holding(tenant_id, blob.sha256):
                    moved = await self._move(tenant_id, blob.sha256)
                if moved is not None:
                    yield moved

    async def _move(self, tenant_id: TenantId, file: Sha256) -> Moved | None:
        blob = await self._blobs.get(tenant_id, file)
        if blob is None or not blob.is_stored:
            return None
        (base, key), former = split(blob.url), blob.former_url
        if base == self._to.base:
            if self._remove and former is not None and split(former)[0] != base:
                await self._remove_from(former, key, await self._to.get(key))
            return None
        try:
            data = await self._shelf.get(blob.url)
        except NoSuchFile:
            return Moved(blob=blob, error="is missing")
        if sha256(data).digest() != file:
            return Moved(blob=blob, error="is not what it was")
        await self._to.put(key, data)
        if former is not None and split(former)[0] != self._to.base:
            # Only two addresses are known of a file, and nobody would find it there again.
            await self._remove_from(former, key, data)
        await self._blobs.place(blob, url_of(self._to, key), self._now(), former_url=blob.url)
        if self._remove:
            await self._remove_from(blob.url, key, data)
        return Moved(blob=blob)

    async def _remove_from(self, url: str, key: Key, data: bytes) -> None:
        await self._shelf.remove(url)
        if await self._to.size(key) is None:
            await self._to.put(key, data)  # two addresses of one place: a mount, or two names of a server
