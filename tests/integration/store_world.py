"""A tenant with its stores over real PostgreSQL, and short words for what people write; it proves nothing itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import asyncpg

from storage.database import Database
from storage.lease import Lease
from storage.messages import MessageStore
from storage.models import (
    Account,
    Action,
    Address,
    Arrival,
    Author,
    ChatId,
    Due,
    ExternalId,
    InboundMessage,
    Jid,
    Message,
    MessageId,
    MessageType,
    Outgoing,
    PauseReason,
    Receipt,
    Recorded,
    Session,
    Status,
    Tenant,
    TenantId,
)
from storage.outbox import OutboxStore
from storage.sessions import SessionStore
from storage.tenants import TenantStore

NOW = datetime(2026, 3, 10, 14, 0, tzinfo=UTC)
LONG_AGO = datetime(2009, 1, 1, tzinfo=UTC)
AFTER = timedelta(hours=2)
"""The owner's silence that ends a takeover here."""

OWNER = Address(jid=Jid("5511999990000@s.whatsapp.net"))
ANA = Address(jid=Jid("5511988880001@s.whatsapp.net"))
ANA_LID = Address(jid=Jid("100000000000001@lid"))
ANA_BOTH = Address(jid=ANA_LID.jid, alt=ANA.jid)
BEN = Address(jid=Jid("5511988880002@s.whatsapp.net"))
TEAM = Address(jid=Jid("120363000000000001@g.us"))

SHOP = Tenant(
    tenant_id=TenantId(0),
    instance_name="shop",
    owner="+5511999990000",
    admins=("+5511999990001",),
    auto_resume_after=AFTER,
)


def said(
    external_id: str,
    text: str | None = "hello",
    *,
    by: Address = ANA,
    group: Address | None = None,
    at: datetime = NOW,
    **changes: Any,
) -> Arrival:
    """A customer writes, alone or in a group."""
    event = InboundMessage(
        external_id=ExternalId(external_id),
        chat=group or by,
        sender=by,
        sent_at=at,
        text=text,
        is_group=group is not None,
    )
    return Arrival(event=replace(event, **changes), author=Author.CUSTOMER)


def typed(
    external_id: str, text: str = "I am here", *, to: Address = ANA, at: datetime = NOW, **changes: Any
) -> Arrival:
    """The owner writes to a customer from the phone."""
    event = InboundMessage(
        external_id=ExternalId(external_id), chat=to, sender=OWNER, sent_at=at, text=text, from_me=True
    )
    return Arrival(event=replace(event, **changes), author=Author.HUMAN, takes_over=True)


def receipt(external_id: str, status: Status, *, chat: Address = ANA, at: datetime = NOW) -> Receipt:
    return Receipt(chat=chat, external_ids=(ExternalId(external_id),), status=status, at=at)


TAKE_LEASE = """
INSERT INTO sidestep.leases AS l (tenant_id, account_id, fence, holder, expires_at)
VALUES ($1, $2, 1, 'a test', 'infinity') ON CONFLICT (tenant_id, account_id) DO UPDATE SET fence = l.fence + 1
RETURNING fence
"""


async def leased(db: Database, account: Account) -> Lease:
    """The account's lease, taken from whoever had it, and never lost by time."""
    return Lease(account, await db.fetchval(TAKE_LEASE, account.tenant_id, account.account_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One tenant with one account, and every store that its path uses."""

    db: Database
    tenant: Tenant
    account: Account
    tenants: TenantStore
    messages: MessageStore
    sessions: SessionStore
    outbox: OutboxStore
    lease: Lease

    @classmethod
    async def open(cls, db: Database, tenant: Tenant = SHOP) -> Self:
        tenants = TenantStore(db)
        made, _ = await tenants.seed(tenant, NOW)
        account = (await tenants.accounts(made.tenant_id))[0]
        lease = await leased(db, account)
        return cls(
            db=db,
            tenant=made,
            account=account,
            tenants=tenants,
            messages=MessageStore(db),
            sessions=SessionStore(db, made),
            outbox=OutboxStore(db, account, lease),
            lease=lease,
        )

    async def record(self, *arrivals: Arrival, now: datetime = NOW) -> list[Recorded]:
        recorded, _ = await self.messages.record(self.account, arrivals, now)
        return recorded

    async def record_past(self, *arrivals: Arrival, now: datetime = NOW) -> int:
        """Record what was said before; how many of it were new."""
        past = [replace(a, event=replace(a.event, is_history=True), takes_over=False) for a in arrivals]
        new, _ = await self.messages.record_past(self.account, past, now)
        return new

    async def meet(self, address: Address = ANA, *, now: datetime = NOW) -> ChatId:
        """The chat with somebody, made if they are new."""
        return await self.messages.identify(self.account, address, now)

    async def session(self, chat_id: ChatId) -> Session:
        chat = await self.sessions.chat(chat_id)
        assert chat is not None
        return chat.session

    async def pause(
        self,
        chat_id: ChatId,
        reason: PauseReason = PauseReason.MANUAL_PAUSE,
        *,
        now: datetime = NOW,
        until: datetime | None = None,
    ) -> None:
        async with self.db.transaction() as connection:
            await self.sessions.pause(connection, chat_id, reason, now, until)

    async def resume(self, chat_id: ChatId, asked: Message, *, now: datetime = NOW) -> None:
        async with self.db.transaction() as connection:
            await self.sessions.resume(connection, chat_id, asked.id, asked.sent_at, now)

    async def set_global_pause(self, paused: bool, *, now: datetime = NOW) -> None:
        async with self.db.transaction() as connection:
            await self.sessions.set_global_pause(connection, paused, now)

    async def queue(
        self, chat_id: ChatId, text: str = "from 10 to 50", *, fenced: bool = True, now: datetime = NOW
    ) -> MessageId:
        """Queue a message of ours, fenced by the chat's epoch of now unless told otherwise."""
        epoch = await self.outbox.epoch(chat_id) if fenced else None
        return await self.outbox.enqueue(chat_id, Outgoing(text=text, fenced=fenced), now, epoch=epoch)

    async def withdraw(self, chat_id: ChatId, *ids: MessageId) -> None:
        async with self.db.transaction() as connection:
            await self.outbox.withdraw(connection, chat_id, ids)

    async def due(self, chat_id: ChatId, *, now: datetime = NOW) -> Due:
        due = await self.outbox.next_due(chat_id, now)
        assert due is not None
        return due

    async def row(self, message_id: MessageId) -> asyncpg.Record:
        """The outbox's row of a message of ours."""
        row = await self.db.fetchrow("SELECT * FROM sidestep.outbox WHERE id = $1", message_id)
        assert row is not None
        return row

    async def status(self, message_id: MessageId) -> Status:
        return Status((await self.row(message_id))["status"])

    async def action(self, message_id: MessageId) -> Action | None:
        """What was decided about a message; None while it is open."""
        rows = await self.db.fetch(
            "SELECT action_taken FROM sidestep.decisions WHERE message_id = $1 AND event_type = 'message'",
            message_id,
        )
        assert len(rows) == 1
        return Action(rows[0]["action_taken"]) if rows[0]["action_taken"] else None

    async def count(self, table: str) -> int:
        return int(await self.db.fetchval(f"SELECT count(*) FROM sidestep.{table}"))  # noqa: S608  our own words

    async def texts(self) -> list[str | None]:
        """What is recorded of all chats, in the order of the ids."""
        return [r["text"] for r in await self.db.fetch("SELECT text FROM sidestep.messages ORDER BY id")]


def ids(recorded: Sequence[Recorded]) -> list[MessageId]:
    return [r.message.id for r in recorded]


def of_type(message_type: MessageType, external_id: str, **changes: Any) -> Arrival:
    return said(external_id, None, type=message_type, **changes)
