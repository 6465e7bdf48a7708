"""Lists of messages: conversations, galleries, failures, a person's, replies. Holds the queries, writes nothing.

Edits show in their messages. Left out are what was deleted, what is no message of its own (edits, revokes and
reactions), and what the bot had queued and never said.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from storage.models import CHANGES, ChatId, ContactId, ExternalId, MessageId, TenantId, ThreadId
from storage.reading.models import Entry, Medium, Page
from storage.reading.rows import (
    AROUND,
    COLUMNS,
    SAID,
    above,
    below,
    entries,
    entry_of,
    page_of,
    wanted,
)
from storage.reading.source import Source

# Not one that the bot had queued and never said.
_NOT_CANCELLED = """
           AND (n.author <> 'bot' OR coalesce((
                SELECT s.status FROM sidestep.outbox s
                 WHERE s.tenant_id = n.tenant_id AND s.chat_id = n.chat_id AND s.id = n.id), '') <> 'cancelled')
"""
# The page first, and what stands around its messages then: else a plan that does not know the chat yet, and takes it
# for a small one, reads all of it and sorts.
HISTORY = (
    "SELECT"  # noqa: S608  constants of ours
    + COLUMNS
    + """
  FROM (SELECT * FROM sidestep.messages n
         WHERE n.tenant_id = $1 AND n.chat_id = (SELECT sidestep.chat_now($1, $2)) AND n.id < $3
           AND n.id >= coalesce(sidestep.id_floor($4), '-9223372036854775808'::bigint)
           AND n.id < coalesce(sidestep.id_floor($5), 9223372036854775807)
           AND NOT sidestep.is_change(n.type) AND (n.deleted_at IS NULL OR $7)
"""
    + _NOT_CANCELLED
    + "         ORDER BY n.id DESC LIMIT $6) m"
    + AROUND
    + " ORDER BY m.id DESC"
)
# From its beginning on: a thread that has ended long ago lies deep in a chat. The CASE, because from there on nearly
# every message is of the thread, which the planner would not believe.
THREAD = (
    "SELECT"  # noqa: S608  constants of ours
    + COLUMNS
    + """
  FROM sidestep.threads t
  CROSS JOIN LATERAL (
       SELECT * FROM sidestep.messages n
        WHERE n.tenant_id = t.tenant_id AND n.chat_id = t.chat_id
          AND n.id > $3 AND n.id >= sidestep.id_floor(t.created_at)
          AND CASE WHEN n.thread_id = $2 THEN true ELSE false END
          AND NOT sidestep.is_change(n.type) AND n.deleted_at IS NULL
"""
    + _NOT_CANCELLED
    + "        ORDER BY n.id LIMIT $4) m"
    + AROUND
    + " WHERE t.tenant_id = $1 AND t.thread_id = $2 ORDER BY m.id"
)
RECENT = (
    "SELECT"  # noqa: S608  constants of ours
    + COLUMNS
    + """
  FROM (SELECT * FROM sidestep.messages n
         WHERE n.tenant_id = $1 AND n.id < $2 AND NOT sidestep.is_change(n.type) AND n.deleted_at IS NULL
"""
    + _NOT_CANCELLED
    + "         ORDER BY n.id DESC LIMIT $3) m"
    + AROUND
    + " ORDER BY m.id DESC"
)
MEDIA = (
    "SELECT"  # noqa: S608  constants of ours
    + COLUMNS
    + """
     , coalesce(f.moved_url, f.url, m.media_url) AS url, f.thumbnail_url, f.name, f.mime, f.size_bytes
  FROM (SELECT * FROM sidestep.messages n
         WHERE n.tenant_id = $1 AND n.chat_id = (SELECT sidestep.chat_now($1, $2)) AND n.id < $3
           AND n.deleted_at IS NULL
           AND (n.media_url IS NOT NULL OR n.type IN ('image', 'video', 'audio', 'document', 'sticker'))
         ORDER BY n.id DESC LIMIT $4) m
"""
    + AROUND
    + """
  LEFT JOIN LATERAL (
       SELECT * FROM sidestep.media_files g
        WHERE g.tenant_id = m.tenant_id AND g.chat_id = m.chat_id AND g.message_id = m.id
        ORDER BY g.ordinal LIMIT 1) f ON true
 ORDER BY m.id DESC
"""
)
FAILED = (
    "SELECT"  # noqa: S608  constants of ours
    + COLUMNS
    + """
  FROM (SELECT * FROM sidestep.outbox n
         WHERE n.tenant_id = $1 AND n.failed_at IS NOT NULL AND n.status = 'failed' AND n.id < $3
           AND ($2::bigint IS NULL OR n.chat_id = (SELECT sidestep.chat_now($1, $2)))
         ORDER BY n.id DESC LIMIT $4) o
  JOIN sidestep.messages m ON m.tenant_id = o.tenant_id AND m.chat_id = o.chat_id AND m.id = o.id
  JOIN sidestep.chats c ON c.tenant_id = m.tenant_id AND c.chat_id = m.chat_id
  LEFT JOIN sidestep.contacts w ON w.tenant_id = c.tenant_id AND w.contact_id = c.contact_id
  LEFT JOIN sidestep.contacts p ON p.tenant_id = m.tenant_id AND p.contact_id = m.sender_id
 ORDER BY m.id DESC
"""
)
# What a person wrote alone stands in their own chat, the rest in groups.
BY_CONTACT = (
    "SELECT"  # noqa: S608  constants of ours
    + COLUMNS
    + """
  FROM (SELECT * FROM (
            SELECT n.* FROM sidestep.chats h,
                   LATERAL (SELECT * FROM sidestep.messages q
                             WHERE q.tenant_id = $1 AND q.chat_id = h.chat_id AND q.author = 'customer' AND q.id < $3
                             ORDER BY q.id DESC LIMIT $4) n
             WHERE h.tenant_id = $1 AND h.contact_id = $2 AND NOT h.is_group
             UNION ALL
            (SELECT * FROM sidestep.messages g
              WHERE g.tenant_id = $1 AND g.sender_id = $2 AND g.is_group AND g.id < $3
              ORDER BY g.id DESC LIMIT $4)) theirs
         ORDER BY theirs.id DESC LIMIT $4) m
"""
    + AROUND
    + " ORDER BY m.id DESC"
)
# An answer of ours comes soon after what it answers: it is looked for among the next 500 of ours in the chat.
REPLIES = (
    "WITH meant AS ("  # noqa: S608  constants of ours
    """
    SELECT n.chat_id, n.id, coalesce(n.external_id, s.external_id) AS external_id
      FROM sidestep.messages n
      LEFT JOIN sidestep.outbox s ON s.tenant_id = n.tenant_id AND s.chat_id = n.chat_id AND s.id = n.id
     WHERE n.tenant_id = $1 AND n.id = $2),
found AS (
    SELECT q.chat_id, q.id FROM meant
      JOIN sidestep.messages q ON q.tenant_id = $1 AND q.chat_id = meant.chat_id AND q.reply_to = meant.external_id
    UNION
    SELECT a.chat_id, a.id
      FROM meant, LATERAL (SELECT * FROM sidestep.outbox r
                            WHERE r.tenant_id = $1 AND r.chat_id = meant.chat_id AND r.id > meant.id
                            ORDER BY r.id LIMIT 500) a
     WHERE meant.id = ANY (a.answers))
SELECT"""
    + COLUMNS
    + """
  FROM found JOIN sidestep.messages m ON m.tenant_id = $1 AND m.chat_id = found.chat_id AND m.id = found.id
"""
    + AROUND
    + " WHERE m.id > $3"
    + SAID
    + " ORDER BY m.id LIMIT $4"
)
CONTACT = """
SELECT contact_id FROM sidestep.contacts
 WHERE tenant_id = $1 AND ($2 IN (jid, lid) OR phone = $3) ORDER BY phone IS NULL, contact_id LIMIT 1
"""
EXISTS = """
SELECT id FROM sidestep.message_keys
 WHERE tenant_id = $1 AND external_id = $3 AND chat_id = (SELECT sidestep.chat_now($1, $2)) LIMIT 1
"""


class MessageReads:
    """The messages of one tenant."""

    def __init__(self, source: Source, tenant_id: TenantId) -> None:
        self._source = source
        self._tenant_id = tenant_id

    async def conversation_history(
        self,
        chat_id: ChatId,
        limit: int = 100,
        before: MessageId | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        deleted: bool = False,
    ) -> Page[Entry]:
        """A chat's messages, newest first, by the time of their arrival here; with `deleted` also those taken back."""
        limit = wanted(limit)
        rows = await self._source.fetch(
            HISTORY, self._tenant_id, chat_id, below(before), since, until, limit, deleted
        )
        return entries(rows, limit)

    async def last_messages(self, chat_id: ChatId, number: int = 10) -> Sequence[Entry]:
        """The newest of a chat, oldest first, as one reads them."""
        return (await self.conversation_history(chat_id, number)).items[::-1]

    async def thread_messages(
        self, thread_id: ThreadId, limit: int = 100, after: MessageId | None = None
    ) -> Page[Entry]:
        """One thread from its beginning, oldest first; `next` is to be handed back as `after`."""
        limit = wanted(limit)
        rows = await self._source.fetch(THREAD, self._tenant_id, thread_id, above(after), limit)
        return entries(rows, limit)

    async def recent_activity(self, limit: int = 50, before: MessageId | None = None) -> Page[Entry]:
        """The newest messages of all chats."""
        limit = wanted(limit)
        rows = await self._source.fetch(RECENT, self._tenant_id, below(before), limit)
        return entries(rows, limit)

    async def media_messages(
        self, chat_id: ChatId, limit: int = 50, before: MessageId | None = None
    ) -> Page[Medium]:
        """A chat's gallery: what came or went with a file, wherever that lies by now."""
        limit = wanted(limit)
        rows = await self._source.fetch(MEDIA, self._tenant_id, chat_id, below(before), limit)
        found = [
            Medium(
                entry=entry_of(row),
                url=row["url"],
                thumbnail_url=row["thumbnail_url"],
                name=row["name"],
                mime=row["mime"],
                size_bytes=row["size_bytes"],
            )
            for row in rows
            if row["status"] != "cancelled"
        ]
        return page_of(found, [MessageId(row["id"]) for row in rows], limit)

    async def failed_messages(
        self, chat_id: ChatId | None = None, limit: int = 50, before: MessageId | None = None
    ) -> Page[Entry]:
        """What the bot could not send, with the reason; of all chats, or of one."""
        limit = wanted(limit)
        rows = await self._source.fetch(FAILED, self._tenant_id, chat_id, below(before), limit)
        return entries(rows, limit)

    async def user_messages(
        self, contact_id: ContactId, limit: int = 50, before: MessageId | None = None
    ) -> Page[Entry]:
        """What one person wrote, in their own chat and in groups."""
        limit = wanted(limit)
        rows = await self._source.fetch(BY_CONTACT, self._tenant_id, contact_id, below(before), limit)
        kept = [row for row in rows if row["deleted_at"] is None and row["type"] not in CHANGES]
        return page_of([entry_of(r) for r in kept], [MessageId(r["id"]) for r in rows], limit)

    async def find_user(self, reference: str) -> ContactId | None:
        """Who has this address (a phone's or a LID) or this number, in any format with its country code."""
        digits = "".join(sign for sign in reference if sign.isdigit())
        rows = await self._source.fetch(CONTACT, self._tenant_id, reference, digits)
        return ContactId(rows[0]["contact_id"]) if rows else None

    async def replies_to(
        self, message_id: MessageId, limit: int = 50, after: MessageId | None = None
    ) -> Page[Entry]:
        """What quotes a message, and what the bot answered to it, oldest first; `next` is the next `after`."""
        limit = wanted(limit)
        rows = await self._source.fetch(REPLIES, self._tenant_id, message_id, above(after), limit)
        return entries(rows, limit)

    async def exists(self, chat_id: ChatId, external_id: ExternalId) -> MessageId | None:
        """Our id of a message that has ever been recorded, also if it has been archived or deleted since."""
        rows = await self._source.fetch(EXISTS, self._tenant_id, chat_id, external_id)
        return MessageId(rows[0]["id"]) if rows else None
