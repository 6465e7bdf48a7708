"""What flows may look up, answered from the store; the daemon's side of flows.contract.Reader."""

from __future__ import annotations

from collections.abc import Sequence

from storage.database import Database
from storage.decisions import explain
from storage.messages import MessageStore
from storage.models import ChatId, ChatSummary, Explanation, Message, Tenant
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

    async def history(self, chat_id: ChatId, limit: int) -> Sequence[Message]:
        return await self._messages.history(self._tenant_id, chat_id, limit)

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
