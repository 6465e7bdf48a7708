"""Reading out all that was said, in the order of the ids, by key: of one person, or of a whole tenant; changes nothing.

What the bot had queued and never said is left out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from storage.database import Database
from storage.models import (
    Author,
    Channel,
    ChatId,
    ContactId,
    ExternalId,
    Jid,
    MessageId,
    MessageType,
    TenantId,
)

_PAGE = 1000

CHATS_WITH = """
SELECT c.chat_id, c.channel, a.name AS account, c.jid, c.is_group, coalesce(c.name, p.push_name) AS name,
       p.jid AS person_jid, p.lid AS person_lid, c.created_at
  FROM sidestep.chats c
  JOIN sidestep.accounts a ON a.tenant_id = c.tenant_id AND a.account_id = c.account_id
  LEFT JOIN sidestep.contacts p ON p.tenant_id = c.tenant_id AND p.contact_id = c.contact_id
 WHERE c.tenant_id = $1 AND c.merged_into IS NULL
   AND ($2::bigint[] IS NULL OR (c.contact_id = ANY ($2) AND NOT c.is_group) OR c.chat_id IN (
        SELECT g.chat_id FROM sidestep.messages g WHERE g.tenant_id = $1 AND g.sender_id = ANY ($2) AND g.is_group))
 ORDER BY c.chat_id
"""
WRITTEN_DOWN = """
SELECT p.name, p.phone, p.username FROM sidestep.people p
 WHERE p.tenant_id = $1 AND ($2::bigint[] IS NULL OR p.person_id IN (
       SELECT c.person_id FROM sidestep.contacts c WHERE c.tenant_id = $1 AND c.contact_id = ANY ($2)))
 ORDER BY p.created_at, p.person_id
"""
# The text as it was first written where the edits of it follow as messages of their own.
SAID_IN = """
SELECT m.id, m.author, m.type, coalesce(m.external_id, o.external_id) AS external_id, m.reply_to, m.metadata,
       coalesce(o.sent_at, m.sent_at) AS sent_at, m.edited_at, m.deleted_at, p.jid, p.lid, p.push_name,
       CASE WHEN v.id IS NOT NULL THEN v.text ELSE m.text END AS text,
       coalesce(m.media_url, (SELECT coalesce(f.moved_url, f.url) FROM sidestep.media_files f
                               WHERE f.tenant_id = m.tenant_id AND f.chat_id = m.chat_id AND f.message_id = m.id
                               ORDER BY f.ordinal LIMIT 1)) AS media_url
  FROM sidestep.messages m
  LEFT JOIN sidestep.outbox o ON o.tenant_id = m.tenant_id AND o.chat_id = m.chat_id AND o.id = m.id
  LEFT JOIN sidestep.contacts p ON p.tenant_id = m.tenant_id AND p.contact_id = m.sender_id
  LEFT JOIN sidestep.message_versions v
    ON v.tenant_id = m.tenant_id AND v.chat_id = m.chat_id AND v.id = m.id AND v.version_id = m.id
 WHERE m.tenant_id = $1 AND m.chat_id = $2 AND m.id > $3 AND ($4::bigint[] IS NULL OR m.sender_id = ANY ($4))
   AND (m.author <> 'bot' OR o.id IS NULL OR o.sent_at IS NOT NULL)
 ORDER BY m.id LIMIT $5
"""
MEDIA_OF = """
SELECT message_id, type, status, mime, size_bytes, name, url, moved_url FROM sidestep.media_files
 WHERE tenant_id = $1 AND chat_id = $2 AND message_id = ANY ($3) ORDER BY message_id, ordinal
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedChat:
    """A chat. `person`: the addresses of whom it is with, none of a group."""

    chat_id: ChatId
    channel: Channel
    account: str
    jid: Jid
    is_group: bool
    name: str | None
    person: tuple[Jid, ...]
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedMessage:
    """A message, or a change of one. `text` is as it was first written where the edits are messages of their own."""

    id: MessageId
    author: Author
    type: MessageType
    external_id: ExternalId | None
    reply_to: ExternalId | None
    text: str | None
    media_url: str | None
    sender: tuple[Jid, ...]
    sender_name: str | None
    sent_at: datetime
    edited_at: datetime | None
    deleted_at: datetime | None
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedPerson:
    """Somebody as another system has written them down."""

    name: str | None
    phone: str | None
    username: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedMedium:
    """A file of a message, and where it lies: at `moved_url` if that is known."""

    message_id: MessageId
    type: MessageType
    status: str
    mime: str | None
    size_bytes: int | None
    name: str | None
    url: str | None
    moved_url: str | None


class Exporting:
    """One tenant's conversations; `of`: those of these people alone, None: of everybody."""

    def __init__(self, database: Database, tenant_id: TenantId, of: Sequence[ContactId] | None) -> None:
        self._database = database
        self._tenant_id = tenant_id
        self._of = None if of is None else list(of)

    async def people(self) -> list[ExportedPerson]:
        """As whom they were written down."""
        rows = await self._database.fetch(WRITTEN_DOWN, self._tenant_id, self._of)
        return [ExportedPerson(**dict(row)) for row in rows]

    async def chats(self) -> list[ExportedChat]:
        """Theirs, and the groups in which they wrote."""
        rows = await self._database.fetch(CHATS_WITH, self._tenant_id, self._of, timeout=3600)
        return [_chat(row) for row in rows]

    async def messages(self, chat: ExportedChat) -> AsyncIterator[list[ExportedMessage]]:
        """All of a chat, some at a time; of a group only what these people wrote."""
        writers, after = (self._of if chat.is_group else None), -(2**63)
        while rows := await self._database.fetch(
            SAID_IN, self._tenant_id, chat.chat_id, after, writers, _PAGE
        ):
            yield [_message(row) for row in rows]
            after = rows[-1]["id"]

    async def media(self, chat: ExportedChat, messages: Sequence[ExportedMessage]) -> list[ExportedMedium]:
        rows = await self._database.fetch(
            MEDIA_OF, self._tenant_id, chat.chat_id, [message.id for message in messages]
        )
        return [ExportedMedium(**{**row, "type": MessageType(row["type"])}) for row in map(dict, rows)]


def _chat(row: asyncpg.Record) -> ExportedChat:
    return ExportedChat(
        chat_id=ChatId(row["chat_id"]),
        channel=Channel(row["channel"]),
        account=row["account"],
        jid=Jid(row["jid"]),
        is_group=row["is_group"],
        name=row["name"],
        person=_addresses(row["person_jid"], row["person_lid"]),
        created_at=row["created_at"],
    )


def _message(row: asyncpg.Record) -> ExportedMessage:
    return ExportedMessage(
        id=MessageId(row["id"]),
        author=Author(row["author"]),
        type=MessageType(row["type"]),
        external_id=row["external_id"],
        reply_to=row["reply_to"],
        text=row["text"],
        media_url=row["media_url"],
        sender=_addresses(row["jid"], row["lid"]),
        sender_name=row["push_name"],
        sent_at=row["sent_at"],
        edited_at=row["edited_at"],
        deleted_at=row["deleted_at"],
        metadata=row["metadata"] or {},
    )


def _addresses(*jids: str | None) -> tuple[Jid, ...]:
    return tuple(Jid(jid) for jid in jids if jid)
