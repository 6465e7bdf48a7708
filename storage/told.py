"""What the staff was told in their own chats, and about whom: kept in the metadata of the notice. Holds the queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg

from storage.database import Database
from storage.models import ChatId, ExternalId, Origin, TenantId, TextId, Topic

QUOTED = """
SELECT m.metadata, m.sent_at FROM sidestep.message_keys k
  JOIN sidestep.messages m ON m.tenant_id = k.tenant_id AND m.chat_id = k.chat_id AND m.id = k.id
 WHERE k.tenant_id = $1 AND k.external_id = $3 AND k.chat_id = $2 AND k.from_me AND m.author = 'bot'
"""
ASKED = """
SELECT m.metadata, m.sent_at FROM sidestep.messages m
 WHERE m.tenant_id = $1 AND m.chat_id = $2 AND m.author = 'bot' AND m.id >= sidestep.id_floor($3)
   AND m.metadata ?| '{choices,settles}' ORDER BY m.id DESC LIMIT 1
"""


async def told(
    database: Database, tenant_id: TenantId, chat_id: ChatId, reference: ExternalId
) -> tuple[Topic, datetime] | None:
    """A notice in a chat of the staff's, and when it was told."""
    return _told(await database.fetchrow(QUOTED, tenant_id, chat_id, reference))


async def asked(
    database: Database, tenant_id: TenantId, chat_id: ChatId, since: datetime
) -> tuple[Topic, datetime] | None:
    """The last question there with choices, if it was asked since then and nobody has chosen yet."""
    found = _told(await database.fetchrow(ASKED, tenant_id, chat_id, since))
    return None if found is None or found[0].settles else found


def _told(row: asyncpg.Record | None) -> tuple[Topic, datetime] | None:
    if row is None or (topic := _topic_of(row["metadata"] or {})) is None:
        return None
    return topic, row["sent_at"]


def _topic_of(kept: Mapping[str, Any]) -> Topic | None:
    # Programs and SQL may keep what they like with what they send.
    if kept.get("origin") != Origin.COMMAND:
        return None
    about, text, choices = kept.get("about"), kept.get("asked"), kept.get("choices")
    text_id = kept.get("automatic")
    return Topic(
        about=ChatId(about) if isinstance(about, int) else None,
        text_id=TextId(text_id) if isinstance(text_id, int) else None,
        text=text if isinstance(text, str) else None,
        choices=tuple(ChatId(c) for c in choices if isinstance(c, int))
        if isinstance(choices, Sequence)
        else (),
        settles=kept.get("settles") is True,
    )
