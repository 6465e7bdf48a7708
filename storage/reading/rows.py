"""Entries from rows: the columns that every list of messages selects, and what they become; runs no query."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from storage.models import MessageId, Status
from storage.reading.models import Entry, Page, T
from storage.rows import message_of

COLUMNS = """
m.tenant_id, c.account_id, m.chat_id, c.jid AS chat_jid, m.id, m.thread_id, m.direction, m.author, m.type,
coalesce(m.external_id, o.external_id) AS external_id, m.text, m.media_url, m.is_group, m.addressed, m.reply_to,
m.command, m.metadata, m.sent_at, m.edited_at, m.deleted_at, m.sender_device, p.jid, p.lid,
p.push_name AS sender_name,
coalesce(w.push_name, c.name) AS chat_name, w.phone AS chat_phone,
o.status, o.error, o.delivered_at, o.read_at, o.failed_at
"""
# Behind `m`, a message: its chat, whom it is with, who wrote, and what became of it if it is ours. The LIMITs, so that
# the planner looks each up by its key, and the messages stay in their order: a page ends with its last line, and not
# with the last of a long chat.
AROUND = """
  CROSS JOIN LATERAL (
       SELECT * FROM sidestep.chats h WHERE h.tenant_id = m.tenant_id AND h.chat_id = m.chat_id LIMIT 1) c
  LEFT JOIN LATERAL (
       SELECT * FROM sidestep.contacts u WHERE u.tenant_id = c.tenant_id AND u.contact_id = c.contact_id LIMIT 1
       ) w ON true
  LEFT JOIN LATERAL (
       SELECT * FROM sidestep.contacts u WHERE u.tenant_id = m.tenant_id AND u.contact_id = m.sender_id LIMIT 1
       ) p ON true
  LEFT JOIN LATERAL (
       SELECT * FROM sidestep.outbox u WHERE u.tenant_id = m.tenant_id AND u.chat_id = m.chat_id AND u.id = m.id LIMIT 1
       ) o ON true
"""
# Said, and neither taken back nor a change of something else. The CASE hides from the planner that it knows nothing of
# what will become of a message: taking it for most selective, it would read all there is for the sake of one page.
SAID = (
    " AND m.deleted_at IS NULL AND NOT sidestep.is_change(m.type)"
    " AND CASE WHEN o.status = 'cancelled' THEN false ELSE true END"
)

MOST = 500
"""No page is longer: who needs more turns it."""


def wanted(limit: int) -> int:
    """How many rows a page of this length may have. Raises ValueError for none."""
    if limit < 1:
        raise ValueError(f"a page needs at least one line, not {limit}")
    return min(limit, MOST)


def below(before: MessageId | None) -> MessageId:
    """The end of a page that goes back in time; None: from the newest on."""
    return MessageId(2**63 - 1) if before is None else before


def above(after: MessageId | None) -> MessageId:
    """The end of a page that goes on in time; None: from the oldest on."""
    return MessageId(-(2**63)) if after is None else after


def entry_of(row: asyncpg.Record) -> Entry:
    return Entry(
        message=message_of(row),
        sender_name=row["sender_name"],
        chat_name=row["chat_name"],
        chat_phone=row["chat_phone"],
        status=Status(row["status"]) if row["status"] else None,
        error=row["error"],
        delivered_at=row["delivered_at"],
        read_at=row["read_at"],
        failed_at=row["failed_at"],
    )


def page_of(items: Sequence[T], ids: Sequence[MessageId], limit: int) -> Page[T]:
    """A page of what was found; one that is full may be followed by another."""
    return Page(items=tuple(items), next=ids[-1] if len(ids) == limit else None)


def entries(rows: Sequence[asyncpg.Record], limit: int) -> Page[Entry]:
    return page_of([entry_of(row) for row in rows], [MessageId(row["id"]) for row in rows], limit)
