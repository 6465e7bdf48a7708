"""The nouns that every room shares: ids, messages, sessions, decisions; pure data, no I/O.

They live on the bottom floor because only the bottom floor can be imported by all without a cycle.
Times are aware and in UTC. Ids of ours are integers; ids and addresses of the platform are text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NewType

TenantId = NewType("TenantId", int)
AccountId = NewType("AccountId", int)
ContactId = NewType("ContactId", int)
ChatId = NewType("ChatId", int)
ThreadId = NewType("ThreadId", int)
MessageId = NewType("MessageId", int)
"""Milliseconds since 2020 << 20 | sequence, of the arrival here: sorts by time, names its own month."""

ExternalId = NewType("ExternalId", str)
"""The platform's id of a message: unique within one chat and one sender, not beyond."""

Jid = NewType("Jid", str)
"""A WhatsApp address without a device part: `5511999990000@s.whatsapp.net`, `…@lid`, `…@g.us`."""

PHONE_SERVER = "s.whatsapp.net"
LID_SERVER = "lid"
GROUP_SERVER = "g.us"


class Channel(StrEnum):
    """The platform on which a chat lives."""

    WHATSAPP = "whatsapp"
    TELEGRAM = "telegram"
    EMAIL = "email"
    DISCORD = "discord"
    SIGNAL = "signal"
    WECHAT = "wechat"


class Direction(StrEnum):
    """Seen from the business: a message typed on the owner's own phone is outbound."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class Author(StrEnum):
    """Who spoke. HUMAN is the owner or a colleague on one of the account's own devices."""

    CUSTOMER = "customer"
    HUMAN = "human"
    BOT = "bot"


class MessageType(StrEnum):
    """What a message is; a media message's caption is its text."""

    TEXT = "text"
    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    DOCUMENT = "document"
    STICKER = "sticker"
    LOCATION = "location"
    CONTACT = "contact"
    POLL = "poll"
    REACTION = "reaction"
    EDIT = "edit"
    REVOKE = "revoke"
    SYSTEM = "system"
    UNDECRYPTABLE = "undecryptable"
    UNKNOWN = "unknown"


class Status(StrEnum):
    """Where one of our sends is: queued -> sending -> sent -> delivered -> read, only forward."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


class PauseReason(StrEnum):
    """Why the bot is silent in one chat."""

    HUMAN_TAKEOVER = "human_takeover"
    MANUAL_PAUSE = "manual_pause"
    AI_HANDOFF = "ai_handoff"
    CUSTOMER_REQUEST = "customer_request"


class Action(StrEnum):
    """What was decided about one event: the closed list behind `action_taken`."""

    PAUSED = "paused"
    RESUMED = "resumed"
    AI_REPLIED = "ai_replied"
    KEYWORD_REPLIED = "keyword_replied"
    COMMAND_DONE = "command_done"
    COMMAND_REFUSED = "command_refused"
    HANDED_OFF = "handed_off"
    AWAY_SENT = "away_sent"
    JOINED = "joined"
    SUPERSEDED = "superseded"
    IGNORED_PAUSED = "ignored_paused"
    IGNORED_EXCLUDED = "ignored_excluded"
    IGNORED_GLOBAL_PAUSE = "ignored_global_pause"
    IGNORED_GROUP = "ignored_group"
    IGNORED_TOO_OLD = "ignored_too_old"
    IGNORED_OPTED_OUT = "ignored_opted_out"
    IGNORED_UNSUPPORTED = "ignored_unsupported"
    DUPLICATE = "duplicate"
    HUMAN_SPOKE = "human_spoke"
    IMPORTED = "imported"
    FAILED = "failed"
    QUARANTINED = "quarantined"


class Role(StrEnum):
    """Who gives a command: the person behind the account, a configured admin, or anyone else."""

    OWNER = "owner"
    ADMIN = "admin"
    CUSTOMER = "customer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One party as an event named it.

    `alt` is the other form of the same person (LID for a phone number, phone number for a LID)
    when the event told it; it is how the two become known as one.
    """

    jid: Jid
    alt: Jid | None = None

    @property
    def jids(self) -> tuple[Jid, ...]:
        return (self.jid,) if self.alt is None else (self.jid, self.alt)


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundMessage:
    """Occurs when the platform delivers a message of a chat: a customer's, or one typed on the account's own devices.

    The bot's own sends never come back as one. `from_me` means that a human wrote on the owner's
    phone or Web; `sender_device` tells which of the devices (0 is the phone). `to_self` marks the
    owner's chat with themselves. `reply_to` is the quoted message's id; `reply_to_me` says that it
    was one of the account's. `raw` is the platform's own event as JSON text.
    """

    external_id: ExternalId
    chat: Address
    sender: Address
    sent_at: datetime
    from_me: bool = False
    to_self: bool = False
    is_group: bool = False
    sender_device: int = 0
    push_name: str | None = None
    type: MessageType = MessageType.TEXT
    text: str | None = None
    reply_to: ExternalId | None = None
    reply_to_me: bool = False
    mentions_me: bool = False
    is_history: bool = False
    raw: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Occurs when a phone reports what became of messages that the account sent; may be late, early or repeated."""

    chat: Address
    external_ids: tuple[ExternalId, ...]
    status: Status
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Typing:
    """Occurs when a customer starts or stops composing."""

    chat: Address
    typing: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """One business. `auto_resume_after` is the owner's silence that ends a takeover; None means never."""

    tenant_id: TenantId
    instance_name: str
    owner: str
    admins: tuple[str, ...] = ()
    system_prompt: str = ""
    llm_provider: str = "none"
    auto_resume_after: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One number of a tenant. `jid` and `lid` are None until it has been paired."""

    tenant_id: TenantId
    account_id: AccountId
    name: str
    channel: Channel = Channel.WHATSAPP
    jid: Jid | None = None
    lid: Jid | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Whether the bot may speak in one chat, as of one read.

    `epoch` rises with every takeover, pause, resume, exclusion, opt-out and reset; an answer that
    was begun under an older epoch is never sent. `global_pause` is the tenant's.
    """

    chat_id: ChatId
    epoch: int
    is_paused: bool = False
    pause_reason: PauseReason | None = None
    paused_at: datetime | None = None
    paused_until: datetime | None = None
    last_human_at: datetime | None = None
    is_excluded: bool = False
    opted_out_at: datetime | None = None
    global_pause: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A recorded message. `external_id` is None for one of ours that has not been sent yet.

    `sender_jids` are the known addresses of who wrote it, none for our side. `addressed`: meant for us;
    always so in a private chat, by mention or reply in a group.
    """

    tenant_id: TenantId
    account_id: AccountId
    chat_id: ChatId
    chat_jid: Jid
    id: MessageId
    thread_id: ThreadId
    direction: Direction
    author: Author
    type: MessageType
    sent_at: datetime
    sender_jids: tuple[Jid, ...] = ()
    external_id: ExternalId | None = None
    text: str | None = None
    media_url: str | None = None
    is_group: bool = False
    addressed: bool = True
    reply_to: ExternalId | None = None
    command: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """An inbound message with what is known of it before it is recorded.

    `takes_over` says that a human spoke to the customer: recording it pauses the chat. `action` is
    the decision when there is nothing left to decide; None leaves it open for the lane.
    """

    event: InboundMessage
    author: Author
    command: str | None = None
    takes_over: bool = False
    action: Action | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What became of an arrival in the store. `is_new` False: it had been here before and changed nothing."""

    arrival: Arrival
    message: Message
    is_new: bool
    action: Action | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """Two chats have become one: everything of `gone` is now `keep`'s."""

    keep: ChatId
    gone: ChatId


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was decided about one message of a chat."""

    message_id: MessageId
    action: Action
    detail: str | None = None


_UNSEEN = frozenset({"Cc", "Cf", "Mn", "Zl", "Zp", "Zs"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message of ours, before it is queued. A fenced one is not sent once the chat's epoch has risen."""

    text: str = ""
    type: MessageType = MessageType.TEXT
    media_url: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    fenced: bool = True

    @property
    def is_blank(self) -> bool:
        """Whether a person would see nothing: blanks and signs of no width alone."""
        return self.media_url is None and all(unicodedata.category(c) in _UNSEEN for c in self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A queued message of ours that may be sent now. `jids` are all addresses of its chat, `to` the one in use."""

    chat_id: ChatId
    id: MessageId
    to: Jid
    jids: tuple[Jid, ...]
    outgoing: Outgoing
    answers: tuple[MessageId, ...]
    fenced: bool
    attempts: int
    queued_at: datetime


class Claim(StrEnum):
    """How the attempt to take a queued message for sending ended."""

    CLAIMED = "claimed"
    CANCELLED = "cancelled"
    GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChange:
    """The status of one of our messages moved."""

    chat_id: ChatId
    id: MessageId
    external_id: ExternalId | None
    status: Status


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatSummary:
    """One chat as lists and commands show it."""

    chat_id: ChatId
    jid: Jid
    name: str | None
    phone: str | None
    is_group: bool
    session: Session
    last_message_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxEntry:
    """What became of one reply, as `why` tells it."""

    id: MessageId
    status: Status
    text: str | None
    external_id: ExternalId | None
    error: str | None
    overlapped: bool
    inferred: bool
    queued_at: datetime
    sent_at: datetime | None
    delivered_at: datetime | None
    read_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The whole story of one event: the message, what was decided, and what became of its replies.

    `action` is None while the event is undecided.
    """

    message: Message
    chat: ChatSummary
    event_type: str
    action: Action | None
    detail: str | None
    decided_at: datetime | None
    replies: tuple[OutboxEntry, ...] = ()
