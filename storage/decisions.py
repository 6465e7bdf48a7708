"""Why the bot did what it did: one event's message, decision and replies, joined. Holds the queries only."""

from __future__ import annotations

import asyncpg

from storage.database import Database
from storage.models import Action, Explanation, OutboxEntry, Status, TenantId
from storage.rows import message_of
from storage.sessions import SessionStore

# A message is meant by the platform's id, by ours, or by either id of a reply to it.
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
       d.event_type, d.action_taken, d.detail, d.decided_at
  FROM meant
  JOIN sidestep.messages m ON m.tenant_id = $1 AND m.chat_id = meant.chat_id AND m.id = meant.id
  JOIN sidestep.chats c ON c.tenant_id = m.tenant_id AND c.chat_id = m.chat_id
  LEFT JOIN sidestep.contacts p ON p.tenant_id = m.tenant_id AND p.contact_id = m.sender_id
  JOIN sidestep.decisions d ON d.tenant_id = m.tenant_id AND d.chat_id = m.chat_id AND d.message_id = m.id
 ORDER BY m.id, d.decided_at, d.event_type LIMIT 20
"""
REPLIES = """
SELECT o.id, o.status, m.text, o.external_id, o.error, o.overlapped, o.inferred, o.queued_at, o.sent_at,
       o.delivered_at, o.read_at
  FROM sidestep.outbox o
  JOIN sidestep.messages m ON m.tenant_id = o.tenant_id AND m.chat_id = o.chat_id AND m.id = o.id
 WHERE o.tenant_id = $1 AND o.chat_id = $2 AND o.id > $3 AND $3 = ANY (o.answers)
 ORDER BY o.id
"""


async def explain(
    database: Database, sessions: SessionStore, tenant_id: TenantId, reference: str
) -> list[Explanation]:
    """Every event that `reference` may mean, oldest first; empty when there is none."""
    ours = int(reference) if reference.isascii() and reference.isdigit() and len(reference) < 19 else None
    rows = await database.fetch(EXPLAIN, tenant_id, reference, ours)
    return [await _explanation(database, sessions, row) for row in rows]


async def _explanation(database: Database, sessions: SessionStore, row: asyncpg.Record) -> Explanation:
    message = message_of(row)
    chat = await sessions.chat(message.chat_id)
    assert chat is not None  # noqa: S101  the message's foreign chat row exists, or the join had found nothing
    replies = await database.fetch(REPLIES, message.tenant_id, message.chat_id, message.id)
    action = row["action_taken"]
    return Explanation(
        message=message,
        chat=chat,
        event_type=row["event_type"],
        action=Action(action) if action else None,
        detail=row["detail"],
        decided_at=row["decided_at"],
        replies=tuple(_entry(r) for r in replies),
    )


def _entry(row: asyncpg.Record) -> OutboxEntry:
    return OutboxEntry(
        id=row["id"],
        status=Status(row["status"]),
        text=row["text"],
        external_id=row["external_id"],
        error=row["error"],
        overlapped=row["overlapped"],
        inferred=row["inferred"],
        queued_at=row["queued_at"],
        sent_at=row["sent_at"],
        delivered_at=row["delivered_at"],
        read_at=row["read_at"],
    )
