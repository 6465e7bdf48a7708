"""What every transport offers and which errors it may raise: the only side of a platform that others see.

TransportError
|- PairingFailed     no phone has linked the account, and asking again by itself would not help
|- NotConnected      nothing has left this machine: trying again is safe
|- SendPostponed     the platform takes nothing just now, and has delivered nothing: trying again later is safe
|- SendRefused       the platform said no: final (its code is kept)
|  `- ReachOutLimited   because it was a first contact, and the account may make none for now
|- SendUnconfirmed   it may have gone out, no answer came: never send it again blindly
`- MediaLost         a received file will not be had, final
   |- MediaExpired   the platform keeps it no longer
   |- MediaDamaged   what there is cannot be opened, or is not what was sent
   `- MediaTooLarge  more than was asked for
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from storage.models import (
    ChatNamed,
    ExternalId,
    InboundMessage,
    Jid,
    MessageType,
    Quoted,
    Receipt,
    Typing,
    Unopened,
)


class TransportError(Exception):
    """A transport could not do what it was asked."""


class PairingFailed(TransportError):
    """No phone has linked the account; the text says why, and what to do."""


class NotConnected(TransportError):
    """There is no connection; nothing has left this machine."""


class SendRefused(TransportError):
    """The platform refused this message for good."""

    def __init__(self, message: str, *, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class ReachOutLimited(SendRefused):
    """The platform lets this account write to nobody new for now."""


class SendPostponed(TransportError):
    """The platform refused this message for the moment, and has delivered it to nobody."""


class SendUnconfirmed(TransportError):
    """The message was handed over, and no acknowledgement came: it may or may not have reached the customer."""


class MediaLost(TransportError):
    """The file of a received message cannot be had, also not later."""


class MediaExpired(MediaLost):
    """The platform keeps this file no longer."""


class MediaDamaged(MediaLost):
    """There is no file, or it cannot be opened, or it is not the one that was sent."""


class MediaTooLarge(MediaLost):
    """The file is larger than was asked for."""


class ConnectionState(StrEnum):
    """Where an account's connection stands. What each one means is told in bot.transports.states."""

    STANDBY = "standby"
    STARTING = "starting"
    PAIRING = "pairing"
    CONNECTED = "connected"
    REACH_OUT_LIMITED = "reach_out_limited"
    PHONE_OFFLINE = "phone_offline"
    RECONNECTING = "reconnecting"
    SUSPENDED = "suspended"
    REPLACED = "replaced"
    LOGGED_OUT = "logged_out"
    BANNED = "banned"
    OUTDATED = "outdated"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """An account's connection as of one look.

    `can_send` and `can_receive` are apart: while a send is not acknowledged, say, messages still come. `advice`
    tells the owner what to do, None when nothing is needed. `next_try` is when something happens next by itself:
    the next attempt to connect, the end of a ban or a limit, a new QR code; None when nothing will, or at once.
    """

    state: ConnectionState
    since: datetime
    can_send: bool = False
    can_receive: bool = False
    advice: str | None = None
    next_try: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionChanged:
    """Occurs when the connection changes. `own` are the account's own addresses once known: phone, then LID."""

    connection: Connection
    own: tuple[Jid, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Occurs once, when a phone has linked this account."""

    jid: Jid
    lid: Jid | None


class PairBy(StrEnum):
    """What the owner does on the phone: scan a QR code, or type in eight characters."""

    QR = "qr"
    CODE = "code"


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingCode:
    """Occurs when there is a (new) code to show; an older one no longer works.

    `text` is what a QR code holds, or ABCD-EFGH to type in. It works until `expires_at`; another one follows.
    """

    by: PairBy = PairBy.QR
    text: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Occurs when the platform tells of earlier conversations, mostly after an account was linked; it may repeat.

    `messages` makes each message as it is taken, once, a chat's in their order. `names` are what people call
    themselves, also some who have written nothing.
    """

    messages: Iterator[InboundMessage]
    names: Mapping[Jid, str] = field(default_factory=dict)


TransportEvent = (
    InboundMessage
    | Unopened
    | History
    | Receipt
    | Typing
    | ChatNamed
    | ConnectionChanged
    | Paired
    | PairingCode
)
Deliver = Callable[[TransportEvent], None]
"""Takes an event at once and never blocks: order among events is the order of these calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What goes out: text, or media by URL with the text as its caption; shown as an answer to `quoted`.

    With `revokes` it says nothing, but takes that message back for everyone; it was written on one of the account's
    own devices.

    The file itself tells what it is. `media_type` DOCUMENT and STICKER, and `voice` for a voice note, ask for
    more than a picture or a sound; where the platform cannot show it so, it is shown as what it is.
    """

    text: str = ""
    media_url: str | None = None
    quoted: Quoted | None = None
    media_type: MessageType = MessageType.TEXT
    voice: bool = False
    revokes: ExternalId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The platform has taken a message. `at` is the platform's time."""

    external_id: ExternalId
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Medium:
    """The file of a received message. `mimetype` and `name` are its sender's words: never trust them."""

    data: bytes
    mimetype: str
    name: str | None = None


class Transport(Protocol):
    """One account's way to the platform.

    `run` connects, delivers events, reconnects by itself and returns only when the account cannot
    go on (replaced, logged out, outdated) or is cancelled. All other methods may be called while it runs.
    """

    @property
    def connection(self) -> Connection: ...

    @property
    def one_at_a_time(self) -> bool:
        """Whether a send has to wait until the one before it has been acknowledged."""
        ...

    async def run(self, deliver: Deliver) -> None:
        """Stay connected until cancelled. Raises TransportError when it cannot even start or be paired."""
        ...

    async def prepare(self, content: Content) -> object:
        """Do all that takes time before a send (fetch the media, upload it) and return what `send` takes.

        Sends nothing to the customer. Raises NotConnected or SendRefused.
        """
        ...

    async def send(self, to: Jid, prepared: object) -> Sent:
        """Send one prepared message. The first thing it does is to start the send: no await stands before it.

        Raises NotConnected, SendPostponed, SendRefused or SendUnconfirmed. A cancelled call may still have sent.
        """
        ...

    async def set_typing(self, to: Jid, typing: bool) -> None:
        """Show or hide "typing…"; failures are of no consequence and are swallowed."""
        ...

    async def download(self, raw: str, *, most_bytes: int) -> Medium:
        """Fetch the file of a received message; `raw` is the event that was recorded with it.

        Raises NotConnected, also when the platform does not answer in time: trying again is safe. MediaLost
        when it is of no use.
        """
        ...

    async def suspend(self) -> None:
        """Disconnect, so that the platform queues what arrives; `resume` comes back."""
        ...

    async def resume(self) -> None:
        """Undo `suspend`."""
        ...

    async def unlink(self) -> None:
        """End the link for good, also on the platform's side: `run` returns, and the account can be paired anew.

        Raises NotConnected.
        """
        ...
