"""What is due in the outbox, as its loop reads it: the queued row with all that a send needs to know. Queries only."""

from __future__ import annotations

import asyncpg

from storage.models import ChatId, Due, ExternalId, Jid, MessageId, MessageType, Outgoing, Quoted

CHATS = """
SELECT DISTINCT chat_id FROM sidestep.outbox
 WHERE tenant_id = $1 AND account_id = $2 AND due_at <= $3 AND status = 'queued'
"""
_DUE = """
       o.chat_id, o.id, o.epoch, o.attempts, o.answers, o.queued_at, o.due_at, m.text, m.type, m.media_url, m.metadata,
       m.reply_to, coalesce(s.reply_jid, c.jid) AS reply_jid,
       ARRAY(SELECT a.jid FROM sidestep.chat_aliases a
              WHERE a.tenant_id = o.tenant_id AND a.chat_id = o.chat_id) AS jids,
       NOT EXISTS (
           SELECT FROM sidestep.messages h
            WHERE h.tenant_id = o.tenant_id AND h.chat_id = o.chat_id AND h.author = 'customer'
       ) AS is_first_contact,
       q.external_id AS quoted_id, q.text AS quoted_text, coalesce(p.lid, p.jid) AS quoted_sender,
       NOT EXISTS (
           SELECT FROM sidestep.outbox l
            WHERE l.tenant_id = o.tenant_id AND l.chat_id = o.chat_id AND l.id > o.id
              AND l.status = 'queued' AND l.sent_at IS NULL
       ) AS is_last
"""
_AROUND_DUE = """
  JOIN sidestep.messages m ON m.tenant_id = o.tenant_id AND m.chat_id = o.chat_id AND m.id = o.id
  JOIN sidestep.chats c ON c.tenant_id = o.tenant_id AND c.chat_id = o.chat_id
  JOIN sidestep.chat_state s ON s.tenant_id = o.tenant_id AND s.chat_id = o.chat_id
  LEFT JOIN sidestep.messages q ON c.is_group AND q.tenant_id = o.tenant_id AND q.chat_id = o.chat_id
        AND q.id = o.answers[cardinality(o.answers)] AND q.deleted_at IS NULL
  LEFT JOIN sidestep.contacts p ON p.tenant_id = q.tenant_id AND p.contact_id = q.sender_id
"""
NEXT = (
    "SELECT"  # noqa: S608  constants of ours
    + _DUE
    + """
  FROM unnest($3::bigint[]) w (chat_id)
 CROSS JOIN LATERAL (
      SELECT u.* FROM sidestep.outbox u
       WHERE u.tenant_id = $1 AND u.account_id = $2 AND u.chat_id = w.chat_id
         AND u.status = 'queued' AND u.sent_at IS NULL
       ORDER BY u.id LIMIT 1) o
"""
    + _AROUND_DUE
)
THIS = (
    "SELECT"  # noqa: S608  constants of ours
    + _DUE
    + """
  FROM (SELECT u.* FROM sidestep.outbox u
         WHERE u.tenant_id = $1 AND u.chat_id = sidestep.chat_now($1, $2) AND u.id = $3 AND u.status = 'queued') o
"""
    + _AROUND_DUE
)


def read(row: asyncpg.Record) -> Due:
    """A row of NEXT or THIS."""
    return Due(
        chat_id=ChatId(row["chat_id"]),
        id=MessageId(row["id"]),
        to=Jid(row["reply_jid"]),
        jids=tuple(Jid(j) for j in row["jids"]),
        outgoing=Outgoing(
            text=row["text"] or "",
            type=MessageType(row["type"]),
            media_url=row["media_url"],
            metadata=row["metadata"] or {},
            revokes=row["reply_to"] if row["type"] == MessageType.REVOKE else None,
        ),
        answers=tuple(MessageId(i) for i in row["answers"]),
        fenced=row["epoch"] is not None,
        attempts=row["attempts"],
        queued_at=row["queued_at"],
        is_first_contact=row["is_first_contact"],
        quoted=_quoted(row),
        is_last=row["is_last"],
    )


def _quoted(row: asyncpg.Record) -> Quoted | None:
    if row["quoted_id"] is None or row["quoted_sender"] is None:
        return None
    return Quoted(
        external_id=ExternalId(row["quoted_id"]),
        sender=Jid(row["quoted_sender"]),
        text=row["quoted_text"] or "",
    )
