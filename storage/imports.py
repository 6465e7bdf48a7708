"""What an import reads and writes: it looks up who is meant, and records by the way of the past; it wakes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import asyncpg

from storage.database import Database
from storage.errors import StoreUnavailable
from storage.imported import Attached, Conversation, Nearby, PastMessage
from storage.messages import REFUSED, BadArrival, MessageStore
from storage.models import (
    Account,
    AccountId,
    Arrival,
    Author,
    Channel,
    ChatId,
    ExternalId,
    Jid,
    MessageId,
    MessageType,
    Tenant,
    TenantId,
)
from storage.rows import account_of, message_columns, printable

_LOOKS = 5
_IDENTITIES_KEPT = 50_000
_TOLERANCE = timedelta(minutes=3)

IDENTIFY_CONVERSATION = "SELECT sidestep.identify_conversation($1, $2, $3, $4, $5, $6, $7, $8)"
IDENTIFY_MEMBER = "SELECT chat_id FROM sidestep.identify_sender($1, $2, $3, $4, NULL, NULL, $5)"
RECORD_IMPORT = """
SELECT sidestep.complete_import($1, $2, $3, $4, $5, $8, $21, $22, $23, $24,
       sidestep.record_past($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
                            $18, $19, $20))
"""
PEOPLE_NAMED = """
SELECT coalesce(jid, lid) AS jid FROM sidestep.contacts
 WHERE tenant_id = $1 AND lower(push_name) = lower($2) AND (jid IS NULL OR jid LIKE '%@s.whatsapp.net')
 ORDER BY contact_id LIMIT 2
"""
NAMES_OF = "SELECT push_name FROM sidestep.contacts WHERE tenant_id = $1 AND $2 IN (jid, lid) AND push_name IS NOT NULL"
PHONES_KNOWN = "SELECT phone FROM sidestep.contacts WHERE tenant_id = $1 AND phone = ANY ($2)"
GROUPS_NAMED = """
SELECT jid FROM sidestep.chats
 WHERE tenant_id = $1 AND account_id = $2 AND is_group AND merged_into IS NULL AND lower(name) = lower($3)
 ORDER BY chat_id LIMIT 2
"""
ACCOUNT_OF_CHANNEL = """
SELECT tenant_id, account_id, name, channel, jid, lid, departure IS NOT NULL AS is_departing, moved_to
  FROM sidestep.accounts WHERE tenant_id = $1 AND channel = $2 AND removed_at IS NULL ORDER BY account_id LIMIT 1
"""
ADD_CHANNEL = """
INSERT INTO sidestep.accounts (tenant_id, name, channel, created_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant_id, name) DO NOTHING
"""
# By arrival a message may stand some days after it was written, and what was queued somewhat before it was sent.
NEARBY = """
SELECT m.id, coalesce(m.external_id, o.external_id) AS external_id, m.direction, m.author, m.type, m.text, m.deleted_at,
       coalesce(o.sent_at, m.sent_at) AS at, p.jid, p.lid, p.push_name
  FROM sidestep.chat_aliases a
  JOIN sidestep.messages m ON m.tenant_id = a.tenant_id AND m.chat_id = a.chat_id
  LEFT JOIN sidestep.outbox o ON o.tenant_id = m.tenant_id AND o.chat_id = m.chat_id AND o.id = m.id
  LEFT JOIN sidestep.contacts p ON p.tenant_id = m.tenant_id AND p.contact_id = m.sender_id
 WHERE a.tenant_id = $1 AND a.account_id = $2 AND a.channel = $3 AND a.jid = $4
   AND m.id >= sidestep.id_floor($5::timestamptz - interval '2 days')
   AND m.id < sidestep.id_floor($6::timestamptz + interval '14 days')
   AND coalesce(o.sent_at, m.sent_at) BETWEEN $5 AND $6
   AND m.type NOT IN ('edit', 'revoke', 'reaction', 'system')
   AND coalesce(o.status NOT IN ('cancelled', 'failed'), true)
   AND ($7 OR m.external_id IS NULL OR NOT starts_with(m.external_id, 'import-'))
 ORDER BY m.id
"""
KNOWN = """
SELECT k.external_id FROM sidestep.chat_aliases a
  JOIN sidestep.message_keys k ON k.tenant_id = a.tenant_id AND k.chat_id = a.chat_id
 WHERE a.tenant_id = $1 AND a.account_id = $2 AND a.channel = $3 AND a.jid = $4 AND k.external_id = ANY ($5)
"""
ATTACHED = """
SELECT k.external_id, k.chat_id, k.id, f.sha256 IS NOT NULL AS has_file
  FROM sidestep.chat_aliases a
  JOIN sidestep.message_keys k ON k.tenant_id = a.tenant_id AND k.chat_id = a.chat_id
  JOIN sidestep.messages m ON m.tenant_id = k.tenant_id AND m.chat_id = k.chat_id AND m.id = k.id
  LEFT JOIN sidestep.media f
    ON f.tenant_id = k.tenant_id AND f.chat_id = k.chat_id AND f.message_id = k.id AND f.ordinal = 0
 WHERE a.tenant_id = $1 AND a.account_id = $2 AND a.channel = $3 AND a.jid = $4 AND k.external_id = ANY ($5)
 ORDER BY k.id
"""


class ImportStore:
    """The store as an import uses it. It remembers which conversations and members it has looked up."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._messages = MessageStore(database)
        self._identified: set[tuple[AccountId, Jid]] = set()

    async def record(
        self, account: Account, conversation: Conversation, messages: Sequence[PastMessage], now: datetime
    ) -> int:
        """Record messages of one conversation in one commit; returns how many were new.

        Raises BadArrival when they hold something that PostgreSQL will never take, and StoreUnavailable.
        """
        # Towards record_past the bot is one of our side: the keys are the same.
        arrivals = [
            Arrival(event=m.event, author=Author.HUMAN if m.author is Author.BOT else m.author)
            for m in messages
        ]
        try:
            await self._messages.make_months_of(arrivals, now)
            return await self._record(account, conversation, messages, (
                *message_columns(arrivals, now),
                [m.author is Author.BOT for m in messages],
                [m.media_url for m in messages],
                [m.edited_at for m in messages],
                [m.deleted_at for m in messages],
            ), now)  # fmt: skip
        except REFUSED as exc:
            self._messages = MessageStore(
                self._database
            )  # it knows of months that may have been dropped since
            raise BadArrival(f"{type(exc).__name__}: {exc}") from exc

    async def _record(
        self,
        account: Account,
        conversation: Conversation,
        messages: Sequence[PastMessage],
        columns: tuple[list[object], ...],
        now: datetime,
    ) -> int:
        channel = conversation.channel
        for _ in range(_LOOKS):
            await self._identify(account, conversation, messages, now)
            try:
                return int(
                    await self._database.fetchval(
                        RECORD_IMPORT, account.tenant_id, account.account_id, channel, now, *columns
                    )
                )
            except asyncpg.PostgresError as exc:
                if exc.sqlstate != "SS001":
                    raise
                # Another session has merged or erased the chat since we looked: look again.
                self._identified.clear()
        raise StoreUnavailable(
            "a chat changed under each attempt to record its past; the call can be repeated"
        )

    async def _identify(
        self, account: Account, conversation: Conversation, messages: Sequence[PastMessage], now: datetime
    ) -> None:
        scope = (account.tenant_id, account.account_id, conversation.channel)
        if len(self._identified) > _IDENTITIES_KEPT:
            self._identified.clear()
        if (account.account_id, conversation.jid) not in self._identified:
            await self._database.fetchval(
                IDENTIFY_CONVERSATION, *scope, conversation.jid, conversation.participant, conversation.is_group,
                None if conversation.name is None else printable(conversation.name), now,
            )  # fmt: skip
            self._identified.add((account.account_id, conversation.jid))
        if not conversation.is_group:
            return
        members = {m.event.sender.jid for m in messages if m.author is Author.CUSTOMER}
        for jid in members:
            if (account.account_id, jid) not in self._identified:
                await self._database.execute(IDENTIFY_MEMBER, *scope, jid, now)
                self._identified.add((account.account_id, jid))

    async def name_contacts(self, account: Account, names: dict[Jid, str], now: datetime) -> None:
        """Give contacts a name who have none."""
        await self._messages.name_contacts(account, names, now)

    async def nearby(
        self, account: Account, conversation: Conversation, first: datetime, last: datetime, *, ours: bool
    ) -> list[Nearby]:
        """What is recorded of a conversation from shortly before `first` to shortly after `last`.

        `ours`: also what imports have recorded under ids of their own.
        """
        rows = await self._database.fetch(
            NEARBY, account.tenant_id, account.account_id, conversation.channel, conversation.jid,
            first - _TOLERANCE, last + _TOLERANCE, ours,
        )  # fmt: skip
        return [_nearby(row) for row in rows]

    async def known(
        self, account: Account, conversation: Conversation, ids: Sequence[ExternalId]
    ) -> set[ExternalId]:
        """Which of these ids the conversation has."""
        rows = await self._database.fetch(
            KNOWN, account.tenant_id, account.account_id, conversation.channel, conversation.jid, list(ids)
        )
        return {ExternalId(row["external_id"]) for row in rows}

    async def attached(
        self, account: Account, conversation: Conversation, ids: Sequence[ExternalId]
    ) -> list[Attached]:
        """The messages with these ids, as far as they are recorded."""
        rows = await self._database.fetch(
            ATTACHED, account.tenant_id, account.account_id, conversation.channel, conversation.jid, list(ids)
        )
        return [
            Attached(
                external_id=ExternalId(row["external_id"]),
                chat_id=ChatId(row["chat_id"]),
                message_id=MessageId(row["id"]),
                has_file=row["has_file"],
            )
            for row in rows
        ]

    async def person_named(self, tenant_id: TenantId, name: str) -> Jid | None:
        """The WhatsApp address of the only contact with this name."""
        return _only(await self._database.fetch(PEOPLE_NAMED, tenant_id, name))

    async def name_of(self, tenant_id: TenantId, jid: Jid) -> str | None:
        """What this contact calls themselves, as far as is known."""
        name: str | None = await self._database.fetchval(NAMES_OF, tenant_id, jid)
        return name

    async def known_phone(self, tenant_id: TenantId, phones: Sequence[str]) -> str | None:
        """The first of these numbers, digits only, that a contact has."""
        found = {row["phone"] for row in await self._database.fetch(PHONES_KNOWN, tenant_id, list(phones))}
        return next((phone for phone in phones if phone in found), None)

    async def group_named(self, account: Account, name: str) -> Jid | None:
        """The only group of an account with this subject."""
        return _only(await self._database.fetch(GROUPS_NAMED, account.tenant_id, account.account_id, name))

    async def find_account(self, tenant: Tenant, channel: Channel) -> Account | None:
        """The tenant's first account of a channel."""
        row = await self._database.fetchrow(ACCOUNT_OF_CHANNEL, tenant.tenant_id, channel)
        return None if row is None else account_of(row)

    async def account_of(self, tenant: Tenant, channel: Channel, now: datetime) -> Account:
        """The tenant's first account of a channel, made if there is none: it is recorded for, and never served."""
        for _ in range(2):
            if (account := await self.find_account(tenant, channel)) is not None:
                return account
            name = f"{tenant.instance_name}-{channel}"
            await self._database.execute(ADD_CHANNEL, tenant.tenant_id, name, channel, now)
        raise StoreUnavailable(
            f"the account {tenant.instance_name}-{channel} was removed, and its name is still in use: "
            f"bring it back with sidestep account add {tenant.instance_name}-{channel}"
        )


def _only(rows: Sequence[asyncpg.Record]) -> Jid | None:
    return Jid(rows[0]["jid"]) if len(rows) == 1 else None


def _nearby(row: asyncpg.Record) -> Nearby:
    return Nearby(
        id=MessageId(row["id"]),
        external_id=row["external_id"],
        is_ours=row["direction"] == "outbound",
        author=Author(row["author"]),
        type=MessageType(row["type"]),
        text=row["text"],
        at=row["at"],
        is_deleted=row["deleted_at"] is not None,
        jids=tuple(Jid(jid) for jid in (row["jid"], row["lid"]) if jid),
        name=row["push_name"],
    )
