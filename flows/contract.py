"""The seam between the daemon and a flow: a Turn goes in, replies and effects come out; nothing here does I/O."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from flows.texts import Texts
from storage.hours import Closed
from storage.models import (
    Action,
    AutomaticText,
    ChatId,
    ChatSummary,
    Explanation,
    ExternalId,
    Message,
    MessageId,
    MessageType,
    PauseReason,
    Quarantined,
    Role,
    Session,
    Tenant,
    TextId,
    Topic,
)
from storage.notify import NoticeKind
from storage.reading.models import Entry, Find, Page, Stats


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Something to say in the chat of the turn; text and media may come together.

    The file tells what it is; `media_type` DOCUMENT or STICKER, and `voice` in the metadata for a voice note,
    ask for it to be shown as that.

    A reply is fenced: it is not sent once a human has taken over, or while the chat is paused.
    `unfenced` marks the answer to a customer's own command (/human pauses the chat and says so): it is
    queued under the epoch that the outcome's effects raise and goes out although the chat is paused or
    opted out. A human who speaks after that still cancels it, and so does a pause of all chats.
    """

    text: str = ""
    media_url: str | None = None
    media_type: MessageType = MessageType.TEXT
    metadata: Mapping[str, Any] = field(default_factory=dict)
    unfenced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something to tell the person who commands, in answer to it, never the customer.

    An owner hears it in the chat with themselves, an admin in the admin's own chat. A command in reply to it is about
    the chat of its topic, wherever this one was given.
    """

    text: str
    role: Role = Role.OWNER
    topic: Topic = Topic()  # noqa: RUF009  frozen


@dataclass(frozen=True, slots=True, kw_only=True)
class Tell:
    """Something that the owner is to know unasked; of one kind each subject is told once, quietly by night.

    `chat_id` and `message_id` are what it is about, if it is about a chat.
    """

    kind: NoticeKind
    subject: str
    text: str
    chat_id: ChatId | None = None
    message_id: MessageId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Fall silent in a chat; `until` None stays until lifted (or, for a handoff, until the owner has been idle).

    `asked_at` is when a command for it was written, None: it is the bot's own doing, now.
    """

    chat_id: ChatId
    reason: PauseReason = PauseReason.MANUAL_PAUSE
    until: datetime | None = None
    asked_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Speak again in a chat; what a human has written there since the message `asked` is not undone by it."""

    chat_id: ChatId
    asked: MessageId
    asked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeAfter:
    """So much silence of the owner's ends a takeover in a chat from now on; zero: none does, None: as the tenant's."""

    chat_id: ChatId
    silence: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclude:
    """Never answer in a chat (`excluded` False takes it back)."""

    chat_id: ChatId
    asked_at: datetime
    excluded: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class OptOut:
    """The customer wants no more automatic messages (`out` False takes it back)."""

    chat_id: ChatId
    asked_at: datetime
    out: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalPause:
    """Fall silent in, or return to, every chat of the tenant."""

    paused: bool
    asked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Away:
    """The customer is told that the business is closed, and need not be told again until then."""

    chat_id: ChatId
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Automatic:
    """A text from the owner's phone is WhatsApp's own, or the owner's word; what was done about it is put right."""

    text_id: TextId
    is_automatic: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """Archive the chat's thread, so that the next message begins a new one."""

    chat_id: ChatId


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """How the turn's last message is to be recorded; a flow that yields none has its own default action."""

    action: Action
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SendAgain:
    """Try a message of ours once more that has failed, and so has reached nobody."""

    chat_id: ChatId
    message_id: MessageId


@dataclass(frozen=True, slots=True, kw_only=True)
class DropFailed:
    """A message of ours that has failed is not wanted any more."""

    chat_id: ChatId
    message_id: MessageId


StateChange = Pause | Resume | ResumeAfter | Exclude | OptOut | GlobalPause | Away | Reset
Effect = StateChange | SendAgain | DropFailed | Automatic
Outcome = Reply | Notice | Tell | Effect | Decided


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

    async def global_since(self) -> datetime | None:
        """When the last word on that was written; None: never."""
        ...

    async def automatic_texts(self) -> Sequence[AutomaticText]:
        """The texts from the owner's phone that may be automatic, oldest first."""
        ...

    async def told(self, chat_id: ChatId, reference: ExternalId) -> tuple[Topic, datetime] | None:
        """The notice in a chat of the staff's that is quoted, and when it was told."""
        ...

    async def asked(self, chat_id: ChatId, since: datetime) -> tuple[Topic, datetime] | None:
        """The last list to choose from there, and when it was told, if nobody has chosen from it yet."""
        ...

    async def explain(self, reference: str) -> Sequence[Explanation]:
        """What happened to a message, by the platform's id or by ours; empty when nothing matches."""
        ...

    async def in_quarantine(self, reference: str) -> Sequence[Quarantined]:
        """Messages of this id of the platform's that could not be recorded."""
        ...

    async def search(
        self, query: str, chat_id: ChatId | None, limit: int, before: MessageId | None = None
    ) -> Page[Find]:
        """Messages with these words, newest first; in one chat, or (None) in all but the staff's own."""
        ...

    async def folds_accents(self) -> bool:
        """Whether a search takes "acao" for "ação"."""
        ...

    async def stats(self, chat_id: ChatId | None, since: datetime | None = None) -> Stats:
        """How much was said in one chat, or (None) in all; since then, or (None) ever."""
        ...

    async def failed(
        self, chat_id: ChatId | None, limit: int, before: MessageId | None = None
    ) -> Page[Entry]:
        """What could not be sent, newest first; in one chat, or (None) in all."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One burst of a chat, gathered by the debounce and let through by the gates.

    `messages` are in order, at least one; the last one is the one that the answer replies to.
    `session` is the chat's as of the gates. `now` is the daemon's clock, virtual or not. `own_chat` says
    that the chat is no customer's: the owner's message-yourself, or an admin's private chat with the bot. `meant` is
    the chat that a command there is about where it does not say: it replies to a notice about it. `chosen` is the one
    that was picked from a list: the command is about that, whatever names it has by now. `texts` are the bot's own
    words to customers.
    """

    tenant: Tenant
    chat: ChatSummary
    session: Session
    messages: tuple[Message, ...]
    role: Role
    now: datetime
    reader: Reader
    own_chat: bool = False
    meant: ChatSummary | None = None
    chosen: ChatSummary | None = None
    texts: Texts = Texts()  # noqa: RUF009  frozen

    @property
    def text(self) -> str:
        """All texts of the burst, a line each."""
        return "\n".join(m.text for m in self.messages if m.text)

    @property
    def written_at(self) -> datetime:
        """When the last message was written, which may have come late; no clock makes it later than now."""
        return min(self.messages[-1].sent_at, self.now)

    @property
    def closed(self) -> Closed | None:
        """None while the business is open."""
        return self.tenant.closed_at(self.now)


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
