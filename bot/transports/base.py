"""What every transport offers and which errors it may raise: the only side of a platform that others see.

TransportError
|- NotConnected      nothing has left this machine: trying again is safe
|- SendRefused       the platform said no: final (its code is kept)
`- SendUnconfirmed   it may have gone out, no answer came: never send it again blindly
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from storage.models import ExternalId, InboundMessage, Jid, MessageType, Receipt, Typing


class TransportError(Exception):
    """A transport could not do what it was asked."""


class NotConnected(TransportError):
    """There is no connection; nothing has left this machine."""


class SendRefused(TransportError):
    """The platform refused this message for good."""

    def __init__(self, message: str, *, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class SendUnconfirmed(TransportError):
    """The message was handed over, and no acknowledgement came: it may or may not have reached the customer."""


class ConnectionState(StrEnum):
    """Where an account's connection stands."""

    STARTING = "starting"
    PAIRING = "pairing"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    SUSPENDED = "suspended"
    REPLACED = "replaced"
    LOGGED_OUT = "logged_out"
    BANNED = "banned"
    OUTDATED = "outdated"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """An account's connection as of one look. `advice` tells the owner what to do, None when nothing is needed."""

    state: ConnectionState
    since: datetime
    can_send: bool = False
    can_receive: bool = False
    advice: str | None = None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingCode:
    """Occurs when there is a (new) QR text to show; an older one no longer works."""

    qr: str


TransportEvent = InboundMessage | Receipt | Typing | ConnectionChanged | Paired | PairingCode
Deliver = Callable[[TransportEvent], None]
"""Takes an event at once and never blocks: order among events is the order of these calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What goes out: text, or media by URL with the text as its caption."""

    text: str = ""
    media_url: str | None = None
    media_type: MessageType = MessageType.TEXT


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The platform has taken a message. `at` is the platform's time."""

    external_id: ExternalId
    at: datetime


class Transport(Protocol):
    """One account's way to the platform.

    `run` connects, delivers events, reconnects by itself and returns only when the account cannot
    go on (replaced, logged out, outdated) or is cancelled. All other methods may be called while it runs.
    """

    @property
    def connection(self) -> Connection: ...

    async def run(self, deliver: Deliver) -> None:
        """Stay connected until cancelled. Raises TransportError when it cannot even start."""
        ...

    async def prepare(self, content: Content) -> object:
        """Do all that takes time before a send (fetch the media, upload it) and return what `send` takes.

        Sends nothing to the customer. Raises NotConnected or SendRefused.
        """
        ...

    async def send(self, to: Jid, prepared: object) -> Sent:
        """Send one prepared message. The first thing it does is to start the send: no await stands before it.

        Raises NotConnected, SendRefused or SendUnconfirmed. A cancelled call may still have sent.
        """
        ...

    async def set_typing(self, to: Jid, typing: bool) -> None:
        """Show or hide "typing…"; failures are of no consequence and are swallowed."""
        ...

    async def suspend(self) -> None:
        """Disconnect, so that the platform queues what arrives; `resume` comes back."""
        ...

    async def resume(self) -> None:
        """Undo `suspend`."""
        ...
