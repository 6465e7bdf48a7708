"""What flows may look up, answered from the store; the daemon's side of flows.contract.Reader."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Self

from storage.database import Database
from storage.decisions import explain
from storage.messages import MessageStore
from storage.models import ChatId, ChatSummary, Explanation, Message, MessageId, Tenant
from storage.sessions import SessionStore


class StoreReader:
    """One tenant's chats and messages, read only."""

    def __init__(
        self, database: Database, messages: MessageStore, sessions: SessionStore, tenant: Tenant
    ) -> None:
        self._database = database
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

    async def explain(self, reference: str) -> Sequence[Explanation]:
        return await explain(self._database, self._sessions, self._tenant_id, reference)
