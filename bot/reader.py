"""What flows may look up, answered from the store; the daemon's side of flows.contract.Reader."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from datetime import datetime
from typing import Self

from storage.automatic import AutomaticStore
from storage.database import Database
from storage.decisions import explain, in_quarantine
from storage.messages import MessageStore
from storage.models import (
    AutomaticText,
    ChatId,
    ChatSummary,
    Explanation,
    ExternalId,
    Message,
    MessageId,
    Quarantined,
    Tenant,
    Topic,
)
from storage.reading.models import Entry, Find, Page, Stats
from storage.reading.reads import Reads
from storage.reading.source import Replica
from storage.sessions import SessionStore
from storage.told import asked, told


class StoreReader:
    """One tenant's chats and messages, read only."""

    def __init__(
        self,
        database: Database,
        messages: MessageStore,
        sessions: SessionStore,
        tenant: Tenant,
        replica: Replica | None = None,
    ) -> None:
        self._database = database
        self._reads = Reads.of(database, tenant.tenant_id, replica)
        self._staff = (tenant.owner, *tenant.admins)
        self._messages = messages
        self._sessions = sessions
        self._tenant_id = tenant.tenant_id
        self._unsaid: frozenset[MessageId] = frozenset()

    def without(self, unsaid: Sequence[MessageId]) -> Self:
        """The same, for a turn that may take the place of these replies: queued, and said to nobody."""
        reader = copy(self)
        reader._unsaid = frozenset(unsaid)
        return reader

    async def history(self, chat_id: ChatId, limit: int) -> Sequence[Message]:
        messages = await self._messages.history(self._tenant_id, chat_id, limit)
        return [m for m in messages if m.id not in self._unsaid]

    async def chat(self, chat_id: ChatId) -> ChatSummary:
        """Raises LookupError when the chat was merged or erased meanwhile."""
        chat = await self._sessions.chat(chat_id)
        if chat is None:
            raise LookupError(f"there is no chat {chat_id}")
        return chat

    async def find_chats(self, query: str, limit: int = 5) -> Sequence[ChatSummary]:
        return await self._sessions.find_chats(query, limit)

    async def paused_chats(self, limit: int = 20) -> Sequence[ChatSummary]:
        return await self._sessions.paused_chats(limit)

    async def global_pause(self) -> bool:
        return await self._sessions.global_pause()

    async def global_since(self) -> datetime | None:
        return await self._sessions.global_since()

    async def automatic_texts(self) -> Sequence[AutomaticText]:
        return await AutomaticStore(self._database, self._tenant_id).texts()

    async def told(self, chat_id: ChatId, reference: ExternalId) -> tuple[Topic, datetime] | None:
        return await told(self._database, self._tenant_id, chat_id, reference)

    async def asked(self, chat_id: ChatId, since: datetime) -> tuple[Topic, datetime] | None:
        return await asked(self._database, self._tenant_id, chat_id, since)

    async def explain(self, reference: str) -> Sequence[Explanation]:
        return await explain(self._database, self._sessions, self._tenant_id, reference)

    async def in_quarantine(self, reference: str) -> Sequence[Quarantined]:
        return await in_quarantine(self._database, self._tenant_id, reference)

    async def search(
        self, query: str, chat_id: ChatId | None, limit: int, before: MessageId | None = None
    ) -> Page[Find]:
        # What the staff has been told in their own chats quotes what customers said.
        without = [] if chat_id is not None else await self._reads.chats.chats_of(self._staff)
        return await self._reads.search.search_messages(query, chat_id, limit, before, without=without)

    async def folds_accents(self) -> bool:
        return await self._reads.search.folds_accents()

    async def stats(self, chat_id: ChatId | None, since: datetime | None = None) -> Stats:
        return await self._reads.stats.message_stats(chat_id, since=since)

    async def failed(
        self, chat_id: ChatId | None, limit: int, before: MessageId | None = None
    ) -> Page[Entry]:
        return await self._reads.messages.failed_messages(chat_id, limit, before)
