"""The seam between the daemon and a flow: a Turn goes in, replies and effects come out; nothing here does I/O."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from storage.models import (
    Action,
    ChatId,
    ChatSummary,
    Explanation,
    Message,
    MessageType,
    PauseReason,
    Role,
    Session,
    Tenant,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Something to say in the chat of the turn; text and media may come together.

    A reply is fenced: it is not sent once a human has taken over, or while the chat is paused.
    `unfenced` marks the answer to a customer's own command (/human pauses the chat and says so): it is
    queued under the epoch that the outcome's effects raise and goes out although the chat is paused or
    opted out. A human who speaks after that still cancels it.
    """

    text: str = ""
    media_url: str | None = None
    media_type: MessageType = MessageType.TEXT
    metadata: Mapping[str, Any] = field(default_factory=dict)
    unfenced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something to tell the person who commands, never the customer.

    An owner hears it in the chat with themselves, an admin in the admin's own chat.
    """

    text: str
    role: Role = Role.OWNER


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Fall silent in a chat; `until` None stays until lifted (or, for a handoff, until the owner has been idle)."""

    chat_id: ChatId
    reason: PauseReason = PauseReason.MANUAL_PAUSE
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Speak again in a chat."""

    chat_id: ChatId


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclude:
    """Never answer in a chat (`excluded` False takes it back)."""

    chat_id: ChatId
    excluded: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class OptOut:
    """The customer wants no more automatic messages (`out` False takes it back)."""

    chat_id: ChatId
    out: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalPause:
    """Fall silent in, or return to, every chat of the tenant."""

    paused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """Archive the chat's thread, so that the next message begins a new one."""

    chat_id: ChatId


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """How the turn's last message is to be recorded; a flow that yields none has its own default action."""

    action: Action
    detail: str | None = None


Effect = Pause | Resume | Exclude | OptOut | GlobalPause | Reset
Outcome = Reply | Notice | Effect | Decided


class Reader(Protocol):
    """What a flow may look up, all within the turn's tenant and account."""

    async def history(self, chat_id: ChatId, limit: int) -> Sequence[Message]:
        """The newest `limit` messages of the chat's active thread, oldest first, the turn's own included."""
        ...

    async def chat(self, chat_id: ChatId) -> ChatSummary:
        """One chat with its session."""
        ...

    async def find_chats(self, query: str, limit: int = 5) -> Sequence[ChatSummary]:
        """Chats whose name or number matches, best first: a number in any format, or part of a name."""
        ...

    async def paused_chats(self, limit: int = 20) -> Sequence[ChatSummary]:
        """Chats in which the bot is silent, newest first."""
        ...

    async def global_pause(self) -> bool:
        """Whether every chat of the tenant is paused."""
        ...

    async def explain(self, reference: str) -> Sequence[Explanation]:
        """What happened to a message, by the platform's id or by ours; empty when nothing matches."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One burst of a chat, gathered by the debounce and let through by the gates.

    `messages` are in order, at least one; the last one is the one that the answer replies to.
    `session` is the chat's as of the gates. `now` is the daemon's clock, virtual or not. `own_chat` says
    that the chat is no customer's: the owner's message-yourself, or an admin's private chat with the bot.
    """

    tenant: Tenant
    chat: ChatSummary
    session: Session
    messages: tuple[Message, ...]
    role: Role
    now: datetime
    reader: Reader
    own_chat: bool = False

    @property
    def text(self) -> str:
        """All texts of the burst, a line each."""
        return "\n".join(m.text for m in self.messages if m.text)


class Flow(Protocol):
    """One thing that the bot can do. `action` is recorded when the flow yields no Decided."""

    @property
    def name(self) -> str:
        """A short word for logs and metrics."""
        ...

    @property
    def action(self) -> Action:
        """What is recorded unless an outcome says otherwise."""
        ...

    def run(self, turn: Turn) -> AsyncIterator[Outcome]:
        """Answer the turn. May be cancelled at any await; yields take effect only all together, at its end."""
        ...
