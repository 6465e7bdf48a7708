"""The nouns that every room shares: ids, messages, sessions, decisions; pure data, no I/O.

They live on the bottom floor because only the bottom floor can be imported by all without a cycle.
Times are aware and in UTC. Ids of ours are integers; ids and addresses of the platform are text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Any, NewType

from storage.hours import Closed, Hours
from storage.notify import Notify
from storage.zones import zone_of

TenantId = NewType("TenantId", int)
AccountId = NewType("AccountId", int)
ContactId = NewType("ContactId", int)
ChatId = NewType("ChatId", int)
ThreadId = NewType("ThreadId", int)
MessageId = NewType("MessageId", int)
"""Milliseconds since 2020 << 20 | sequence, of the arrival here: sorts by time, names its own month.

A message of the past has the time of its writing instead; before 2020 the number is negative.
"""

TextId = NewType("TextId", int)
"""Of a text that may be automatic."""

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


class Origin(StrEnum):
    """Where a message of our side comes from. Only a person's takes a chat over: on a device, or at a console.

    PHONE and DEVICE are the account's own: the phone itself, and Web or another that is linked to it. CONSOLE is a
    program in which a person writes. COMMAND tells somebody of the staff what a command did; API is what a
    program has sent by itself.
    """

    PHONE = "phone"
    DEVICE = "device"
    CONSOLE = "console"
    COMMAND = "command"
    API = "api"
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


CHANGES = frozenset({MessageType.EDIT, MessageType.REVOKE, MessageType.REACTION})
"""What says nothing of its own, but changes another message: `reply_to` names it."""


MEDIA = frozenset(
    {MessageType.IMAGE, MessageType.VIDEO, MessageType.AUDIO, MessageType.DOCUMENT, MessageType.STICKER}
)
"""What comes with a file."""


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
    BOT_LOOP = "bot_loop"


class ResumeMode(StrEnum):
    """What becomes of what nobody has answered: it is answered when the bot is back, or left."""

    FROM_LAST = "from_last"
    FROM_NOW = "from_now"


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
    IGNORED_CLOSED = "ignored_closed"
    IGNORED_UNSUPPORTED = "ignored_unsupported"
    IGNORED_AUTOMATIC = "ignored_automatic"
    IGNORED_LOOP = "ignored_loop"
    IGNORED_REPEAT = "ignored_repeat"
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
    owner's chat with themselves. `reply_to` is the quoted message's id, or the changed one's of an edit,
    a revoke or a reaction; `reply_to_me` says that it was one of the account's, `reply_to_sender` whose it
    was where the event tells. `text` of an edit is the new text, of a reaction the emoji, "" to take it back;
    None: it could not be read. `raw` is the platform's own event as JSON text.
    `metadata` marks what is special, and is kept with the message: `voice` (a voice note), `typed` (surely by hand, as
    only those know who play the phone), `view_once`,
    `expires_in` (seconds until the phones forget it; in a system message the chat's new timer, 0: off),
    `voted` (of a vote: the options chosen in the poll `reply_to`, None where they cannot be read), `unavailable`
    (WhatsApp shows it on the phone only).
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
    reply_to_sender: Jid | None = None
    mentions_me: bool = False
    is_history: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)
    raw: str | None = None

    @property
    def is_vote(self) -> bool:
        """Whether it chooses in a poll, and is not the poll itself."""
        return "voted" in self.metadata


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
class Unopened:
    """Occurs when a customer has written what cannot be opened, or not yet: its place is recorded, and wakes nobody.

    When it comes again, whole, it is heard as any message. `message` says where, when and by whom, as of the past.
    """

    message: InboundMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatNamed:
    """Occurs when the platform tells what a group is called: after its first message, and when that changes."""

    chat: Address
    name: str


FOR_EVER = timedelta(0)
"""As a tenant's `retention`: its messages are kept whatever holds for others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """One business. `auto_resume_after` is the owner's silence that ends a takeover; None means never.

    `timezone` is the IANA name of the zone in which people there say times of day. `hours` None: always open.
    `retention` is how long messages are kept: FOR_EVER, or None as the configuration says for all tenants.
    """

    tenant_id: TenantId
    instance_name: str
    owner: str
    admins: tuple[str, ...] = ()
    system_prompt: str = ""
    llm_provider: str = "none"
    auto_resume_after: timedelta | None = None
    timezone: str = "UTC"
    hours: Hours | None = None
    retention: timedelta | None = None
    notify: Notify = field(default_factory=Notify)
    resume_mode: ResumeMode | None = None

    @property
    def zone(self) -> tzinfo:
        return zone_of(self.timezone)

    def closed_at(self, now: datetime) -> Closed | None:
        """None while the business is open."""
        return self.hours.closed_at(now, self.zone) if self.hours else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One number of a tenant. `jid` and `lid` are None until it has been paired.

    One that `is_departing` has its session on the way to another database: nobody may serve or pair it. One that
    has `moved_to` another is served there; one that has a `jid` too is a copy that was restored without its link. Here
    either is served once its link comes, or after a new pairing.
    """

    tenant_id: TenantId
    account_id: AccountId
    name: str
    channel: Channel = Channel.WHATSAPP
    jid: Jid | None = None
    lid: Jid | None = None
    is_departing: bool = False
    moved_to: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Whether the bot may speak in one chat, as of one read.

    `epoch` rises with every takeover, pause, resume, exclusion, opt-out and reset; an answer that
    was begun under an older epoch is never sent. `global_pause` is the tenant's. Until `away_until` the customer
    need not be told again that the business is closed. `idle_after` is the owner's silence that ends a takeover
    here, None: none does. `returns_at` is when the clock ends the pause, None: never. `excluded_at`,
    `opted_at` and `resumed_at` are when the last words on exclusion, on opting out or in, and on coming back were
    written. `resume_mode` None: from the last after a restart, from now after a pause.
    """

    chat_id: ChatId
    epoch: int
    is_paused: bool = False
    pause_reason: PauseReason | None = None
    paused_at: datetime | None = None
    paused_until: datetime | None = None
    last_human_at: datetime | None = None
    last_human_id: MessageId | None = None
    is_excluded: bool = False
    excluded_at: datetime | None = None
    resumed_at: datetime | None = None
    opted_out_at: datetime | None = None
    opted_at: datetime | None = None
    global_pause: bool = False
    away_until: datetime | None = None
    idle_after: timedelta | None = None
    returns_at: datetime | None = None
    resume_mode: ResumeMode | None = None

    @property
    def commanded_at(self) -> datetime | None:
        """When the last command on the pause was written; None where none is known."""
        by_hand = self.paused_at if self.pause_reason is PauseReason.MANUAL_PAUSE else None
        return max((at for at in (by_hand, self.resumed_at) if at is not None), default=None)

    def human_since(self, message: Message) -> bool:
        """Whether a human wrote here after that message was written, which may have come late."""
        if self.last_human_at is None or self.last_human_at != message.sent_at:
            return self.last_human_at is not None and self.last_human_at > message.sent_at
        return self.last_human_id is not None and self.last_human_id > message.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A recorded message. `external_id` is None for one of ours that has not been sent yet.

    `sender_jids` are the known addresses of who wrote it, none for our side. `addressed`: meant for us;
    always so in a private chat, by mention or reply in a group. `text` is the newest, after edits; a deleted
    message was revoked by who wrote it or by a group's admin, and keeps its text. `sender_device` is which of the
    account's own devices a human wrote on, 0 the phone; None where it was on none of them. `action` is what was
    last decided about it, where it was read as a part of a conversation; else None.
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
    edited_at: datetime | None = None
    deleted_at: datetime | None = None
    action: Action | None = None
    sender_device: int | None = None

    def has_sender_of(self, other: Message) -> bool:
        """Whether one person wrote both messages of customers in a chat: in a group it may be two members."""
        return not self.is_group or not set(self.sender_jids).isdisjoint(other.sender_jids)

    def is_before(self, other: Message) -> bool:
        """Whether it was written before another of its chat, either of which may have come late."""
        return (self.sent_at, self.id) < (other.sent_at, other.id)

    @property
    def origin(self) -> Origin | None:
        """Where one of our side comes from; None for a customer's, and where only a record tells of it."""
        if self.author is Author.CUSTOMER:
            return None
        if self.sender_device is not None:
            return Origin.DEVICE if self.sender_device else Origin.PHONE
        # Metadata are whatever a record that was imported or written by SQL has there.
        told = next((o for o in Origin if o == self.metadata.get("origin")), None)
        if self.author is Author.HUMAN:
            return told if told is Origin.CONSOLE else None
        return told if told in (Origin.COMMAND, Origin.API) else Origin.BOT


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """How an earlier message reads now that an edit or a revoke of it has been recorded, or a reaction to it."""

    message_id: MessageId
    text: str | None
    edited_at: datetime | None
    deleted_at: datetime | None

    def of(self, message: Message) -> Message:
        """The same message, if it is this one, as it reads now."""
        if message.id != self.message_id:
            return message
        return replace(message, text=self.text, edited_at=self.edited_at, deleted_at=self.deleted_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """An inbound message with what is known of it before it is recorded.

    `takes_over` says that a human spoke to the customer: recording it pauses the chat. `action` is
    the decision when there is nothing left to decide; None leaves it open for the lane. `slip` is the command that the
    owner has probably mistyped there. One that takes over `is_doubtful` where the phone may have said it by itself:
    the store is asked before it is recorded.
    """

    event: InboundMessage
    author: Author
    command: str | None = None
    takes_over: bool = False
    action: Action | None = None
    slip: str | None = None
    is_doubtful: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What became of an arrival in the store. `is_new` False: it had come before and changed nothing. What only
    the past has told of is new when it comes, and keeps its place there.

    `changed` is the earlier message that it has changed, None where it changes none, or none that is here yet.
    """

    arrival: Arrival
    message: Message
    is_new: bool
    action: Action | None
    changed: Changed | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AutomaticText:
    """A text that may be one of WhatsApp Business' own; `is_automatic` is what the owner said, None: nothing yet."""

    text_id: TextId
    text: str
    is_automatic: bool | None = None


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
    """A message of ours, before it is queued. A fenced one is not sent once the chat's epoch has risen.

    `metadata` is kept with it: `origin` where it is not the bot's own word, `voice` for a voice note. `revokes` names
    a message from one of the account's own devices, which this one of type REVOKE takes back.
    """

    text: str = ""
    type: MessageType = MessageType.TEXT
    media_url: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    fenced: bool = True
    revokes: ExternalId | None = None

    @property
    def is_blank(self) -> bool:
        """Whether a person would see nothing: blanks and signs of no width alone."""
        return self.media_url is None and all(unicodedata.category(c) in _UNSEEN for c in self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """What a notice is about: a chat; the command `text` of which it is not clear which of `choices` it means; or a
    text that may be automatic. `settles`: it tells what came of a choice, and nothing is left to choose.
    """

    about: ChatId | None = None
    text_id: TextId | None = None
    text: str | None = None
    choices: tuple[ChatId, ...] = ()
    settles: bool = False

    @property
    def metadata(self) -> dict[str, Any]:
        """As it is kept with the notice."""
        told = {
            "about": self.about,
            "asked": self.text,
            "choices": list(self.choices) or None,
            "automatic": self.text_id,
            "settles": self.settles or None,
        }
        return {"origin": Origin.COMMAND, **{key: value for key, value in told.items() if value is not None}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoted:
    """The message that one of ours answers, as it is shown above it."""

    external_id: ExternalId
    sender: Jid
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A queued message of ours that may be sent now. `jids` are all addresses of its chat, `to` the one in use.

    `is_first_contact`: nobody there has ever written to us, as far as is recorded. `quoted` is what
    it answers, in a group, where several may be asking; elsewhere None. `is_last`: nothing else of the
    chat was queued at that moment.
    """

    chat_id: ChatId
    id: MessageId
    to: Jid
    jids: tuple[Jid, ...]
    outgoing: Outgoing
    answers: tuple[MessageId, ...]
    fenced: bool
    attempts: int
    queued_at: datetime
    is_first_contact: bool = False
    quoted: Quoted | None = None
    is_last: bool = False


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
    """One chat as lists and commands show it. `account` is our number there; until that is linked, its name."""

    chat_id: ChatId
    jid: Jid
    name: str | None
    phone: str | None
    is_group: bool
    account: str
    session: Session
    last_message_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An edit or a revoke of a message, or somebody's present reaction to it, with its own text and time."""

    message_id: MessageId
    type: MessageType
    author: Author
    text: str | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxEntry:
    """What became of one reply, or of a revoke, as `why` tells it."""

    id: MessageId
    type: MessageType
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
    waited: str | None = None
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The whole story of one event: the message, what was decided, and what became of its replies.

    `action` is None while the event is undecided. `changes` are the message's, oldest first.
    """

    message: Message
    chat: ChatSummary
    event_type: str
    action: Action | None
    detail: str | None
    decided_at: datetime | None
    replies: tuple[OutboxEntry, ...] = ()
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A message that the store could not take: kept whole, but in no chat, and never answered."""

    external_id: ExternalId
    error: str
    received_at: datetime
