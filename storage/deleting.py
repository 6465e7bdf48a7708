"""Deleting single messages: softly, so that nobody reads them, or for good; the platform is told nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from storage.database import Database
from storage.models import ChatId, MessageId, TenantId

SOFT_DELETE = "SELECT sidestep.delete_message($1, $2, $3, $4)"
# Under the chat's lock, so that nothing is decided or queued for it meanwhile.
HARD_DELETE = """
WITH held AS MATERIALIZED (
    SELECT s.chat_id FROM sidestep.chat_state s
     WHERE s.tenant_id = $1 AND s.chat_id = sidestep.hold_chat($1, $2) FOR NO KEY UPDATE)
SELECT sidestep.erase_messages($1, held.chat_id, ARRAY[$3::bigint], false) AS went FROM held
"""


class Deleting:
    """The messages of one tenant."""

    def __init__(self, database: Database, tenant_id: TenantId) -> None:
        self._database = database
        self._tenant_id = tenant_id

    async def soft(self, chat_id: ChatId, message_id: MessageId, now: datetime) -> bool:
        """Keep its row, and let nobody read it: no list, no search, no model. It is neither answered nor sent any more.

        False: there is none, or it was deleted before.
        """
        return bool(await self._database.fetchval(SOFT_DELETE, self._tenant_id, chat_id, message_id, now))

    async def hard(self, chat_id: ChatId, message_id: MessageId) -> Mapping[str, int]:
        """Delete it with all that hangs on it, for good; returns how many rows of which table.

        Its key stays, so that it is not taken for new when it comes again. A file goes within a minute.
        """
        went = await self._database.fetchval(HARD_DELETE, self._tenant_id, chat_id, message_id)
        return went or {}
