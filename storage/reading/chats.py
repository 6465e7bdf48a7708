"""Lists of chats: all, newest first, and those in which the bot is silent. Holds the queries, writes nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

import asyncpg

from storage.models import Author, ChatId, ChatSummary, MessageId, MessageType, TenantId
from storage.reading.models import ChatEntry, Page
from storage.reading.rows import below, page_of, wanted
from storage.reading.source import Source
from storage.sessions import SUMMARY, summary_of

# By the day first, which has an index; within a day there is little to sort.
CHAT_LIST = (
    "SELECT x.*, n.text, n.type, n.author, n.sent_at FROM ("  # noqa: S608  constants of ours
    + SUMMARY
    + """
     WHERE c.tenant_id = $1 AND s.tenant_id = $1
       AND s.active_day <= (($2::bigint >> 20) / 86400000) AND s.last_message_id < $2 AND s.last_message_id <> 0
       AND ($3::boolean IS NULL OR c.is_group = $3)
     ORDER BY s.active_day DESC, s.last_message_id DESC LIMIT $4) x
  LEFT JOIN LATERAL (
       SELECT m.text, m.type, m.author, m.sent_at FROM sidestep.messages m
        WHERE m.tenant_id = $1 AND m.chat_id = x.chat_id AND m.deleted_at IS NULL AND NOT sidestep.is_change(m.type)
        ORDER BY m.id DESC LIMIT 1) n ON true
 ORDER BY x.last_message_id DESC
"""
)
PAUSED_AND_DUE = (
    "SELECT * FROM ("  # noqa: S608  constants of ours
    + SUMMARY
    + """ WHERE c.tenant_id = $1 AND s.tenant_id = $1 AND s.is_paused) x
 WHERE $2::timestamptz IS NULL OR x.returns_at <= $2
 ORDER BY x.returns_at NULLS LAST, x.chat_id LIMIT $3
"""
)

CHATS_OF = """
SELECT c.chat_id FROM sidestep.contacts p
  JOIN sidestep.chats c ON c.tenant_id = p.tenant_id AND c.contact_id = p.contact_id AND NOT c.is_group
 WHERE p.tenant_id = $1 AND p.phone = ANY ($2)
"""

_PREVIEW = 100


class ChatReads:
    """The chats of one tenant."""

    def __init__(self, source: Source, tenant_id: TenantId) -> None:
        self._source = source
        self._tenant_id = tenant_id

    async def chat_list(
        self, limit: int = 50, before: MessageId | None = None, *, groups: bool | None = None
    ) -> Page[ChatEntry]:
        """All chats, those with the newest message first; `groups` None: of both kinds."""
        limit = wanted(limit)
        rows = await self._source.fetch(CHAT_LIST, self._tenant_id, below(before), groups, limit)
        return page_of([_entry(row) for row in rows], [MessageId(r["last_message_id"]) for r in rows], limit)

    async def paused_and_due(self, due_by: datetime | None = None, limit: int = 50) -> Sequence[ChatSummary]:
        """Chats in which the bot is silent, the soonest to end first; with `due_by` those that end by then."""
        rows = await self._source.fetch(PAUSED_AND_DUE, self._tenant_id, due_by, wanted(limit))
        return [summary_of(row) for row in rows]

    async def chats_of(self, phones: Collection[str]) -> Sequence[ChatId]:
        """The private chats with these numbers (E.164), as far as there are any."""
        digits = [phone.removeprefix("+") for phone in phones]
        return [ChatId(r["chat_id"]) for r in await self._source.fetch(CHATS_OF, self._tenant_id, digits)]


def _entry(row: asyncpg.Record) -> ChatEntry:
    return ChatEntry(
        chat=summary_of(row),
        last_message_id=MessageId(row["last_message_id"]),
        preview=None if row["text"] is None else row["text"][:_PREVIEW],
        type=MessageType(row["type"]) if row["type"] else None,
        author=Author(row["author"]) if row["author"] else None,
        sent_at=row["sent_at"],
    )
