"""Proves that files and rows agree: reads every file, lists every place, and repairs what is safe to repair.

What looks wrong is looked at again under the file's lock, since a daemon may be at work on it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256

from bot.media.folder import is_leftover
from bot.media.pictures import look_at
from bot.media.places import SET_ASIDE, Entry, Key, NoSuchFile, Place, file_of, split, url_of
from bot.media.shelf import Shelf
from storage.blobs import Blob, BlobStore, Sha256
from storage.models import TenantId

# What is being written is younger.
_LEFTOVER_SECONDS = 3600.0


class Trouble(StrEnum):
    """MISSING: a row without its file. DAMAGED: the file is not what its address says. ORPHANED: a file without a row.

    LEFTOVER: what a write that was cut off has left. SPARE: a copy beside the one that its row names, such as of a move
    that was stopped, or the same file under another address; FOREIGN: no file of this database's. Both are left alone.
    """

    MISSING = "missing"
    DAMAGED = "damaged"
    ORPHANED = "orphaned"
    LEFTOVER = "leftover"
    SPARE = "spare"
    FOREIGN = "foreign"


LEFT_ALONE = frozenset({Trouble.SPARE, Trouble.FOREIGN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is wrong with one file, and what was done about it; `remedy` None: nothing."""

    trouble: Trouble
    url: str
    remedy: str | None = None


class Audit:
    """All files of a database's tenants, and all places that they lie in."""

    def __init__(
        self, blobs: BlobStore, shelf: Shelf, now: Callable[[], datetime], *, repair: bool = False
    ) -> None:
        self._blobs = blobs
        self._shelf = shelf
        self._now = now
        self._repair = repair
        self.files = 0

    async def run(self) -> AsyncIterator[Finding]:
        """Raises PlaceError where a place cannot be read."""
        shelves = await self._blobs.shelves()
        for tenant_id in shelves:
            async for finding in self._rows(tenant_id):
                yield finding
        bases = {self._shelf.home.base}
        for tenant_id in shelves:
            bases.update(await self._blobs.bases(tenant_id))
        tenants = {shelf: tenant_id for tenant_id, shelf in shelves.items()}
        for base in sorted(bases):
            place = self._shelf.at(base)
            async for entry in place.entries():
                finding_there = await self._look_at_entry(place, entry, tenants)
                if finding_there is not None:
                    yield finding_there

    # -- from the rows to the files --

    async def _rows(self, tenant_id: TenantId) -> AsyncIterator[Finding]:
        after = Sha256(b"")
        while some := await self._blobs.after(tenant_id, after):
            after = some[-1].sha256
            for blob in some:
                self.files += blob.is_stored
                if await self._trouble(blob) is not None:
                    async with self._blobs.holding(tenant_id, blob.sha256):
                        finding = await self._look_again(tenant_id, blob.sha256)
                    if finding is not None:
                        yield finding

    async def _trouble(self, blob: Blob) -> Trouble | None:
        if not blob.is_stored:
            # Being written or removed, unless something says that it has it.
            return None if blob.is_unused else Trouble.MISSING
        return await self._trouble_at(blob.url, blob.sha256)

    async def _trouble_at(self, url: str, file: Sha256) -> Trouble | None:
        try:
            data = await self._shelf.get(url)
        except NoSuchFile:
            return Trouble.MISSING
        return None if sha256(data).digest() == file else Trouble.DAMAGED

    async def _look_again(self, tenant_id: TenantId, file: Sha256) -> Finding | None:
        blob = await self._blobs.get(tenant_id, file)
        trouble = None if blob is None else await self._trouble(blob)
        if blob is None or trouble is None:
            return None
        remedy = await self._mend(blob, trouble) if self._repair else None
        return Finding(trouble=trouble, url=blob.url, remedy=remedy)

    async def _mend(self, blob: Blob, trouble: Trouble) -> str:
        base, key = split(blob.url)
        for url in (blob.former_url, url_of(self._shelf.home, key)):
            if url is not None and url != blob.url and await self._trouble_at(url, blob.sha256) is None:
                return await self._restore(blob, url)
        if (small := await self._thumbnail(blob)) is not None:
            await self._shelf.at(base).put(key, small)
            await self._blobs.place(blob, blob.url, self._now(), former_url=blob.former_url)
            return "made anew"
        if trouble is Trouble.DAMAGED:
            await self._shelf.at(base).set_aside(key)
        await self._blobs.lose(blob, self._now())
        return "to be fetched again" if trouble is Trouble.MISSING else "set aside, to be fetched again"

    async def _thumbnail(self, blob: Blob) -> bytes | None:
        """Its content, if it is the thumbnail of a picture that is here."""
        url = await self._blobs.picture_of(blob)
        if url is None:
            return None
        try:
            small = (await look_at(await self._shelf.get(url))).thumbnail
        except NoSuchFile:
            return None
        return small if small is not None and sha256(small).digest() == blob.sha256 else None

    async def _restore(self, blob: Blob, url: str) -> str:
        base, key = split(blob.url)
        if url == blob.former_url:
            await self._shelf.at(base).put(key, await self._shelf.get(url))
            await self._blobs.place(blob, blob.url, self._now(), former_url=url)
            return "taken from where it lay before"
        await self._blobs.place(blob, url, self._now(), former_url=None)
        return "found where new files go"

    # -- from the files to the rows --

    async def _look_at_entry(
        self, place: Place, entry: Entry, tenants: Mapping[str, TenantId]
    ) -> Finding | None:
        if entry.key is not None and (tenant_id := tenants.get(file_of(entry.key)[0])) is not None:
            return await self._look_for_row(place, tenant_id, entry.key)
        if entry.name.startswith(f"{SET_ASIDE}/"):
            return None
        url = f"{place.base}/{entry.name}"
        if not is_leftover(entry):
            return Finding(trouble=Trouble.FOREIGN, url=url)
        if entry.age_seconds < _LEFTOVER_SECONDS:
            return None
        if self._repair:
            await place.discard(entry)
        return Finding(trouble=Trouble.LEFTOVER, url=url, remedy="removed" if self._repair else None)

    async def _look_for_row(self, place: Place, tenant_id: TenantId, key: Key) -> Finding | None:
        file, url = file_of(key)[1], url_of(place, key)
        blob = await self._blobs.get(tenant_id, file)
        if blob is not None:
            is_known = url in (blob.url, blob.former_url)
            return None if is_known else Finding(trouble=Trouble.SPARE, url=url)
        async with self._blobs.holding(tenant_id, file):
            if await self._blobs.get(tenant_id, file) is not None or await place.size(key) is None:
                return None
            if self._repair:
                await place.remove(key)
        return Finding(trouble=Trouble.ORPHANED, url=url, remedy="removed" if self._repair else None)
