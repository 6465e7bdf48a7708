"""The outbox's tables: what goes out, and what became of it. Holds the queries; bot.outbox holds the loop."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import asyncpg

from storage import queued
from storage.batch import Batch, NotInCompany
from storage.database import Connection, Database
from storage.errors import StorageError
from storage.lease import FencedOut, Lease
from storage.messages import REFUSED
from storage.models import (
    MEDIA,
    Account,
    AccountId,
    ChatId,
    Claim,
    Decision,
    Due,
    ExternalId,
    Jid,
    Message,
    MessageId,
    MessageType,
    Origin,
    Outgoing,
    Receipt,
    Status,
    StatusChange,
    TenantId,
)
from storage.rows import decision_columns

_KINDS = {"image": MessageType.IMAGE, "video": MessageType.VIDEO, "audio": MessageType.AUDIO}

LEASE = timedelta(seconds=150)
"""How long a claimed row may stay unsettled: twice the 75 s after which WhatsApp gives up on an acknowledgement."""

ANSWER = """
SELECT turn, verdict, reply_ids
  FROM sidestep.answer($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
"""
SPEAK = "SELECT sidestep.speak($1, $2, $3, $4, $5, $6, $7)"
DISMISS = "SELECT sidestep.leave_unanswered($1, $2, $3, $4, $5, $6, $7, $8)"
ENQUEUE = "SELECT sidestep.enqueue($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
CHAT_AT = """
SELECT chat_id FROM sidestep.chat_aliases WHERE tenant_id = $1 AND account_id = $2 AND channel = $3 AND jid = $4
"""
EPOCH = "SELECT epoch FROM sidestep.chat_state WHERE tenant_id = $1 AND chat_id = sidestep.chat_now($1, $2)"
MAY_SPEAK = "SELECT sidestep.may_speak($1, $2, $3)"
CLAIM = "SELECT nth, claim FROM sidestep.claim($1, $2, $3, $4, $5, $6, $7, $8)"
MARK_SENT = "SELECT nth, status, has_moved FROM sidestep.mark_all_sent($1, $2, $3, $4, $5, $6)"
RECEIVE = """
SELECT nth, chat_id, id, external_id, status
  FROM sidestep.receive_receipts($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""
# Once, however often the send is tried.
NOTE_MEDIUM = """
INSERT INTO sidestep.media (tenant_id, account_id, chat_id, message_id, type, status, url, created_at)
SELECT m.tenant_id, $4, m.chat_id, m.id, $5, 'stored', m.media_url, $6 FROM sidestep.messages m
 WHERE m.tenant_id = $1 AND m.chat_id = sidestep.chat_now($1, $2) AND m.id = $3 AND m.media_url IS NOT NULL
ON CONFLICT DO NOTHING
"""
TAKE_BACK = "SELECT sidestep.take_back($1, $2, $3, $4, $5)"
TAKEN_BACK = "SELECT sidestep.taken_back($1, $2, $3, $4)"
NOTE_WAIT = """
UPDATE sidestep.outbox SET waited = $4
 WHERE tenant_id = $1 AND chat_id = sidestep.chat_now($1, $2) AND id = $3 AND status = 'queued'
"""
LINKED_AT = "SELECT paired_at FROM sidestep.accounts WHERE tenant_id = $1 AND account_id = $2"
# What may have left counts; what a person wrote, or what took a message back, does not.
PAST_SENDS = """
SELECT coalesce(o.sent_at, o.queued_at) AS left_at, ARRAY(
           SELECT a.jid FROM sidestep.chat_aliases a WHERE a.tenant_id = m.tenant_id AND a.chat_id = m.chat_id) AS jids
  FROM sidestep.messages m JOIN sidestep.outbox o ON o.tenant_id = m.tenant_id AND o.chat_id = m.chat_id AND o.id = m.id
 WHERE m.tenant_id = $1 AND m.id >= sidestep.id_floor($3) AND m.author = 'bot' AND m.type <> 'revoke'
   AND o.account_id = $2 AND o.status IN ('sent', 'delivered', 'read', 'unknown')
"""
WITHDRAW = "SELECT sidestep.withdraw($1, $2, $3)"
SEND_AGAIN = "SELECT sidestep.send_again($1, $2, $3, $4)"
DROP_FAILED = "SELECT sidestep.drop_failed($1, $2, $3)"
GIVE_UP = "SELECT sidestep.give_up($1, $2, $3, $4, $5, $6)"
SETTLE = "SELECT sidestep.settle($1, $2, $3, $4, $5, $6, $7, $8, $9)"
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


_REFUSALS: Mapping[str, type[StorageError]] = {
    "SS002": AlreadyDecided,
    "SS003": NotQueued,
    "SS004": FencedOut,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    chat_id: ChatId
    epoch: int | None
    decisions: Sequence[Decision]
    answers: Sequence[MessageId]
    replies: Sequence[Outgoing]
    withdraws: Sequence[MessageId]
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    chat_id: ChatId
    id: MessageId
    now: datetime
    oldest: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    chat_id: ChatId
    id: MessageId
    external_id: ExternalId
    at: datetime
    overlapped: bool


class OutboxStore:
    """The outbox of one account. What many chats ask for at once goes to PostgreSQL in one call.

    Without the account's lease messages can be queued, and receipts taken in: nothing is decided or claimed. Whoever
    tries, or has lost it, gets FencedOut.
    """

    def __init__(self, database: Database, account: Account, lease: Lease | None = None) -> None:
        self._database = database
        self._account = account
        self._lease = lease or Lease(account)
        self._tenant_id = account.tenant_id
        self._turns = Batch(self._answer_all, lambda turn: turn.chat_id)
        self._heads = Batch(self._heads_of)
        self._claims = Batch(self._claim_all, lambda wanted: wanted.chat_id)
        self._sends = Batch(self._mark_all_sent, lambda taken: taken.chat_id)
        self._receipts = Batch(self._receive_all, lambda told: told[0].chat.jid)

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
        and nothing was decided or queued. Raises AlreadyDecided, NotQueued and FencedOut.
        """
        turn = _Turn(
            chat_id=chat_id, epoch=epoch, decisions=decisions, answers=answers, replies=replies,
            withdraws=withdraws, now=now,
        )  # fmt: skip
        if connection is None:
            return await self._turns.ask(turn)
        [row] = await self._answer(connection, [turn])
        return _reply_ids(row)

    async def _answer_all(self, turns: Sequence[_Turn]) -> list[list[MessageId] | NotInCompany | None]:
        rows = {r["turn"]: r for r in await self._answer(self._database, turns)}
        return [_reply_ids(rows[n]) if n in rows else NotInCompany() for n in range(1, len(turns) + 1)]

    async def _answer(self, at: Database | Connection, turns: Sequence[_Turn]) -> list[asyncpg.Record]:
        decided = [(n, d) for n, turn in enumerate(turns, start=1) for d in turn.decisions]
        said = [(n, r) for n, turn in enumerate(turns, start=1) for r in turn.replies]
        withdrawn = [(n, i) for n, turn in enumerate(turns, start=1) for i in turn.withdraws]
        with _translated():
            return await at.fetch(
                ANSWER, *self._fence, [t.chat_id for t in turns], [t.now for t in turns],
                [t.epoch for t in turns], ["{" + ",".join(map(str, t.answers)) + "}" for t in turns],
                [n for n, _ in decided], *decision_columns([d for _, d in decided]),
                [n for n, _ in said], [r.type for _, r in said], [r.text for _, r in said],
                [r.media_url for _, r in said], [dict(r.metadata) or None for _, r in said],
                [r.fenced for _, r in said], [n for n, _ in withdrawn], [i for _, i in withdrawn],
            )  # fmt: skip

    async def dismiss(self, chat_id: ChatId, decisions: Sequence[Decision], now: datetime) -> list[Decision]:
        """Close what is still open without an answer; returns what this call has closed. Raises FencedOut."""
        with _translated():
            closed = await self._database.fetchval(
                DISMISS, *self._fence, chat_id, now, *decision_columns(decisions)
            )
        return [decision for decision in decisions if decision.message_id in closed]

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

    async def speak(self, chat_id: ChatId, outgoing: Outgoing, now: datetime) -> MessageId:
        """A person speaks through us: recorded and queued, and the chat taken over, in one commit.

        Raises LookupError when there is no such chat, ValueError when there is nothing to say.
        """
        if outgoing.is_blank:
            raise ValueError("an empty message is not sent")
        metadata = {**outgoing.metadata, "origin": Origin.CONSOLE}
        try:
            spoken = await self._database.fetchval(
                SPEAK,
                self._tenant_id,
                chat_id,
                now,
                outgoing.type,
                outgoing.text,
                outgoing.media_url,
                metadata,
            )
        except asyncpg.NoDataFoundError as exc:
            raise LookupError(f"there is no chat {chat_id}") from exc
        return MessageId(spoken)

    async def take_back(self, connection: Connection, message: Message, now: datetime) -> MessageId:
        """Queue the revoke of a message that was written on one of the account's own devices."""
        arguments = (self._tenant_id, message.chat_id, now, message.id, message.external_id)
        return MessageId(await connection.fetchval(TAKE_BACK, *arguments))

    async def note_taken_back(self, due: Due, at: datetime) -> None:
        """The platform has taken a revoke: what it is about reads as deleted from now on."""
        await self._database.execute(TAKEN_BACK, self._tenant_id, due.chat_id, due.id, at)

    async def note_wait(self, due: Due, waited: str) -> None:
        """A message of ours waits for its turn."""
        await self._database.execute(NOTE_WAIT, self._tenant_id, due.chat_id, due.id, waited)

    async def linked_at(self) -> datetime | None:
        """When a phone last linked the number."""
        at: datetime | None = await self._database.fetchval(
            LINKED_AT, self._tenant_id, self._account.account_id
        )
        return at

    async def past_sends(self, since: datetime) -> list[tuple[datetime, Sequence[Jid]]]:
        """When each message of the bot's left since then, or may have, and all addresses of its chat."""
        rows = await self._database.fetch(PAST_SENDS, self._tenant_id, self._account.account_id, since)
        return [(row["left_at"], row["jids"]) for row in rows]

    async def note_medium(self, due: Due, now: datetime) -> None:
        """A message of ours goes out with a medium that others keep: it stays there, and is known by its address."""
        kind = due.outgoing.type
        if kind not in MEDIA:
            guessed, _ = mimetypes.guess_type(urlsplit(due.outgoing.media_url or "").path)
            kind = _KINDS.get((guessed or "").partition("/")[0], MessageType.DOCUMENT)
        await self._database.execute(
            NOTE_MEDIUM, self._tenant_id, due.chat_id, due.id, self._account.account_id, kind, now
        )

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
        rows = await self._database.fetch(queued.CHATS, self._tenant_id, self._account.account_id, now)
        return [ChatId(r["chat_id"]) for r in rows]

    async def next_due(self, chat_id: ChatId, now: datetime) -> Due | None:
        """The chat's oldest queued message, if its time has come; a later one never overtakes it."""
        row = await self._heads.ask(chat_id)
        return None if row is None or row["due_at"] > now else queued.read(row)

    async def this_due(self, chat_id: ChatId, message_id: MessageId) -> Due | None:
        """One queued message, whatever its chat has queued before it; None when it is queued no more."""
        row = await self._database.fetchrow(queued.THIS, self._tenant_id, chat_id, message_id)
        return None if row is None else queued.read(row)

    async def _heads_of(self, chat_ids: Sequence[ChatId]) -> list[asyncpg.Record | None]:
        rows = await self._database.fetch(
            queued.NEXT, self._tenant_id, self._account.account_id, list(set(chat_ids))
        )
        heads = {r["chat_id"]: r for r in rows}
        return [heads.get(chat_id) for chat_id in chat_ids]

    async def claim(self, due: Due, now: datetime, oldest: datetime) -> Claim:
        """Take a queued message for sending; one queued before `oldest` is cancelled instead. Raises FencedOut."""
        wanted = _Wanted(chat_id=due.chat_id, id=due.id, now=now, oldest=oldest)
        return await self._claims.ask(wanted)

    async def _claim_all(self, wanted: Sequence[_Wanted]) -> list[Claim | NotInCompany]:
        with _translated():
            rows = await self._database.fetch(
                CLAIM, *self._fence, [w.chat_id for w in wanted], [w.id for w in wanted],
                [w.now for w in wanted], LEASE, [w.oldest for w in wanted],
            )  # fmt: skip
        claims = {r["nth"]: Claim(r["claim"]) for r in rows}
        return [claims.get(n, NotInCompany()) for n in range(1, len(wanted) + 1)]

    async def withdraw(self, connection: Connection, chat_id: ChatId, ids: Sequence[MessageId]) -> None:
        """Cancel replies that nobody has claimed, as part of the caller's transaction. Raises NotQueued."""
        with _translated():
            await connection.execute(WITHDRAW, self._tenant_id, chat_id, list(ids))

    async def mark_sent(
        self, due: Due, external_id: ExternalId, at: datetime, *, overlapped: bool
    ) -> Status | None:
        """The platform has it; receipts that came before this are applied at once.

        None: a receipt had settled it before, and this says nothing new.
        """
        taken = _Taken(chat_id=due.chat_id, id=due.id, external_id=external_id, at=at, overlapped=overlapped)
        return await self._sends.ask(taken)

    async def _mark_all_sent(self, taken: Sequence[_Taken]) -> list[Status | None]:
        rows = await self._database.fetch(
            MARK_SENT, self._tenant_id, [t.chat_id for t in taken], [t.id for t in taken],
            [t.external_id for t in taken], [t.at for t in taken], [t.overlapped for t in taken],
        )  # fmt: skip
        rows = sorted(rows, key=lambda r: r["nth"])
        return [Status(r["status"]) if r["has_moved"] else None for r in rows]

    async def settle(
        self, due: Due, status: Status, error: str, at: datetime, *, overlapped: bool = False
    ) -> None:
        """Close a message as failed, cancelled or unknown; or queue it again, for `at`. Raises FencedOut."""
        with _translated():
            await self._database.execute(
                SETTLE, *self._fence, due.chat_id, due.id, status, error, at, overlapped
            )

    async def send_again(
        self, connection: Connection, chat_id: ChatId, message_id: MessageId, now: datetime
    ) -> None:
        """Queue a failed message once more, as part of the caller's transaction; one that is not failed stays."""
        await connection.execute(SEND_AGAIN, self._tenant_id, chat_id, message_id, now)

    async def drop_failed(self, connection: Connection, chat_id: ChatId, message_id: MessageId) -> None:
        """Give a failed message up, as part of the caller's transaction."""
        await connection.execute(DROP_FAILED, self._tenant_id, chat_id, message_id)

    async def give_up(self, chat_id: ChatId, error: str, at: datetime) -> MessageId | None:
        """The first message in the chat's queue has failed, since nothing can be done with it. Raises FencedOut."""
        with _translated():
            given: MessageId | None = await self._database.fetchval(GIVE_UP, *self._fence, chat_id, error, at)
        return given

    async def abandon(self, before: datetime) -> list[tuple[ChatId, MessageId]]:
        """What was being sent, under a lease that ended by `before`: it may have gone out, so it is unknown."""
        rows = await self._database.fetch(ABANDONED, self._tenant_id, self._account.account_id, before)
        return [(ChatId(r["chat_id"]), MessageId(r["id"])) for r in rows]

    async def receive(self, receipt: Receipt, now: datetime) -> list[StatusChange]:
        """Apply a receipt, all of it or nothing; what it says of messages not known yet is kept. Raises BadReceipt."""
        return await self._receipts.ask((receipt, now))

    async def _receive_all(self, told: Sequence[tuple[Receipt, datetime]]) -> list[list[StatusChange]]:
        each = [(n, r, i, now) for n, (r, now) in enumerate(told) for i in r.external_ids]
        try:
            rows = await self._database.fetch(
                RECEIVE, self._tenant_id, self._account.account_id, self._account.channel,
                [n for n, *_ in each], [r.chat.jid for _, r, *_ in each], [r.chat.alt for _, r, *_ in each],
                [i for *_, i, _ in each], [r.status for _, r, *_ in each], [r.at for _, r, *_ in each],
                [now for *_, now in each],
            )  # fmt: skip
        except REFUSED as exc:
            raise BadReceipt(f"{type(exc).__name__}: {exc}") from exc
        changes: list[list[StatusChange]] = [[] for _ in told]
        for row in rows:
            changes[row["nth"]].append(_change(row))
        return changes

    @property
    def _fence(self) -> tuple[TenantId, AccountId, int]:
        """What each act of a holder begins with."""
        return self._tenant_id, self._account.account_id, self._lease.fence

    async def forget_receipts(self, before: datetime) -> int:
        """Drop early receipts that nothing has claimed; returns how many."""
        return int((await self._database.execute(FORGET_RECEIPTS, self._tenant_id, before)).split()[-1])


def _reply_ids(row: asyncpg.Record) -> list[MessageId] | None:
    return None if row["verdict"] == "stale" else [MessageId(i) for i in row["reply_ids"]]


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except asyncpg.PostgresError as exc:
        if (refusal := _REFUSALS.get(exc.sqlstate or "")) is not None:
            raise refusal(str(exc)) from exc
        raise


def _change(row: asyncpg.Record) -> StatusChange:
    return StatusChange(
        chat_id=ChatId(row["chat_id"]),
        id=MessageId(row["id"]),
        external_id=ExternalId(row["external_id"]),
        status=Status(row["status"]),
    )
