"""Why the bot did what it did: one event's message, decision and replies, joined. Holds the queries only."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from storage.database import Database
from storage.models import (
    Action,
    Author,
    Change,
    Explanation,
    MessageId,
    MessageType,
    OutboxEntry,
    Quarantined,
    Status,
    TenantId,
)
from storage.rows import message_of, printable
from storage.sessions import SessionStore

# A message is meant by the platform's id, by ours, or by either id of a reply to it. The inner LIMITs, so that it
# and its decisions are looked up by their keys: PostgreSQL 15 would read those of the whole chat.
EXPLAIN = """
WITH meant AS (
    SELECT k.chat_id, k.id FROM sidestep.message_keys k WHERE k.tenant_id = $1 AND k.external_id = $2
    UNION
    SELECT m.chat_id, m.id FROM sidestep.messages m WHERE m.tenant_id = $1 AND m.id = $3
    UNION
    SELECT o.chat_id, a.id FROM sidestep.message_keys k
      JOIN sidestep.outbox o ON o.tenant_id = k.tenant_id AND o.chat_id = k.chat_id AND o.id = k.id,
           unnest(o.answers) a (id)
     WHERE k.tenant_id = $1 AND k.external_id = $2 AND k.from_me
    UNION
    SELECT o.chat_id, a.id FROM sidestep.messages m
      JOIN sidestep.outbox o ON o.tenant_id = m.tenant_id AND o.chat_id = m.chat_id AND o.id = m.id,
           unnest(o.answers) a (id)
     WHERE m.tenant_id = $1 AND m.id = $3)
SELECT m.tenant_id, c.account_id, m.chat_id, c.jid AS chat_jid, p.jid, p.lid, m.id, m.thread_id,
       m.direction, m.author, m.type, m.external_id, m.text,
       m.media_url, m.is_group, m.addressed, m.reply_to, m.command, m.metadata, m.sent_at,
       m.edited_at, m.deleted_at, m.sender_device, coalesce(d.event_type, 'message') AS event_type, d.action_taken,
       d.detail, d.decided_at
  FROM meant
  CROSS JOIN LATERAL (
       SELECT * FROM sidestep.messages n
        WHERE n.tenant_id = $1 AND n.chat_id = meant.chat_id AND n.id = meant.id LIMIT 1) m
  JOIN sidestep.chats c ON c.tenant_id = m.tenant_id AND c.chat_id = m.chat_id
  LEFT JOIN sidestep.contacts p ON p.tenant_id = m.tenant_id AND p.contact_id = m.sender_id
  LEFT JOIN LATERAL (
       SELECT * FROM sidestep.decisions e
        WHERE e.tenant_id = m.tenant_id AND e.chat_id = m.chat_id AND e.message_id = m.id LIMIT 20) d ON true
  LEFT JOIN LATERAL (
       SELECT * FROM sidestep.outbox u WHERE u.tenant_id = m.tenant_id AND u.chat_id = m.chat_id AND u.id = m.id LIMIT 1
       ) o ON true
 WHERE d.message_id IS NOT NULL OR o.answers = '{}' -- a reply's story is that of what it answers
 ORDER BY m.id, d.event_type <> 'message', d.decided_at, d.event_type LIMIT 20
"""
REPLIES = """
SELECT o.id, m.type, o.status, m.text, o.external_id, o.error, o.overlapped, o.inferred, o.waited, o.queued_at,
       o.sent_at, o.delivered_at, o.read_at
  FROM sidestep.outbox o
  JOIN sidestep.messages m ON m.tenant_id = o.tenant_id AND m.chat_id = o.chat_id AND m.id = o.id
 WHERE o.tenant_id = $1 AND o.chat_id = $2 AND o.id >= $3 AND ($3 = ANY (o.answers) OR o.id = $3)
 ORDER BY o.id
"""
# What changes a message is a message itself, and has more to tell than what it has left behind.
CHANGES = """
WITH meant AS (
    SELECT v.id, v.version_id AS change_id FROM sidestep.message_versions v
     WHERE v.tenant_id = $1 AND v.chat_id = $2 AND v.id = ANY ($3) AND v.version_id <> v.id
    UNION ALL
    SELECT m.id, m.deleted_by FROM sidestep.messages m
     WHERE m.tenant_id = $1 AND m.chat_id = $2 AND m.id = ANY ($3) AND m.deleted_by IS NOT NULL
    UNION ALL
    SELECT r.id, r.reaction_id FROM sidestep.reactions r
     WHERE r.tenant_id = $1 AND r.chat_id = $2 AND r.id = ANY ($3) AND r.emoji IS NOT NULL)
SELECT meant.id, c.type, c.author, c.text, c.sent_at
  FROM meant JOIN sidestep.messages c ON c.tenant_id = $1 AND c.chat_id = $2 AND c.id = meant.change_id
 ORDER BY c.sent_at, c.id
"""

QUARANTINED = """
SELECT external_id, error, received_at FROM sidestep.quarantine
 WHERE tenant_id = $1 AND external_id = $2 ORDER BY quarantine_id LIMIT 20
"""


async def explain(
    database: Database, sessions: SessionStore, tenant_id: TenantId, reference: str
) -> list[Explanation]:
    """Every event that `reference` may mean, oldest first; empty when there is none."""
    ours = int(reference) if reference.isascii() and reference.isdigit() and len(reference) < 19 else None
    rows = await database.fetch(EXPLAIN, tenant_id, reference, ours)
    return [await _explanation(database, sessions, row) for row in rows]


async def in_quarantine(database: Database, tenant_id: TenantId, reference: str) -> list[Quarantined]:
    """Every message of this id of the platform's that could not be recorded, oldest first."""
    return [Quarantined(**row) for row in await database.fetch(QUARANTINED, tenant_id, printable(reference))]


async def _explanation(database: Database, sessions: SessionStore, row: asyncpg.Record) -> Explanation:
    message = message_of(row)
    chat = await sessions.chat(message.chat_id)
    assert chat is not None  # noqa: S101  the message's foreign chat row exists, or the join had found nothing
    replies = await database.fetch(REPLIES, message.tenant_id, message.chat_id, message.id)
    ids = [message.id, *(r["id"] for r in replies)]
    changes = [_change(r) for r in await database.fetch(CHANGES, message.tenant_id, message.chat_id, ids)]
    action = row["action_taken"]
    return Explanation(
        message=message,
        chat=chat,
        event_type=row["event_type"],
        action=Action(action) if action else None,
        detail=row["detail"],
        decided_at=row["decided_at"],
        replies=tuple(_entry(r, changes) for r in replies),
        changes=tuple(c for c in changes if c.message_id == message.id),
    )


def _change(row: asyncpg.Record) -> Change:
    return Change(
        message_id=MessageId(row["id"]),
        type=MessageType(row["type"]),
        author=Author(row["author"]),
        text=row["text"],
        at=row["sent_at"],
    )


def _entry(row: asyncpg.Record, changes: Sequence[Change]) -> OutboxEntry:
    return OutboxEntry(
        id=row["id"],
        type=MessageType(row["type"]),
        status=Status(row["status"]),
        text=row["text"],
        external_id=row["external_id"],
        error=row["error"],
        overlapped=row["overlapped"],
        waited=row["waited"],
        inferred=row["inferred"],
        queued_at=row["queued_at"],
        sent_at=row["sent_at"],
        delivered_at=row["delivered_at"],
        read_at=row["read_at"],
        changes=tuple(c for c in changes if c.message_id == row["id"]),
    )
