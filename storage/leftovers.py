"""What an earlier daemon has left in this database, for one that starts on it; reads only."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from storage.database import Database
from storage.models import ExternalId, MessageId

NEWEST_AT = "SELECT max(last_message_at) FROM sidestep.chat_state"
UNANSWERED = """
SELECT m.id, m.external_id FROM sidestep.outbox o
  CROSS JOIN unnest(o.answers) AS answered (id)
  JOIN sidestep.messages m ON m.tenant_id = o.tenant_id AND m.chat_id = o.chat_id AND m.id = answered.id
 WHERE o.due_at IS NOT NULL AND m.external_id IS NOT NULL
"""

IS_KNOWN = "SELECT EXISTS (SELECT FROM sidestep.message_keys WHERE external_id = $1)"


async def newest_at(database: Database) -> datetime | None:
    """When a message was last recorded, by the clock of whoever did it; None before the first."""
    newest: datetime | None = await database.fetchval(NEWEST_AT)
    return newest


async def unanswered(database: Database) -> Mapping[MessageId, ExternalId]:
    """The platform's ids of the messages whose replies are queued and have not left."""
    rows = await database.fetch(UNANSWERED)
    return {MessageId(row["id"]): ExternalId(row["external_id"]) for row in rows}


async def is_known(database: Database, external_id: ExternalId) -> bool:
    """Whether there is a message with this id of the platform's."""
    return bool(await database.fetchval(IS_KNOWN, external_id))
