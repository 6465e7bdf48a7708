"""Sessions: whether the bot may speak in a chat, and every way in which that changes. Holds the queries only.

Each change raises the chat's epoch and cancels what is queued under an older one, in one commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from storage.database import Connection, Database
from storage.models import (
    Address,
    ChatId,
    ChatSummary,
    ExternalId,
    Jid,
    MessageId,
    PauseReason,
    Session,
    Tenant,
)

_RESUMES_PER_RUN = 500

_SUMMARY = """
SELECT c.chat_id, s.reply_jid, c.jid, coalesce(p.push_name, c.name) AS name, p.phone, c.is_group, s.last_message_at,
       s.epoch, s.is_paused, s.pause_reason, s.paused_at, s.paused_until, s.last_human_at, s.is_excluded,
       s.opted_out_at, coalesce(g.is_paused, false) AS global_pause
  FROM sidestep.chats c
  JOIN sidestep.chat_state s ON s.tenant_id = c.tenant_id AND s.chat_id = c.chat_id
  LEFT JOIN sidestep.contacts p ON p.tenant_id = c.tenant_id AND p.contact_id = c.contact_id
  LEFT JOIN sidestep.processing_state g ON g.tenant_id = c.tenant_id
"""
CHAT = _SUMMARY + " WHERE c.tenant_id = $1 AND c.chat_id = sidestep.chat_now($1, $2)"
PAUSED_CHATS = (
    _SUMMARY + " WHERE c.tenant_id = $1 AND s.is_paused ORDER BY s.paused_at DESC, c.chat_id LIMIT $2"
)
FIND_BY_PHONE = _SUMMARY + (
    " WHERE c.tenant_id = $1 AND NOT c.is_group AND p.phone LIKE '%' || $2"
    " ORDER BY length(p.phone), s.last_message_at DESC NULLS LAST LIMIT $3"
)
FIND_BY_NAME = _SUMMARY + (
    " WHERE c.tenant_id = $1 AND strpos(lower(coalesce(p.push_name, c.name)), lower($2)) > 0"
    " ORDER BY lower(coalesce(p.push_name, c.name)) <> lower($2), s.last_message_at DESC NULLS LAST LIMIT $3"
)
GLOBAL_PAUSE = (
    "SELECT coalesce(bool_or(is_paused), false) FROM sidestep.processing_state WHERE tenant_id = $1"
)

LIDS_OF = "SELECT jid, lid FROM sidestep.contacts WHERE tenant_id = $1 AND jid = ANY ($2) AND lid IS NOT NULL"

PAUSE = """
UPDATE sidestep.chat_state
   SET is_paused = true, pause_reason = $3, paused_at = $4, paused_until = $5, epoch = epoch + 1,
       last_human_at = CASE WHEN $3 = 'human_takeover' THEN $4 ELSE last_human_at END
 WHERE tenant_id = $1 AND chat_id = $2
"""
RESUME = """
UPDATE sidestep.chat_state
   SET is_paused = false, pause_reason = NULL, paused_at = NULL, paused_until = NULL, epoch = epoch + 1
 WHERE tenant_id = $1 AND chat_id = $2
"""
EXCLUDE = """
UPDATE sidestep.chat_state SET is_excluded = $3, epoch = epoch + 1 WHERE tenant_id = $1 AND chat_id = $2
"""
OPT_OUT = """
UPDATE sidestep.chat_state SET opted_out_at = $3, epoch = epoch + 1 WHERE tenant_id = $1 AND chat_id = $2
"""
RESET = """
WITH archived AS (
    UPDATE sidestep.threads SET status = 'archived', archived_at = $3
     WHERE tenant_id = $1 AND chat_id = $2 AND status = 'active')
UPDATE sidestep.chat_state SET active_thread_id = NULL, epoch = epoch + 1 WHERE tenant_id = $1 AND chat_id = $2
"""
HOLD = "SELECT sidestep.hold_chat($1, $2)"
LOCK = "SELECT epoch FROM sidestep.chat_state WHERE tenant_id = $1 AND chat_id = $2 FOR NO KEY UPDATE"
CANCEL_QUEUED = """
UPDATE sidestep.outbox SET status = 'cancelled', due_at = NULL, error = $3
 WHERE tenant_id = $1 AND chat_id = $2 AND status = 'queued' AND sent_at IS NULL AND epoch IS NOT NULL
"""
SET_GLOBAL_PAUSE = """
INSERT INTO sidestep.processing_state AS p (tenant_id, is_paused, paused_at, resumed_at)
VALUES ($1, $2, CASE WHEN $2 THEN $3::timestamptz END, CASE WHEN NOT $2 THEN $3::timestamptz END)
ON CONFLICT (tenant_id) DO UPDATE
   SET is_paused = $2, paused_at = coalesce(excluded.paused_at, p.paused_at),
       resumed_at = coalesce(excluded.resumed_at, p.resumed_at)
"""
RESUME_DUE = """
SELECT r.chat_id, r.message_id, r.due_at, m.external_id, s.reply_jid
  FROM sidestep.resume_due($1, $2, $3) r
  JOIN sidestep.chat_state s ON s.tenant_id = $1 AND s.chat_id = r.chat_id
  LEFT JOIN sidestep.messages m ON m.tenant_id = $1 AND m.chat_id = r.chat_id AND m.id = r.message_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """A pause that the clock has ended. `due_at` is when it was to end; the message is the human's last."""

    chat_id: ChatId
    jid: Jid
    message_id: MessageId
    external_id: ExternalId | None
    due_at: datetime


class SessionStore:
    """The sessions of one tenant's chats. The changing methods take part in the caller's transaction."""

    def __init__(self, database: Database, tenant: Tenant) -> None:
        self._database = database
        self._tenant_id = tenant.tenant_id

    async def chat(self, chat_id: ChatId) -> ChatSummary | None:
        """One chat with its session; None when it was merged or erased."""
        row = await self._database.fetchrow(CHAT, self._tenant_id, chat_id)
        return _summary(row) if row else None

    async def paused_chats(self, limit: int = 20) -> list[ChatSummary]:
        """Chats in which the bot is silent, newest pause first."""
        return [_summary(r) for r in await self._database.fetch(PAUSED_CHATS, self._tenant_id, limit)]

    async def find_chats(self, query: str, limit: int = 5) -> list[ChatSummary]:
        """By the end of a number in any format, else by part of a name; best match first."""
        digits = "".join(c for c in query if c.isdigit())
        is_number = len(digits) >= 4 and not any(c.isalpha() for c in query)
        sql, wanted = (FIND_BY_PHONE, digits) if is_number else (FIND_BY_NAME, query.strip())
        return [_summary(r) for r in await self._database.fetch(sql, self._tenant_id, wanted, limit)]

    async def lids_of(self, jids: Sequence[Jid]) -> list[Address]:
        """These phone addresses with the LIDs of the same people, as far as known."""
        rows = await self._database.fetch(LIDS_OF, self._tenant_id, list(jids))
        return [Address(jid=Jid(r["jid"]), alt=Jid(r["lid"])) for r in rows]

    async def global_pause(self) -> bool:
        return bool(await self._database.fetchval(GLOBAL_PAUSE, self._tenant_id))

    async def resume_due(self, now: datetime) -> list[Resumed]:
        """End the pauses whose time has come; each is ended once, however many ask."""
        rows = await self._database.fetch(RESUME_DUE, self._tenant_id, now, _RESUMES_PER_RUN)
        return [
            Resumed(
                chat_id=ChatId(r["chat_id"]),
                jid=Jid(r["reply_jid"]),
                message_id=MessageId(r["message_id"]),
                external_id=r["external_id"],
                due_at=r["due_at"],
            )
            for r in rows
        ]

    async def pause(
        self,
        connection: Connection,
        chat_id: ChatId,
        reason: PauseReason,
        now: datetime,
        until: datetime | None,
    ) -> None:
        chat_id = await self._hold(connection, chat_id)
        await connection.execute(PAUSE, self._tenant_id, chat_id, reason, now, until)
        await connection.execute(CANCEL_QUEUED, self._tenant_id, chat_id, f"paused: {reason}")

    async def resume(self, connection: Connection, chat_id: ChatId) -> None:
        chat_id = await self._hold(connection, chat_id)
        await connection.execute(RESUME, self._tenant_id, chat_id)

    async def exclude(self, connection: Connection, chat_id: ChatId, excluded: bool) -> None:
        chat_id = await self._hold(connection, chat_id)
        await connection.execute(EXCLUDE, self._tenant_id, chat_id, excluded)
        await connection.execute(CANCEL_QUEUED, self._tenant_id, chat_id, "the chat was excluded")

    async def opt_out(self, connection: Connection, chat_id: ChatId, at: datetime | None) -> None:
        """`at` None: the customer is back."""
        chat_id = await self._hold(connection, chat_id)
        await connection.execute(OPT_OUT, self._tenant_id, chat_id, at)
        await connection.execute(CANCEL_QUEUED, self._tenant_id, chat_id, "the customer opted out")

    async def reset(self, connection: Connection, chat_id: ChatId, now: datetime) -> None:
        """Archive the active thread; the next message begins a new one."""
        chat_id = await self._hold(connection, chat_id)
        await connection.execute(LOCK, self._tenant_id, chat_id)
        await connection.execute(RESET, self._tenant_id, chat_id, now)
        await connection.execute(CANCEL_QUEUED, self._tenant_id, chat_id, "the conversation was reset")

    async def set_global_pause(self, connection: Connection, paused: bool, now: datetime) -> None:
        await connection.execute(SET_GLOBAL_PAUSE, self._tenant_id, paused, now)

    async def _hold(self, connection: Connection, chat_id: ChatId) -> ChatId:
        # A command may be about a chat that has been merged since it was looked up.
        return ChatId(await connection.fetchval(HOLD, self._tenant_id, chat_id))


def session_of(row: asyncpg.Record) -> Session:
    reason = row["pause_reason"]
    return Session(
        chat_id=ChatId(row["chat_id"]),
        epoch=row["epoch"],
        is_paused=row["is_paused"],
        pause_reason=PauseReason(reason) if reason else None,
        paused_at=row["paused_at"],
        paused_until=row["paused_until"],
        last_human_at=row["last_human_at"],
        is_excluded=row["is_excluded"],
        opted_out_at=row["opted_out_at"],
        global_pause=row["global_pause"],
    )


def _summary(row: asyncpg.Record) -> ChatSummary:
    return ChatSummary(
        chat_id=ChatId(row["chat_id"]),
        jid=Jid(row["reply_jid"] or row["jid"]),
        name=row["name"],
        phone=row["phone"],
        is_group=row["is_group"],
        session=session_of(row),
        last_message_at=row["last_message_at"],
    )
