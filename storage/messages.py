"""Messages as they are recorded and read back: the inbox's table family. Holds the queries, no loop and no decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import asyncpg

from storage.database import Database
from storage.errors import StorageError, StoreUnavailable
from storage.models import (
    Account,
    AccountId,
    Address,
    Arrival,
    ChatId,
    Decision,
    InboundMessage,
    Merge,
    Message,
    MessageId,
    Recorded,
    TenantId,
)
from storage.rows import arrival_columns, decision_columns, event_json, message_of, printable, recorded_of

REFUSED = (asyncpg.PostgresError, asyncpg.InterfaceError, UnicodeError, ValueError, OverflowError)
"""What a batch's own content can raise; failures of the server are StoreUnavailable by then."""

_MONTHS_AHEAD = timedelta(days=62)
_IDENTITIES_KEPT = 50_000
_LOOKS = 5


class BadArrival(StorageError):
    """Something in a batch that PostgreSQL will never take; nothing of the batch was recorded."""


@dataclass(frozen=True, slots=True)
class _Party:
    """A chat, or a group's sender, as an event names it."""

    account_id: AccountId
    address: Address
    name: str | None
    kind: Literal["person", "group", "sender"]


ENSURE_MONTHS = "SELECT sidestep.ensure_months($1, $2)"
IDENTIFY_CHAT = "SELECT chat_id, gone_chat_id FROM sidestep.identify_chat($1, $2, $3, $4, $5, $6, $7, $8)"
IDENTIFY_SENDER = "SELECT chat_id, gone_chat_id FROM sidestep.identify_sender($1, $2, $3, $4, $5, $6, $7)"
RECORD = """
SELECT ordinal, is_new, id, chat_id, thread_id, action_taken
  FROM sidestep.record($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
"""
QUARANTINE = """
INSERT INTO sidestep.quarantine (tenant_id, account_id, external_id, event, error, received_at)
VALUES ($1, $2, $3, $4, $5, $6)
"""
_COLUMNS = """
m.tenant_id, c.account_id, m.chat_id, c.jid AS chat_jid, m.id, m.thread_id, m.direction, m.author, m.type,
m.external_id, m.text, m.media_url, m.is_group, m.addressed, m.reply_to, m.command, m.metadata, m.sent_at, p.jid, p.lid
"""
UNDECIDED = (
    "SELECT"
    + _COLUMNS
    + """
  FROM sidestep.decisions d
  JOIN sidestep.messages m ON m.tenant_id = d.tenant_id AND m.chat_id = d.chat_id AND m.id = d.message_id
  JOIN sidestep.chats c ON c.tenant_id = d.tenant_id AND c.chat_id = d.chat_id
  LEFT JOIN sidestep.contacts p ON p.tenant_id = m.tenant_id AND p.contact_id = m.sender_id
 WHERE d.tenant_id = $1 AND c.account_id = $2 AND d.action_taken IS NULL
 ORDER BY m.id
"""
)
# The read begins at the newest message and ends at the thread's first. The CASE hides from the planner what it would
# take for selective: from there on nearly every message is of the thread, so that to stop at the limit is all it needs.
HISTORY = (
    "SELECT"  # noqa: S608  constants of ours
    + _COLUMNS
    + """
  FROM sidestep.messages m
  JOIN sidestep.chats c ON c.tenant_id = m.tenant_id AND c.chat_id = m.chat_id
  LEFT JOIN sidestep.outbox o ON o.tenant_id = m.tenant_id AND o.chat_id = m.chat_id AND o.id = m.id
  LEFT JOIN sidestep.contacts p ON p.tenant_id = m.tenant_id AND p.contact_id = m.sender_id
 WHERE m.tenant_id = $1 AND m.chat_id = $2 AND m.command IS NULL
   AND m.id >= (SELECT sidestep.id_floor(t.created_at) FROM sidestep.threads t
                 WHERE t.tenant_id = $1 AND t.chat_id = $2 AND t.status = 'active')
   AND CASE WHEN m.thread_id = (SELECT s.active_thread_id FROM sidestep.chat_state s
                                 WHERE s.tenant_id = $1 AND s.chat_id = $2) THEN true ELSE false END
   AND (o.status IS NULL OR o.status NOT IN ('cancelled', 'failed'))
 ORDER BY m.id DESC LIMIT $3
"""
)
STILL_OPEN = """
SELECT message_id FROM sidestep.decisions
 WHERE tenant_id = $1 AND chat_id = sidestep.chat_now($1, $2) AND message_id = ANY ($3)
   AND event_type = 'message' AND action_taken IS NULL
"""
DECIDE = "SELECT sidestep.decide($1, $2, $3, $4, $5, $6)"


class MessageStore:
    """Messages of all accounts. Remembers which identities it has resolved; everything else is in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._identified: set[_Party] = set()
        self._merges: list[Merge] = []
        self._months: tuple[datetime, datetime] | None = None

    async def record(
        self, account: Account, arrivals: Sequence[Arrival], now: datetime
    ) -> tuple[list[Recorded], list[Merge]]:
        """Record a batch in one commit; results stand in the order of `arrivals`.

        With them come the merges that this store has caused since the last batch. Raises StoreUnavailable
        when nothing was recorded and the same call may succeed later, and BadArrival when the batch
        holds something that PostgreSQL will never take.
        """
        try:
            await self.ensure_months(now)
            rows = await self._record(account, arrivals, now)
        except REFUSED as exc:
            raise BadArrival(f"{type(exc).__name__}: {exc}") from exc
        merges, self._merges = self._merges, []
        return [recorded_of(account, arrivals[row["ordinal"] - 1], row, now) for row in rows], merges

    async def _record(
        self, account: Account, arrivals: Sequence[Arrival], now: datetime
    ) -> list[asyncpg.Record]:
        columns = arrival_columns(arrivals, now)
        for _ in range(_LOOKS):
            await self._identify(account, arrivals, now)
            try:
                return await self._database.fetch(
                    RECORD, account.tenant_id, account.account_id, account.channel, now, *columns
                )
            except asyncpg.PostgresError as exc:
                if exc.sqlstate != "SS001":
                    raise
                # Another session has merged or erased one of the chats since we looked: look again.
                self._identified.clear()
        raise StoreUnavailable(
            "a chat changed under each attempt to record its messages; the call can be repeated"
        )

    async def quarantine(self, account: Account, event: InboundMessage, error: str, now: datetime) -> None:
        """Keep an event whole that cannot be recorded."""
        await self._database.execute(
            QUARANTINE, account.tenant_id, account.account_id, printable(event.external_id),
            event_json(event), printable(error), now,
        )  # fmt: skip

    async def ensure_months(self, now: datetime) -> None:
        """Make the months that `now` and the weeks after it need; asks PostgreSQL once in a while only."""
        if self._months is None or not self._months[0] < now < self._months[1] - _MONTHS_AHEAD / 2:
            span = (now - timedelta(days=1), now + _MONTHS_AHEAD)
            await self._database.execute(ENSURE_MONTHS, *span)
            self._months = span

    async def undecided(self, account: Account) -> list[Message]:
        """What was recorded and not decided, oldest first: what a killed daemon left behind."""
        rows = await self._database.fetch(UNDECIDED, account.tenant_id, account.account_id)
        return [message_of(row) for row in rows]

    async def history(self, tenant_id: TenantId, chat_id: ChatId, limit: int) -> list[Message]:
        """The newest messages of the active thread, oldest first; commands and what was never said are left out."""
        rows = await self._database.fetch(HISTORY, tenant_id, chat_id, limit)
        return [message_of(row) for row in reversed(rows)]

    async def decide(
        self, tenant_id: TenantId, chat_id: ChatId, decisions: Sequence[Decision], now: datetime
    ) -> list[Decision]:
        """Close open decisions; returns those that this call has closed, the others were closed before."""
        closed = await self._database.fetchval(DECIDE, tenant_id, chat_id, now, *decision_columns(decisions))
        return [d for d in decisions if d.message_id in closed]

    async def still_open(
        self, tenant_id: TenantId, chat_id: ChatId, ids: Sequence[MessageId]
    ) -> set[MessageId]:
        """Which of these are undecided."""
        rows = await self._database.fetch(STILL_OPEN, tenant_id, chat_id, list(ids))
        return {MessageId(r["message_id"]) for r in rows}

    async def identify(
        self,
        account: Account,
        address: Address,
        now: datetime,
        *,
        name: str | None = None,
        is_group: bool = False,
    ) -> ChatId:
        """The one chat behind an address, made, completed or merged as needed; `record` tells of a merge."""
        row = await self._database.fetchrow(
            IDENTIFY_CHAT, account.tenant_id, account.account_id, account.channel,
            address.jid, address.alt, is_group, name, now,
        )  # fmt: skip
        assert row is not None  # noqa: S101  the function returns exactly one row
        self._merges += _merges([row])
        return ChatId(row["chat_id"])

    async def _identify(self, account: Account, arrivals: Sequence[Arrival], now: datetime) -> None:
        """Make sure that every address of the batch leads to its chat and contact; rare once they are known."""
        parties = dict.fromkeys(p for a in arrivals for p in _parties(account, a.event))
        for party in parties:
            if party in self._identified:
                continue
            if party.kind == "sender":
                rows = await self._database.fetch(
                    IDENTIFY_SENDER, account.tenant_id, account.account_id, account.channel,
                    party.address.jid, party.address.alt, party.name, now,
                )  # fmt: skip
                self._merges += _merges(rows)
            else:
                is_group = party.kind == "group"
                await self.identify(account, party.address, now, name=party.name, is_group=is_group)
            if len(self._identified) >= _IDENTITIES_KEPT:
                self._identified.clear()
            self._identified.add(party)


def _parties(account: Account, event: InboundMessage) -> list[_Party]:
    # The push name of an event from our own side is the owner's, not the customer's.
    name = None if event.from_me else event.push_name
    if not event.is_group:
        return [_Party(account.account_id, event.chat, name, "person")]
    parties = [_Party(account.account_id, event.chat, None, "group")]
    if not event.from_me:
        parties.append(_Party(account.account_id, event.sender, name, "sender"))
    return parties


def _merges(rows: Sequence[asyncpg.Record]) -> list[Merge]:
    return [
        Merge(keep=ChatId(row["chat_id"]), gone=ChatId(row["gone_chat_id"]))
        for row in rows
        if row["gone_chat_id"] is not None
    ]
