"""The outbox's tables: what goes out, and what became of it. Holds the queries; bot.outbox holds the loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

import asyncpg

from storage.database import Connection, Database
from storage.errors import StorageError
from storage.messages import REFUSED
from storage.models import (
    Account,
    ChatId,
    Claim,
    Decision,
    Due,
    ExternalId,
    Jid,
    MessageId,
    MessageType,
    Outgoing,
    Receipt,
    Status,
    StatusChange,
)
from storage.rows import decision_columns

LEASE = timedelta(seconds=150)
"""How long a claimed row may stay unsettled: twice the 75 s after which WhatsApp gives up on an acknowledgement."""

ANSWER = """
SELECT verdict, reply_ids FROM sidestep.answer($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
"""
ENQUEUE = "SELECT sidestep.enqueue($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
CHAT_AT = """
SELECT chat_id FROM sidestep.chat_aliases WHERE tenant_id = $1 AND account_id = $2 AND channel = $3 AND jid = $4
"""
EPOCH = "SELECT epoch FROM sidestep.chat_state WHERE tenant_id = $1 AND chat_id = sidestep.chat_now($1, $2)"
MAY_SPEAK = "SELECT sidestep.may_speak($1, $2, $3)"
CLAIM = "SELECT sidestep.claim($1, $2, $3, $4, $5, $6)"
MARK_SENT = "SELECT sidestep.mark_sent($1, $2, $3, $4, $5, $6)"
RECEIVE_RECEIPT = (
    "SELECT chat_id, id, status FROM sidestep.receive_receipt($1, $2, $3, $4, $5, $6, $7, $8, $9)"
)
DUE_CHATS = """
SELECT DISTINCT chat_id FROM sidestep.outbox
 WHERE tenant_id = $1 AND account_id = $2 AND due_at <= $3 AND status = 'queued'
"""
NEXT_DUE = """
SELECT o.chat_id, o.id, o.epoch, o.attempts, o.answers, o.queued_at, o.due_at, m.text, m.type, m.media_url,
       coalesce(s.reply_jid, c.jid) AS reply_jid,
       ARRAY(SELECT a.jid FROM sidestep.chat_aliases a
              WHERE a.tenant_id = o.tenant_id AND a.chat_id = o.chat_id) AS jids
  FROM sidestep.outbox o
  JOIN sidestep.messages m ON m.tenant_id = o.tenant_id AND m.chat_id = o.chat_id AND m.id = o.id
  JOIN sidestep.chats c ON c.tenant_id = o.tenant_id AND c.chat_id = o.chat_id
  JOIN sidestep.chat_state s ON s.tenant_id = o.tenant_id AND s.chat_id = o.chat_id
 WHERE o.tenant_id = $1 AND o.account_id = $2 AND o.chat_id = $3 AND o.status = 'queued' AND o.sent_at IS NULL
 ORDER BY o.id LIMIT 1
"""
WITHDRAW = "SELECT sidestep.withdraw($1, $2, $3)"
SETTLE = """
UPDATE sidestep.outbox
   SET status = $4, error = $5, due_at = CASE WHEN $4 = 'queued' THEN $6::timestamptz END,
       failed_at = CASE WHEN $4 = 'failed' THEN $6::timestamptz END, overlapped = overlapped OR $7
 WHERE tenant_id = $1 AND chat_id = sidestep.chat_now($1, $2) AND id = $3 AND status IN ('queued', 'sending')
"""
ABANDONED = """
UPDATE sidestep.outbox SET status = 'unknown', due_at = NULL, error = 'the daemon ended while it was being sent'
 WHERE tenant_id = $1 AND account_id = $2 AND status = 'sending' AND due_at <= $3
RETURNING chat_id, id
"""
FORGET_RECEIPTS = "DELETE FROM sidestep.early_receipts WHERE tenant_id = $1 AND received_at < $2"


class AlreadyDecided(StorageError):
    """Another process has decided one of these messages; nothing of this answer was kept."""


class NotQueued(StorageError):
    """A reply that was to be withdrawn is on its way, or cancelled; nothing of this answer was kept."""


class BadReceipt(StorageError):
    """A receipt holds something that PostgreSQL will never take; nothing of it was kept."""


_REFUSALS: Mapping[str, type[StorageError]] = {"SS002": AlreadyDecided, "SS003": NotQueued}


class OutboxStore:
    """The outbox of one account."""

    def __init__(self, database: Database, account: Account) -> None:
        self._database = database
        self._account = account
        self._tenant_id = account.tenant_id

    async def answer(
        self,
        chat_id: ChatId,
        epoch: int | None,
        decisions: Sequence[Decision],
        answers: Sequence[MessageId],
        replies: Sequence[Outgoing],
        now: datetime,
        *,
        withdraws: Sequence[MessageId] = (),
        connection: Connection | None = None,
    ) -> list[MessageId] | None:
        """Decide a turn's messages, queue its replies and cancel those that they replace, in one commit.

        None: the chat's epoch is no longer `epoch` (a human has taken over, or the chat was paused),
        and nothing was decided or queued. Raises AlreadyDecided and NotQueued.
        """
        arguments = (
            self._tenant_id, chat_id, now, epoch, *decision_columns(decisions), list(answers),
            [r.type for r in replies], [r.text for r in replies], [r.media_url for r in replies],
            [dict(r.metadata) or None for r in replies], [r.fenced for r in replies], list(withdraws),
        )  # fmt: skip
        with _translated():
            row = await (connection or self._database).fetchrow(ANSWER, *arguments)
        assert row is not None  # noqa: S101  the function returns exactly one row
        return None if row["verdict"] == "stale" else [MessageId(i) for i in row["reply_ids"]]

    async def enqueue(
        self,
        chat_id: ChatId,
        outgoing: Outgoing,
        now: datetime,
        *,
        epoch: int | None = None,
        answers: Sequence[MessageId] = (),
        connection: Connection | None = None,
    ) -> MessageId:
        """Record a message of ours and queue it, in one commit. With an epoch it is fenced by it.

        Raises LookupError when there is no such chat, ValueError when there is nothing to say.
        """
        if outgoing.is_blank:
            raise ValueError("an empty message is not sent")
        arguments = (
            self._tenant_id, chat_id, now, epoch, False, list(answers), outgoing.type, outgoing.text,
            outgoing.media_url, dict(outgoing.metadata) or None,
        )  # fmt: skip
        try:
            return MessageId(await (connection or self._database).fetchval(ENQUEUE, *arguments))
        except asyncpg.NoDataFoundError as exc:
            raise LookupError(f"there is no chat {chat_id}") from exc

    async def chat_at(self, jid: Jid) -> ChatId | None:
        """The chat that has this address; None for somebody who has never written."""
        chat_id: ChatId | None = await self._database.fetchval(
            CHAT_AT, self._tenant_id, self._account.account_id, self._account.channel, jid
        )
        return chat_id

    async def may_speak(self, connection: Connection, chat_id: ChatId, epoch: int) -> bool:
        """Whether the chat still has this epoch and the bot may speak there; so until the transaction ends."""
        return bool(await connection.fetchval(MAY_SPEAK, self._tenant_id, chat_id, epoch))

    async def epoch(self, chat_id: ChatId) -> int:
        """The chat's epoch now. Raises LookupError when there is no such chat."""
        epoch: int | None = await self._database.fetchval(EPOCH, self._tenant_id, chat_id)
        if epoch is None:
            raise LookupError(f"there is no chat {chat_id}")
        return epoch

    async def due_chats(self, now: datetime) -> list[ChatId]:
        """Chats with something to send, whoever queued it."""
        rows = await self._database.fetch(DUE_CHATS, self._tenant_id, self._account.account_id, now)
        return [ChatId(r["chat_id"]) for r in rows]

    async def next_due(self, chat_id: ChatId, now: datetime) -> Due | None:
        """The chat's oldest queued message, if its time has come; a later one never overtakes it."""
        row = await self._database.fetchrow(NEXT_DUE, self._tenant_id, self._account.account_id, chat_id)
        return None if row is None or row["due_at"] > now else _due(row)

    async def claim(self, due: Due, now: datetime, oldest: datetime) -> Claim:
        """Take a queued message for sending; one queued before `oldest` is cancelled instead."""
        return Claim(
            await self._database.fetchval(CLAIM, self._tenant_id, due.chat_id, due.id, now, LEASE, oldest)
        )

    async def withdraw(self, connection: Connection, chat_id: ChatId, ids: Sequence[MessageId]) -> None:
        """Cancel replies that nobody has claimed, as part of the caller's transaction. Raises NotQueued."""
        with _translated():
            await connection.execute(WITHDRAW, self._tenant_id, chat_id, list(ids))

    async def mark_sent(self, due: Due, external_id: ExternalId, at: datetime, *, overlapped: bool) -> Status:
        """The platform has it; receipts that came before this are applied at once."""
        return Status(
            await self._database.fetchval(
                MARK_SENT, self._tenant_id, due.chat_id, due.id, external_id, at, overlapped
            )
        )

    async def settle(
        self, due: Due, status: Status, error: str, at: datetime, *, overlapped: bool = False
    ) -> None:
        """Close a claimed message as failed, cancelled or unknown; or queue it again, for `at`."""
        await self._database.execute(
            SETTLE, self._tenant_id, due.chat_id, due.id, status, error, at, overlapped
        )

    async def abandon(self, before: datetime) -> list[tuple[ChatId, MessageId]]:
        """What was being sent, under a lease that ended by `before`: it may have gone out, so it is unknown."""
        rows = await self._database.fetch(ABANDONED, self._tenant_id, self._account.account_id, before)
        return [(ChatId(r["chat_id"]), MessageId(r["id"])) for r in rows]

    async def receive(self, receipt: Receipt, now: datetime) -> list[StatusChange]:
        """Apply a receipt; one about a message that is not known yet is kept. Raises BadReceipt."""
        try:
            # All of it or nothing: what a first, cut-off try had changed would not be told by the second.
            async with self._database.transaction() as connection:
                return [
                    change
                    for external_id in receipt.external_ids
                    for change in await self._receive(connection, receipt, external_id, now)
                ]
        except REFUSED as exc:
            raise BadReceipt(f"{type(exc).__name__}: {exc}") from exc

    async def _receive(
        self, connection: Connection, receipt: Receipt, external_id: ExternalId, now: datetime
    ) -> list[StatusChange]:
        rows = await connection.fetch(
            RECEIVE_RECEIPT, self._tenant_id, self._account.account_id, self._account.channel,
            receipt.chat.jid, receipt.chat.alt, external_id, receipt.status, receipt.at, now,
        )  # fmt: skip
        return [
            StatusChange(
                chat_id=ChatId(r["chat_id"]),
                id=MessageId(r["id"]),
                external_id=external_id,
                status=Status(r["status"]),
            )
            for r in rows
        ]

    async def forget_receipts(self, before: datetime) -> int:
        """Drop early receipts that nothing has claimed; returns how many."""
        return int((await self._database.execute(FORGET_RECEIPTS, self._tenant_id, before)).split()[-1])


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except asyncpg.PostgresError as exc:
        if (refusal := _REFUSALS.get(exc.sqlstate or "")) is not None:
            raise refusal(str(exc)) from exc
        raise


def _due(row: asyncpg.Record) -> Due:
    return Due(
        chat_id=ChatId(row["chat_id"]),
        id=MessageId(row["id"]),
        to=Jid(row["reply_jid"]),
        jids=tuple(Jid(j) for j in row["jids"]),
        outgoing=Outgoing(text=row["text"] or "", type=MessageType(row["type"]), media_url=row["media_url"]),
        answers=tuple(MessageId(i) for i in row["answers"]),
        fenced=row["epoch"] is not None,
        attempts=row["attempts"],
        queued_at=row["queued_at"],
    )
