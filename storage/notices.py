"""Notices: what owners are told unasked, each once. Holds the queries; when and how it is said bot.notices knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from storage.database import Connection, Database
from storage.models import Account, AccountId, ChatId, MessageId, TenantId
from storage.notify import NoticeKind

_MOST = 200

NOTE = """
INSERT INTO sidestep.notices (tenant_id, account_id, kind, subject, chat_id, message_id, text, noted_at, due_at)
SELECT $1, coalesce((SELECT account_id FROM sidestep.chats WHERE tenant_id = $1 AND chat_id = $5), $2),
       $3, $4, $5, $6, $7, $8, $9
    ON CONFLICT (tenant_id, kind, subject) DO NOTHING RETURNING notice_id
"""
# What nobody has been told yet may have ended meanwhile, and is told as that.
REWORD = """
UPDATE sidestep.notices SET text = $4 WHERE tenant_id = $1 AND kind = $2 AND subject = $3 AND told_at IS NULL
RETURNING notice_id
"""
TAKE_DUE = """
WITH due AS (
    SELECT notice_id FROM sidestep.notices
     WHERE tenant_id = $1 AND account_id = ANY ($2) AND told_at IS NULL AND due_at <= $3
     ORDER BY notice_id LIMIT $4 FOR UPDATE SKIP LOCKED),
taken AS (
    UPDATE sidestep.notices n SET told_at = $3 FROM due WHERE n.tenant_id = $1 AND n.notice_id = due.notice_id
    RETURNING n.*)
SELECT notice_id, kind, sidestep.chat_now($1, chat_id) AS chat_id, message_id, text, due_at > noted_at AS was_held
  FROM taken ORDER BY notice_id
"""
IS_ANY_DUE = """
SELECT EXISTS (SELECT FROM sidestep.notices
                WHERE tenant_id = $1 AND account_id = ANY ($2) AND told_at IS NULL AND due_at <= $3)
"""
FORGET = "DELETE FROM sidestep.notices WHERE tenant_id = $1 AND told_at < $2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something to tell an owner. `was_held`: it is from a time at which it was not to be told."""

    kind: NoticeKind
    chat_id: ChatId | None
    message_id: MessageId | None
    text: str
    was_held: bool


class NoticeStore:
    """One account's notices, and those of others of its tenant that cannot tell theirs."""

    def __init__(self, database: Database, account: Account) -> None:
        self._database = database
        self._account = account

    async def note(
        self,
        kind: NoticeKind,
        subject: str,
        text: str,
        now: datetime,
        due_at: datetime,
        *,
        chat_id: ChatId | None = None,
        message_id: MessageId | None = None,
        connection: Connection | None = None,
    ) -> bool:
        """Keep something to be told; of one kind each subject once, also after it was told. False: it was known."""
        noted = await (connection or self._database).fetchval(
            NOTE, self._account.tenant_id, self._account.account_id, kind, subject, chat_id, message_id, text,
            now, due_at,
        )  # fmt: skip
        return noted is not None

    async def reword(self, kind: NoticeKind, subject: str, text: str) -> bool:
        """Change what is not told yet; False when it was, or was never noted."""
        return await self._database.fetchval(REWORD, self._account.tenant_id, kind, subject, text) is not None

    async def is_any_due(self, accounts: Sequence[AccountId], now: datetime) -> bool:
        """Whether there is something to be told."""
        return bool(await self._database.fetchval(IS_ANY_DUE, self._account.tenant_id, list(accounts), now))

    async def take_due(
        self, connection: Connection, accounts: Sequence[AccountId], now: datetime
    ) -> list[Notice]:
        """What is to be told now, by the caller and in the caller's transaction: it counts as told."""
        rows = await connection.fetch(TAKE_DUE, self._account.tenant_id, list(accounts), now, _MOST)
        return [
            Notice(
                kind=NoticeKind(r["kind"]),
                chat_id=r["chat_id"],
                message_id=r["message_id"],
                text=r["text"],
                was_held=r["was_held"],
            )
            for r in rows
        ]


async def forget_told(database: Database, tenant_id: TenantId, before: datetime) -> int:
    """Drop what was told before then; returns how many."""
    return int((await database.execute(FORGET, tenant_id, before)).split()[-1])
