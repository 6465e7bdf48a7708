"""Automatic texts: what a phone says by itself in its owner's name, and what the owner has said of it. Queries only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from storage.database import Connection, Database
from storage.models import Account, AutomaticText, Jid, Message, TenantId, TextId

_LISTED = 50
_KEPT = timedelta(days=90)

LOOKS_AUTOMATIC = "SELECT sidestep.looks_automatic($1, $2, $3, $4, $5, $6, $7)"
NOTE = "SELECT sidestep.note_automatic($1, $2, $3, $4, $5, $6, $7)"
SETTLE = "SELECT sidestep.settle_automatic($1, $2, $3, $4)"
LIST = """
SELECT text_id, text, is_automatic FROM sidestep.automatic_texts
 WHERE tenant_id = $1 AND asked_at IS NOT NULL ORDER BY text_id LIMIT $2
"""
KNOWN = "SELECT digest FROM sidestep.automatic_texts WHERE tenant_id = $1 AND is_automatic"
# The ids begin with the time.
FORGET_SIGHTINGS = """
DELETE FROM sidestep.automatic_sightings WHERE tenant_id = $1 AND message_id < sidestep.id_floor($2)
"""
FORGET = "DELETE FROM sidestep.automatic_texts WHERE tenant_id = $1 AND is_automatic IS NULL AND seen_at < $2"


class AutomaticStore:
    """Of one tenant. `digest` tells two texts apart by their words."""

    def __init__(self, database: Database, tenant_id: TenantId) -> None:
        self._database = database
        self._tenant_id = tenant_id

    async def known(self) -> frozenset[str]:
        """The digests of what the owner has called automatic."""
        return frozenset(r["digest"] for r in await self._database.fetch(KNOWN, self._tenant_id))

    async def looks_automatic(
        self, account: Account, jids: Sequence[Jid], digest: str, at: datetime, *, is_long: bool
    ) -> bool:
        """Whether what came right after a customer's message may be no word of the owner's.

        `is_long`: nobody types it in that time.
        """
        arguments = (self._tenant_id, account.account_id, account.channel, list(jids), digest, at, is_long)
        return bool(await self._database.fetchval(LOOKS_AUTOMATIC, *arguments))

    async def note(
        self, connection: Connection, message: Message, digest: str, *, was_obeyed: bool, now: datetime
    ) -> TextId | None:
        """Such a text has come. Its id, if the owner is to be asked about it now."""
        arguments = (
            self._tenant_id, message.chat_id, message.id, digest, message.text or "", was_obeyed, now,
        )  # fmt: skip
        text_id = await connection.fetchval(NOTE, *arguments)
        return None if text_id is None else TextId(text_id)

    async def settle(
        self, connection: Connection, text_id: TextId, is_automatic: bool, now: datetime
    ) -> None:
        """The owner has said what it is; chats that were treated otherwise are put right."""
        await connection.execute(SETTLE, self._tenant_id, text_id, is_automatic, now)

    async def texts(self) -> list[AutomaticText]:
        """What the owner was asked about, oldest first."""
        rows = await self._database.fetch(LIST, self._tenant_id, _LISTED)
        return [
            AutomaticText(text_id=TextId(r["text_id"]), text=r["text"], is_automatic=r["is_automatic"])
            for r in rows
        ]

    async def forget(self, now: datetime) -> None:
        """What nobody has said anything about, and has not come again for long; and where texts came long ago."""
        await self._database.execute(FORGET, self._tenant_id, now - _KEPT)
        await self._database.execute(FORGET_SIGHTINGS, self._tenant_id, now - _KEPT)
