"""Keeps files: the row first, then the file, then the link to its medium; and removes what nothing links to any more.

So a file is never without its row, and whatever is cut off in between is taken up or tidied away later.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

import structlog

from bot.media.pictures import THUMBNAIL_MIME, look_at
from bot.media.places import PlaceError, key_of, url_of
from bot.media.shelf import Shelf
from storage.blobs import Blob, BlobStore, Sha256
from storage.database import Database
from storage.media import Found, MediaId, MediaStore
from storage.models import TenantId

_log = structlog.get_logger(__name__)

# Each has its file in memory and holds a connection to the database while the file is written.
_AT_ONCE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a sweep has done; `left` are files that could not be removed now, and will be by a later one."""

    removed: int = 0
    left: int = 0


class Keeper:
    """The files of all tenants of one database."""

    def __init__(self, database: Database, shelf: Shelf) -> None:
        self._blobs = BlobStore(database)
        self._media = MediaStore(database)
        self._shelf = shelf
        self._shelves: dict[TenantId, str] = {}
        self._looking = asyncio.Semaphore(1)
        self._writing = asyncio.Semaphore(_AT_ONCE)

    async def keep(
        self, tenant_id: TenantId, media_id: MediaId, data: bytes, now: datetime, *, name: str | None = None
    ) -> Found:
        """Store the file of a medium, and its thumbnail. Raises PlaceError and StoreUnavailable: try again.

        A file that is here already is not written again.
        """
        async with self._looking:
            look = await look_at(data)
        file, small = await asyncio.to_thread(_hash, data), look.thumbnail
        thumbnail = None if small is None else _hash(small)
        found = Found(
            sha256=file, size_bytes=len(data), mime=look.mime, name=name, thumbnail=thumbnail,
            width=look.width, height=look.height,
        )  # fmt: skip
        files = (file,) if thumbnail is None else (file, thumbnail)
        async with self._writing, self._blobs.holding(tenant_id, *files):
            await self._store(tenant_id, file, data, look.mime, now)
            if small is not None and thumbnail is not None:
                await self._store(tenant_id, thumbnail, small, THUMBNAIL_MIME, now)
            await self._media.link(tenant_id, media_id, found, now)
        return found

    async def _store(self, tenant_id: TenantId, file: Sha256, data: bytes, mime: str, now: datetime) -> None:
        home, key = self._shelf.home, key_of(await self._shelf_of(tenant_id), file)
        blob = await self._blobs.expect(tenant_id, file, len(data), mime, url_of(home, key))
        if blob.is_stored and await self._shelf.size(blob.url) == len(data):
            return
        await home.put(key, data)
        former = blob.former_url if blob.url == url_of(home, key) else None
        await self._blobs.place(blob, url_of(home, key), now, former_url=former)

    async def _shelf_of(self, tenant_id: TenantId) -> str:
        if tenant_id not in self._shelves:
            self._shelves = await self._blobs.shelves()
        return self._shelves[tenant_id]

    async def read(self, url: str) -> bytes:
        """A file by its address. Raises PlaceError."""
        return await self._shelf.get(url)

    async def sweep(self, tenant_id: TenantId) -> Swept:
        """Remove the files that nothing refers to: after media were deleted, or a write was cut off."""
        removed = left = 0
        after = Sha256(b"")
        while some := await self._blobs.unused(tenant_id, after):
            after = some[-1].sha256
            for blob in some:
                try:
                    removed += await self._remove(blob)
                except PlaceError as exc:
                    if not left:
                        _log.warning("media_not_removed", error=str(exc))
                    left += 1
        return Swept(removed=removed, left=left)

    async def _remove(self, blob: Blob) -> bool:
        async with self._blobs.removing(blob) as doomed:
            if doomed is None:
                return False
            for url in (doomed.url, doomed.former_url):
                if url is not None:
                    await self._shelf.remove(url)
            return True


def _hash(data: bytes) -> Sha256:
    return Sha256(sha256(data).digest())
