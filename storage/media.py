"""Media as rows: which file each message has, and how far we are with it. Holds no file and reads none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NewType

from storage.blobs import Sha256
from storage.database import Connection, Database
from storage.models import Account, ChatId, ContactId, MessageId, MessageType, TenantId
from storage.rows import printable

MediaId = NewType("MediaId", int)

_LONGEST_NAME = 255


class MediaStatus(StrEnum):
    """How far we are with a medium. STORED also where others keep it, under an address that we know."""

    PENDING = "pending"
    STORED = "stored"
    FAILED = "failed"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class DueMedium:
    """A medium that is to be fetched now. `raw` is the event that was recorded with its message, None if it is gone."""

    tenant_id: TenantId
    media_id: MediaId
    type: MessageType
    attempts: int
    raw: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaCount:
    """A tenant's media. `unasked` are those pending ones that nobody has asked for; `files` count thumbnails too."""

    by_status: Mapping[MediaStatus, int]
    unasked: int
    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a medium turned out to be, told from its bytes; `name` is its sender's word."""

    sha256: Sha256
    size_bytes: int
    mime: str
    name: str | None = None
    thumbnail: Sha256 | None = None
    width: int | None = None
    height: int | None = None


# What is tried is due again after a while, whatever becomes of the attempt: also one that ends the process.
TAKE_DUE = """
UPDATE sidestep.media m
   SET attempts = m.attempts + 1,
       due_at = $3 + ($4::interval[])[least(m.attempts + 1, cardinality($4::interval[]))]
  FROM (SELECT d.tenant_id, d.media_id FROM sidestep.media d
         WHERE d.tenant_id = $1 AND d.account_id = $2 AND d.due_at <= $3
         ORDER BY d.due_at LIMIT 1 FOR UPDATE SKIP LOCKED) due
 WHERE m.tenant_id = due.tenant_id AND m.media_id = due.media_id
RETURNING m.tenant_id, m.media_id, m.type, m.attempts,
          (SELECT p.raw::text FROM sidestep.message_payloads p
            WHERE p.tenant_id = m.tenant_id AND p.chat_id = m.chat_id AND p.id = m.message_id) AS raw
"""
NEXT_DUE_AT = """
SELECT due_at FROM sidestep.media WHERE tenant_id = $1 AND account_id = $2 AND due_at IS NOT NULL
 ORDER BY due_at LIMIT 1
"""
SETTLE_MEDIUM = """
UPDATE sidestep.media SET status = $3, error = $4, due_at = $5, attempts = $6
 WHERE tenant_id = $1 AND media_id = $2 AND status <> 'stored'
"""
# One that was erased meanwhile is linked to nothing: its file stays unused, and is removed.
LINK_MEDIUM = """
WITH linked AS (
    UPDATE sidestep.media
       SET status = 'stored', sha256 = $3, thumbnail = $4, size_bytes = $5, mime = $6, name = coalesce($7, name),
           width = $8, height = $9, stored_at = $10, due_at = NULL, error = NULL
     WHERE tenant_id = $1 AND media_id = $2 AND sha256 IS NULL RETURNING media_id)
UPDATE sidestep.blobs SET is_unused = false
 WHERE tenant_id = $1 AND (sha256 = $3 OR sha256 = $4) AND EXISTS (SELECT FROM linked)
"""
# The update changes nothing: only so does a row that is there already come back.
ADD_MEDIUM = """
INSERT INTO sidestep.media AS m (tenant_id, account_id, chat_id, message_id, type, created_at)
SELECT $1, c.account_id, c.chat_id, $3, $4, $5
  FROM sidestep.chats c WHERE c.tenant_id = $1 AND c.chat_id = sidestep.chat_now($1, $2)
ON CONFLICT (tenant_id, chat_id, message_id, ordinal) DO UPDATE SET type = m.type
RETURNING media_id, sha256 IS NOT NULL AS has_file
"""
ASK_AGAIN = """
UPDATE sidestep.media m SET status = 'pending', due_at = $2, attempts = 0, error = NULL
 WHERE m.tenant_id = $1
   AND (m.status IN ('failed', 'expired') OR ($3 AND m.status = 'pending' AND m.due_at IS NULL))
   AND EXISTS (SELECT FROM sidestep.message_payloads p
                WHERE p.tenant_id = m.tenant_id AND p.chat_id = m.chat_id AND p.id = m.message_id)
RETURNING m.media_id
"""
COUNT_MEDIA = """
SELECT status, count(*) AS number, count(*) FILTER (WHERE status = 'pending' AND due_at IS NULL) AS unasked
  FROM sidestep.media WHERE tenant_id = $1 GROUP BY status
"""
COUNT_FILES = """
SELECT count(*) AS number, coalesce(sum(size_bytes), 0)::bigint AS size_bytes
  FROM sidestep.blobs WHERE tenant_id = $1 AND stored_at IS NOT NULL
"""
FORGET_MEDIA = "SELECT sidestep.forget_media($1, $2, $3)"
FORGET_MEDIA_OF = "SELECT sidestep.forget_media_of($1, $2)"


class MediaStore:
    """Media of all tenants. Everything that lasts of them, but the files, is in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- fetching --

    async def take_due(
        self, account: Account, now: datetime, pauses: Sequence[timedelta]
    ) -> DueMedium | None:
        """The medium that has waited longest. It is due again after the pause that follows this attempt."""
        row = await self._database.fetchrow(
            TAKE_DUE, account.tenant_id, account.account_id, now, list(pauses)
        )
        if row is None:
            return None
        return DueMedium(
            tenant_id=TenantId(row["tenant_id"]),
            media_id=MediaId(row["media_id"]),
            type=MessageType(row["type"]),
            attempts=row["attempts"],
            raw=row["raw"],
        )

    async def next_due_at(self, account: Account) -> datetime | None:
        """When something is to be fetched next; None: nothing is."""
        at: datetime | None = await self._database.fetchval(
            NEXT_DUE_AT, account.tenant_id, account.account_id
        )
        return at

    async def settle(self, due: DueMedium, status: MediaStatus, error: str) -> None:
        """It will not be fetched, at least not by itself."""
        await self._settle(due, status, error, None, due.attempts)

    async def postpone(self, due: DueMedium, error: str, at: datetime, *, attempts: int) -> None:
        """It is due again then, as after so many attempts."""
        await self._settle(due, MediaStatus.PENDING, error, at, attempts)

    async def _settle(
        self, due: DueMedium, status: MediaStatus, error: str, at: datetime | None, attempts: int
    ) -> None:
        await self._database.execute(
            SETTLE_MEDIUM, due.tenant_id, due.media_id, status, printable(error), at, attempts
        )

    async def ask_again(self, tenant_id: TenantId, now: datetime, *, past: bool) -> int:
        """Have what has failed or expired fetched once more, and with `past` what only the past has told of.

        Returns how many.
        """
        return len(await self._database.fetch(ASK_AGAIN, tenant_id, now, past))

    async def count(self, tenant_id: TenantId) -> MediaCount:
        rows = await self._database.fetch(COUNT_MEDIA, tenant_id)
        files = await self._database.fetchrow(COUNT_FILES, tenant_id)
        assert files is not None  # noqa: S101  an aggregate has a row
        return MediaCount(
            by_status={MediaStatus(row["status"]): row["number"] for row in rows},
            unasked=sum(row["unasked"] for row in rows),
            files=files["number"],
            size_bytes=files["size_bytes"],
        )

    # -- having --

    async def link(self, tenant_id: TenantId, media_id: MediaId, found: Found, now: datetime) -> None:
        """The medium has this file, which is stored; the caller holds it and its thumbnail."""
        name = None if found.name is None else printable(found.name)[:_LONGEST_NAME]
        await self._database.execute(
            LINK_MEDIUM, tenant_id, media_id, found.sha256, found.thumbnail, found.size_bytes, found.mime,
            name, found.width, found.height, now,
        )  # fmt: skip

    async def add(
        self, tenant_id: TenantId, chat_id: ChatId, message_id: MessageId, kind: MessageType, now: datetime
    ) -> MediaId | None:
        """The medium of a message whose file came otherwise than through a transport, such as with an import.

        It is noted if it was not, and waits for its file: see Keeper.keep. None: it has its file already.
        """
        row = await self._database.fetchrow(ADD_MEDIUM, tenant_id, chat_id, message_id, kind, now)
        return None if row is None or row["has_file"] else MediaId(row["media_id"])

    # -- forgetting --

    @staticmethod
    async def forget(
        connection: Connection,
        tenant_id: TenantId,
        chat_id: ChatId,
        messages: Sequence[MessageId] | None = None,
    ) -> int:
        """Delete the media of a chat, or of some of its messages, within the caller's transaction; returns how many.

        Their files are still there: sweep when it is committed.
        """
        number: int = await connection.fetchval(
            FORGET_MEDIA, tenant_id, chat_id, None if messages is None else list(messages)
        )
        return number

    @staticmethod
    async def forget_person(connection: Connection, tenant_id: TenantId, contact_id: ContactId) -> int:
        """As `forget`, wherever this person wrote: before their chats and messages are deleted."""
        number: int = await connection.fetchval(FORGET_MEDIA_OF, tenant_id, contact_id)
        return number
