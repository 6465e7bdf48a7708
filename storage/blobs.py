"""The files that we keep, as rows: where each lies, and who may write, move or remove it now. Touches no file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import NewType

import asyncpg

from storage.database import Database
from storage.models import TenantId

Sha256 = NewType("Sha256", bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A file that we keep. `is_stored` False: it is not written yet, or is just being removed.

    `is_unused`: perhaps nothing refers to it.
    """

    tenant_id: TenantId
    sha256: Sha256
    size_bytes: int
    url: str
    former_url: str | None = None
    is_stored: bool = True
    is_unused: bool = False


HOLD_FILE = "SELECT pg_advisory_lock(hashtextextended('sidestep.blob', $1) # hashtextextended($2, 0))"
TRY_HOLD_FILE = "SELECT pg_try_advisory_lock(hashtextextended('sidestep.blob', $1) # hashtextextended($2, 0))"
_BLOB = "tenant_id, sha256, size_bytes, url, former_url, stored_at IS NOT NULL AS is_stored, is_unused"
# The update changes nothing: only so does a row that is there already come back.
EXPECT_BLOB = (
    """
INSERT INTO sidestep.blobs AS b (tenant_id, sha256, size_bytes, mime, url) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant_id, sha256) DO UPDATE SET mime = b.mime
RETURNING """
    + _BLOB
)
PLACE_BLOB = """
UPDATE sidestep.blobs SET url = $3, former_url = $4, stored_at = coalesce(stored_at, $5),
       moved_at = CASE WHEN $4::text IS NULL THEN moved_at ELSE $5 END
 WHERE tenant_id = $1 AND sha256 = $2
"""
SHELVES = """
SELECT tenant_id, tenant_id || '-' || to_hex((extract(epoch FROM created_at) * 1000000)::bigint) AS shelf
  FROM sidestep.tenants ORDER BY tenant_id
"""
PICTURE_OF = """
SELECT b.url FROM sidestep.media m JOIN sidestep.blobs b ON b.tenant_id = m.tenant_id AND b.sha256 = m.sha256
 WHERE m.tenant_id = $1 AND m.thumbnail = $2 AND b.stored_at IS NOT NULL LIMIT 1
"""
GET_BLOB = (
    "SELECT "  # noqa: S608  constants of ours
    + _BLOB
    + " FROM sidestep.blobs WHERE tenant_id = $1 AND sha256 = $2"
)
BLOBS = (
    "SELECT "  # noqa: S608  constants of ours
    + _BLOB
    + """
  FROM sidestep.blobs WHERE tenant_id = $1 AND sha256 > $2 ORDER BY sha256 LIMIT 100
"""
)
BASES = """
SELECT DISTINCT regexp_replace(u.url, '(/[^/]*){3}$', '') AS base
  FROM sidestep.blobs b, unnest(ARRAY[b.url, b.former_url]) u (url) WHERE b.tenant_id = $1 AND u.url IS NOT NULL
"""
# The row waits for its file to come again, and goes as unused if it does not.
LOSE_BLOB = """
WITH lost AS (
    UPDATE sidestep.media m
       SET sha256 = NULL, status = CASE WHEN p.id IS NULL THEN 'failed' ELSE 'pending' END,
           due_at = CASE WHEN p.id IS NOT NULL THEN $3::timestamptz END, attempts = 0, error = 'its file was lost'
      FROM sidestep.media l LEFT JOIN sidestep.message_payloads p
        ON p.tenant_id = l.tenant_id AND p.chat_id = l.chat_id AND p.id = l.message_id
     WHERE l.tenant_id = $1 AND l.sha256 = $2 AND m.tenant_id = l.tenant_id AND m.media_id = l.media_id),
bare AS (
    UPDATE sidestep.media SET thumbnail = NULL
     WHERE tenant_id = $1 AND thumbnail = $2 AND sha256 IS DISTINCT FROM $2)
UPDATE sidestep.blobs SET stored_at = NULL, is_unused = true WHERE tenant_id = $1 AND sha256 = $2
"""
UNUSED = (
    "SELECT "  # noqa: S608  constants of ours
    + _BLOB
    + """
  FROM sidestep.blobs WHERE tenant_id = $1 AND is_unused AND sha256 > $2 ORDER BY sha256 LIMIT 100
"""
)
LOCK_BLOB = (
    "SELECT "  # noqa: S608  constants of ours
    + _BLOB
    + " FROM sidestep.blobs WHERE tenant_id = $1 AND sha256 = $2 AND is_unused FOR UPDATE"
)
IS_REFERRED_TO = """
SELECT EXISTS (SELECT FROM sidestep.media WHERE tenant_id = $1 AND sha256 = $2)
    OR EXISTS (SELECT FROM sidestep.media WHERE tenant_id = $1 AND thumbnail = $2)
"""
SPARE_BLOB = "UPDATE sidestep.blobs SET is_unused = false WHERE tenant_id = $1 AND sha256 = $2"
DOOM_BLOB = "UPDATE sidestep.blobs SET stored_at = NULL WHERE tenant_id = $1 AND sha256 = $2"
DROP_BLOB = (
    "DELETE FROM sidestep.blobs WHERE tenant_id = $1 AND sha256 = $2 AND is_unused AND stored_at IS NULL"
)


class BlobStore:
    """Files of all tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def shelves(self) -> dict[TenantId, str]:
        """Where each tenant's files lie within a place. No tenant of another database has the same.

        Two databases may share a folder, by default they do: neither may take the other's files for its own.
        """
        rows = await self._database.fetch(SHELVES)
        return {TenantId(row["tenant_id"]): row["shelf"] for row in rows}

    @asynccontextmanager
    async def holding(self, tenant_id: TenantId, *files: Sha256) -> AsyncIterator[None]:
        """Let nobody else write, move or remove these files meanwhile, in any process."""
        # Giving the connection back lets go of them, and so does its end.
        async with self._database.acquire() as connection:
            for sha256 in sorted(set(files)):  # in one order, so that two never wait for each other
                await connection.fetchval(HOLD_FILE, tenant_id, sha256.hex())
            yield

    async def expect(self, tenant_id: TenantId, sha256: Sha256, size_bytes: int, mime: str, url: str) -> Blob:
        """The row of a file that is to be stored at `url`, or the one that is there. The caller holds the file."""
        row = await self._database.fetchrow(EXPECT_BLOB, tenant_id, sha256, size_bytes, mime, url)
        assert row is not None  # noqa: S101  either is returned
        return _blob_of(row)

    async def place(self, blob: Blob, url: str, now: datetime, *, former_url: str | None) -> None:
        """Its file lies there now. The caller holds the file, and has written it."""
        await self._database.execute(PLACE_BLOB, blob.tenant_id, blob.sha256, url, former_url, now)

    async def get(self, tenant_id: TenantId, sha256: Sha256) -> Blob | None:
        """The row of a file, as it is now."""
        row = await self._database.fetchrow(GET_BLOB, tenant_id, sha256)
        return None if row is None else _blob_of(row)

    async def after(self, tenant_id: TenantId, sha256: Sha256) -> list[Blob]:
        """All files, some at a time in the order of their hashes."""
        return [_blob_of(row) for row in await self._database.fetch(BLOBS, tenant_id, sha256)]

    async def bases(self, tenant_id: TenantId) -> list[str]:
        """Wherever files of this tenant lie, or have lain."""
        return [row["base"] for row in await self._database.fetch(BASES, tenant_id)]

    async def picture_of(self, thumbnail: Blob) -> str | None:
        """The address of a picture that has this thumbnail."""
        url: str | None = await self._database.fetchval(PICTURE_OF, thumbnail.tenant_id, thumbnail.sha256)
        return url

    async def lose(self, blob: Blob, now: datetime) -> None:
        """Its file is gone: media that had it are fetched again where they can be. The caller holds the file."""
        await self._database.execute(LOSE_BLOB, blob.tenant_id, blob.sha256, now)

    async def unused(self, tenant_id: TenantId, after: Sha256) -> list[Blob]:
        """Files that perhaps nothing refers to, some at a time in the order of their hashes."""
        return [_blob_of(row) for row in await self._database.fetch(UNUSED, tenant_id, after)]

    @asynccontextmanager
    async def removing(self, blob: Blob) -> AsyncIterator[Blob | None]:
        """Holds a file that nothing refers to while the caller removes it; then its row goes too.

        None: something does refer to it, or somebody else is at work on it.
        """
        key = (blob.tenant_id, blob.sha256)
        async with self._database.acquire() as connection:
            if not await connection.fetchval(TRY_HOLD_FILE, blob.tenant_id, blob.sha256.hex()):
                yield None
                return
            async with connection.transaction():
                # Whoever just deletes the last reference marks the row after us, or we see it gone.
                row = await connection.fetchrow(LOCK_BLOB, *key)
                doomed = row is not None and not await connection.fetchval(IS_REFERRED_TO, *key)
                if row is not None:
                    await connection.execute(DOOM_BLOB if doomed else SPARE_BLOB, *key)
            yield _blob_of(row) if doomed and row is not None else None
            if doomed:
                await connection.execute(DROP_BLOB, *key)


def _blob_of(row: asyncpg.Record) -> Blob:
    return Blob(
        tenant_id=TenantId(row["tenant_id"]),
        sha256=Sha256(row["sha256"]),
        size_bytes=row["size_bytes"],
        url=row["url"],
        former_url=row["former_url"],
        is_stored=row["is_stored"],
        is_unused=row["is_unused"],
    )
