"""Keeps the files of an archive with the messages that they are attached to; one that cannot be had costs no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from bot.importing.errors import ImportRefused
from bot.importing.items import Item, Tally
from bot.importing.source import Source
from storage.imported import Conversation
from storage.imports import ImportStore
from storage.media import MediaId, MediaStore
from storage.models import MEDIA, Account, ExternalId, TenantId

_CHUNK = 1 << 20


class Keeping(Protocol):
    """Who stores the file of a medium. Raises an error of the place where files lie, and StoreUnavailable."""

    async def keep(
        self, tenant_id: TenantId, media_id: MediaId, data: bytes, now: datetime, *, name: str | None = None
    ) -> object: ...


class Files:
    """`most_bytes`: what is larger is left in the archive."""

    def __init__(
        self,
        keeper: Keeping,
        media: MediaStore,
        store: ImportStore,
        now: Callable[[], datetime],
        *,
        most_bytes: int,
    ) -> None:
        self._keeper = keeper
        self._media = media
        self._store = store
        self._now = now
        self._most_bytes = most_bytes

    async def keep(
        self,
        source: Source,
        account: Account,
        conversation: Conversation,
        recorded: Sequence[tuple[Item, ExternalId]],
        tally: Tally,
    ) -> None:
        """Store what is attached to these messages, which are recorded under these ids, and is not here yet."""
        wanted = {external_id: item for item, external_id in recorded if item.message.event.type in MEDIA}
        for attached in await self._store.attached(account, conversation, list(wanted)):
            item = wanted[attached.external_id]
            if attached.has_file or item.file is None:
                continue
            data = await asyncio.to_thread(self._read, source, item.file)
            if data is None:
                tally.files_left += 1
                continue
            kind, now = item.message.event.type, self._now()
            media_id = await self._media.add(
                account.tenant_id, attached.chat_id, attached.message_id, kind, now
            )
            if media_id is not None:
                await self._keeper.keep(account.tenant_id, media_id, data, now, name=item.file)
                tally.files += 1

    def _read(self, source: Source, name: str) -> bytes | None:
        """The whole file, None where it is too large or cannot be read."""
        if source.files[name].file_size > self._most_bytes:
            return None
        data = bytearray()
        try:
            with source.attachment(name) as stream:
                while chunk := stream.read(_CHUNK):
                    data += chunk
                    if len(data) > self._most_bytes:
                        return None
        except ImportRefused:
            return None
        return bytes(data)
