"""Sessions: whether the bot may speak in a chat, and every way in which that changes. Holds the queries only.

Each change raises the chat's epoch and cancels what is queued under an older one, in one commit. They are functions
of the database, so that people do the same by SQL, and go by the table of states: `storage.states`, `sidestep.after`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from storage.batch import Batch
from storage.database import Connection, Database
from storage.models import (
    Account,
    Address,
    ChatId,
    ChatSummary,
    ExternalId,
    Jid,
    MessageId,
    PauseReason,
    ResumeMode,
    Session,
    Tenant,
)
from storage.states import PAUSING

_RESUMES_PER_RUN = 500
_DIALLED = re.compile(r"^0{1,2}(?=\d{9})")
"""What is dialled before a number, from home or from abroad, and is no part of it."""

SUMMARY = """
SELECT c.chat_id, s.reply_jid, c.jid, coalesce(p.push_name, c.name) AS name, p.phone, c.is_group, s.last_message_at,
       s.last_message_id, s.epoch, s.is_paused, s.pause_reason, s.paused_at, s.paused_until, s.last_human_at,
       s.last_human_id, s.is_excluded, s.excluded_at, s.opted_out_at, s.opted_at, s.away_until, s.resumed_at,
       sidestep.resume_mode(t.resume_mode, s.resume_mode) AS resume_mode,
       sidestep.idle_after(t.auto_resume_after, s.auto_resume_after) AS idle_after,
       sidestep.returns_at(s.pause_reason, s.paused_at, s.paused_until, s.last_human_at,
                           sidestep.idle_after(t.auto_resume_after, s.auto_resume_after)) AS returns_at,
       coalesce(g.is_paused, false) AS global_pause, coalesce('+' || split_part(a.jid, '@', 1), a.name) AS account
  FROM sidestep.chats c
  JOIN sidestep.accounts a ON a.tenant_id = c.tenant_id AND a.account_id = c.account_id
  JOIN sidestep.chat_state s ON s.tenant_id = c.tenant_id AND s.chat_id = c.chat_id
  JOIN sidestep.tenants t ON t.tenant_id = c.tenant_id
  LEFT JOIN sidestep.contacts p ON p.tenant_id = c.tenant_id AND p.contact_id = c.contact_id
  LEFT JOIN sidestep.processing_state g ON g.tenant_id = c.tenant_id
"""
CHATS = (
    "SELECT w.asked, x.* FROM unnest($2::bigint[]) w (asked), LATERAL ("  # noqa: S608  constants of ours
    + SUMMARY
    + " WHERE c.tenant_id = $1 AND c.chat_id = sidestep.chat_now($1, w.asked)) x"
)
PAUSED_CHATS = (
    SUMMARY + " WHERE c.tenant_id = $1 AND s.is_paused ORDER BY s.paused_at DESC, c.chat_id LIMIT $2"
)
# Whom nobody has answered yet: a human who writes makes it a takeover.
HANDED_OVER = SUMMARY + (
    " WHERE c.tenant_id = $1 AND s.is_paused AND s.pause_reason IN ('ai_handoff', 'customer_request')"
    " AND s.paused_at <= $2 ORDER BY s.paused_at, c.chat_id LIMIT $3"
)
# Where a country writes its mobile numbers in two ways, both end in the same eight digits.
FIND_BY_PHONE = SUMMARY + (
    " WHERE c.tenant_id = $1 AND NOT c.is_group AND p.phone LIKE '%' || right($2, 8)"
    " AND EXISTS (SELECT FROM unnest(sidestep.number_variants(p.phone)) v WHERE v LIKE '%' || $2)"
    " ORDER BY p.phone NOT LIKE '%' || $2, length(p.phone), s.last_message_at DESC NULLS LAST LIMIT $3"
)
FIND_BY_NAME = SUMMARY + (
    " WHERE c.tenant_id = $1 AND strpos(sidestep.folded(coalesce(p.push_name, c.name)), sidestep.folded($2)) > 0"
    " ORDER BY sidestep.folded(coalesce(p.push_name, c.name)) <> sidestep.folded($2),"
    " s.last_message_at DESC NULLS LAST LIMIT $3"
)
GLOBAL_PAUSE = (
    "SELECT coalesce(bool_or(is_paused), false) FROM sidestep.processing_state WHERE tenant_id = $1"
)
GLOBAL_SINCE = "SELECT greatest(paused_at, resumed_at) FROM sidestep.processing_state WHERE tenant_id = $1"

LIDS_OF = "SELECT jid, lid FROM sidestep.contacts WHERE tenant_id = $1 AND jid = ANY ($2) AND lid IS NOT NULL"

CHANGE_PAUSE = "SELECT sidestep.change_pause($1, $2, $3, $4, $5)"
TAKE_OVER = "SELECT sidestep.take_over($1, $2, $3, $4)"
CALL_BACK = "SELECT sidestep.call_back($1, $2, $3, $4, $5)"
EXCLUDE = "SELECT sidestep.exclude($1, $2, $3, $4)"
OPT_OUT = "SELECT sidestep.opt_out($1, $2, $3, $4)"
RESUME_AFTER = """
UPDATE sidestep.chat_state SET auto_resume_after = $3
 WHERE tenant_id = $1 AND chat_id = sidestep.hold_chat($1, $2)
"""
TELL_AWAY = """
UPDATE sidestep.chat_state SET away_until = $3 WHERE tenant_id = $1 AND chat_id = (SELECT sidestep.hold_chat($1, $2))
"""
RESET = "SELECT sidestep.reset($1, $2, $3)"
# What somebody has told the bot to do stays open: a wish to be left alone outlives a crash.
LEAVE_BACKLOG = """
UPDATE sidestep.decisions d SET action_taken = 'ignored_too_old', detail = 'resume_mode: from_now', decided_at = $3
  FROM sidestep.chat_state s JOIN sidestep.chats c ON c.tenant_id = s.tenant_id AND c.chat_id = s.chat_id
  JOIN sidestep.tenants t ON t.tenant_id = s.tenant_id
  JOIN sidestep.messages m ON m.tenant_id = s.tenant_id AND m.chat_id = s.chat_id
 WHERE s.tenant_id = $1 AND c.account_id = $2 AND sidestep.resume_mode(t.resume_mode, s.resume_mode) = 'from_now'
   AND d.tenant_id = $1 AND d.chat_id = s.chat_id AND d.message_id = m.id AND d.action_taken IS NULL
   AND m.command IS NULL
RETURNING d.message_id
"""
SET_GLOBAL_PAUSE = "SELECT sidestep.set_global_pause($1, $2, $3)"
RESUME_DUE = """
SELECT r.chat_id, r.message_id, r.due_at, m.external_id FROM sidestep.resume_due($1, $2, $3) r
  LEFT JOIN sidestep.messages m ON m.tenant_id = $1 AND m.chat_id = r.chat_id AND m.id = r.message_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """A pause that the clock has ended. `chat` is as it is now, `due_at` when it was to end; the message is the human's
    last.
    """

    chat: ChatSummary
    message_id: MessageId
    external_id: ExternalId | None
    due_at: datetime


class SessionStore:
    """The sessions of one tenant's chats. The changing methods take part in the caller's transaction."""

    def __init__(self, database: Database, tenant: Tenant) -> None:
        self._database = database
        self._tenant_id = tenant.tenant_id
        self._chats = Batch(self._chats_of)

    async def chat(self, chat_id: ChatId) -> ChatSummary | None:
        """One chat with its session; None when it was merged or erased."""
        return await self._chats.ask(chat_id)

    async def _chats_of(
        self, chat_ids: Sequence[ChatId], connection: Connection | None = None
    ) -> list[ChatSummary | None]:
        rows = await (connection or self._database).fetch(CHATS, self._tenant_id, list(set(chat_ids)))
        chats = {row["asked"]: summary_of(row) for row in rows}
        return [chats.get(chat_id) for chat_id in chat_ids]

    async def paused_chats(self, limit: int = 20) -> list[ChatSummary]:
        """Chats in which the bot is silent, newest pause first."""
        return [summary_of(r) for r in await self._database.fetch(PAUSED_CHATS, self._tenant_id, limit)]

    async def handed_over(self, before: datetime, limit: int = 100) -> list[ChatSummary]:
        """Chats that wait for a human since before then, the longest first."""
        rows = await self._database.fetch(HANDED_OVER, self._tenant_id, before, limit)
        return [summary_of(r) for r in rows]

    async def find_chats(self, query: str, limit: int = 5) -> list[ChatSummary]:
        """By the end of a number in any format, else by part of a name, accents or not; best match first."""
        digits = _DIALLED.sub("", "".join(c for c in query if c.isdigit()))
        is_number = len(digits) >= 4 and not any(c.isalpha() for c in query)
        sql, wanted = (FIND_BY_PHONE, digits) if is_number else (FIND_BY_NAME, query.strip())
        return [summary_of(r) for r in await self._database.fetch(sql, self._tenant_id, wanted, limit)]

    async def lids_of(self, jids: Sequence[Jid]) -> list[Address]:
        """These phone addresses with the LIDs of the same people, as far as known."""
        rows = await self._database.fetch(LIDS_OF, self._tenant_id, list(jids))
        return [Address(jid=Jid(r["jid"]), alt=Jid(r["lid"])) for r in rows]

    async def global_pause(self) -> bool:
        return bool(await self._database.fetchval(GLOBAL_PAUSE, self._tenant_id))

    async def global_since(self) -> datetime | None:
        """When the last word on the global pause was written; None: never."""
        since: datetime | None = await self._database.fetchval(GLOBAL_SINCE, self._tenant_id)
        return since

    async def resume_due(self, now: datetime, connection: Connection | None = None) -> list[Resumed]:
        """End the pauses whose time has come; each is ended once, however many ask."""
        rows = await (connection or self._database).fetch(RESUME_DUE, self._tenant_id, now, _RESUMES_PER_RUN)
        # A statement sees what was before it: how the chats are now only the next one tells.
        chats = await self._chats_of([r["chat_id"] for r in rows], connection) if rows else []
        return [
            Resumed(
                chat=chat,
                message_id=MessageId(r["message_id"]),
                external_id=r["external_id"],
                due_at=r["due_at"],
            )
            for r, chat in zip(rows, chats, strict=True)
            if chat is not None
        ]

    async def leave_backlog(self, account: Account, now: datetime) -> int:
        """Close what is unanswered in chats that go on from now, not from the last; returns how many messages."""
        return len(await self._database.fetch(LEAVE_BACKLOG, self._tenant_id, account.account_id, now))

    async def pause(
        self,
        connection: Connection,
        chat_id: ChatId,
        reason: PauseReason,
        at: datetime,
        until: datetime | None,
    ) -> None:
        """What leads to this pause happened at that time; what the table of states does not have changes nothing."""
        await connection.execute(CHANGE_PAUSE, self._tenant_id, chat_id, PAUSING[reason], at, until)

    async def take_over(self, connection: Connection, chat_id: ChatId, at: datetime, now: datetime) -> None:
        """A human has spoken at that time, in words that are not recorded."""
        await connection.execute(TAKE_OVER, self._tenant_id, chat_id, at, now)

    async def resume(
        self, connection: Connection, chat_id: ChatId, asked: MessageId, asked_at: datetime, now: datetime
    ) -> None:
        """End a pause, as the message `asked` of `asked_at` wants it.

        What a human wrote before that message pauses no more, however late it comes; a takeover by what was written
        after it stands: the human spoke last.
        """
        await connection.execute(CALL_BACK, self._tenant_id, chat_id, asked, asked_at, now)

    async def exclude(self, connection: Connection, chat_id: ChatId, excluded: bool, at: datetime) -> None:
        """Somebody has said so at that time."""
        await connection.execute(EXCLUDE, self._tenant_id, chat_id, excluded, at)

    async def opt_out(self, connection: Connection, chat_id: ChatId, out: bool, at: datetime) -> None:
        """The customer wants no more automatic messages, or (`out` False) wants them again, and has said so then."""
        await connection.execute(OPT_OUT, self._tenant_id, chat_id, out, at)

    async def resume_after(self, connection: Connection, chat_id: ChatId, silence: timedelta | None) -> None:
        """So much silence of the owner's ends a takeover here from now on; zero: none does, None: as the tenant's."""
        await connection.execute(RESUME_AFTER, self._tenant_id, chat_id, silence)

    async def tell_away(self, connection: Connection, chat_id: ChatId, until: datetime) -> None:
        """The customer has been told that the business is closed; not again before then."""
        await connection.execute(TELL_AWAY, self._tenant_id, chat_id, until)

    async def reset(self, connection: Connection, chat_id: ChatId, now: datetime) -> None:
        """Archive the active thread; the next message begins a new one."""
        await connection.execute(RESET, self._tenant_id, chat_id, now)

    async def set_global_pause(self, connection: Connection, paused: bool, at: datetime) -> None:
        """Somebody has said so at that time."""
        await connection.execute(SET_GLOBAL_PAUSE, self._tenant_id, paused, at)


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
        last_human_id=row["last_human_id"],
        is_excluded=row["is_excluded"],
        excluded_at=row["excluded_at"],
        resumed_at=row["resumed_at"],
        opted_out_at=row["opted_out_at"],
        opted_at=row["opted_at"],
        global_pause=row["global_pause"],
        away_until=row["away_until"],
        idle_after=row["idle_after"],
        returns_at=row["returns_at"],
        resume_mode=ResumeMode(row["resume_mode"]) if row["resume_mode"] else None,
    )


def summary_of(row: asyncpg.Record) -> ChatSummary:
    """A chat from the columns that SUMMARY selects."""
    return ChatSummary(
        chat_id=ChatId(row["chat_id"]),
        jid=Jid(row["reply_jid"] or row["jid"]),
        name=row["name"],
        phone=row["phone"],
        is_group=row["is_group"],
        account=row["account"],
        session=session_of(row),
        last_message_at=row["last_message_at"],
    )
