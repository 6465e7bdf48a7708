"""Mirrors what neonize tells about the connection as states with advice, and says when a link has ended."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any

import structlog

from bot.transports.base import (
    Connection,
    ConnectionChanged,
    ConnectionState,
    Deliver,
    Paired,
    PairingCode,
)
from bot.transports.whatsapp.ids import People
from bot.transports.whatsapp.link import Handlers, Link

_log = structlog.get_logger(__name__)

# whatsmeow shows the first QR for 60 seconds and five more for 20 each; if it does not say then that it is
# over, nothing else ever will.
_FIRST_QR_SECONDS = 65.0
_NEXT_QR_SECONDS = 25.0
# After pairing whatsmeow logs in once; if that fails it does not try again.
_LOGIN_SECONDS = 60.0

_SCAN = "scan the QR code with the phone: WhatsApp, Linked devices, Link a device"
_REPLACED = "another program has taken over this session: stop it, then start the daemon again"
_LOGGED_OUT = "the phone has removed this device: pair it again"
_OUTDATED = "WhatsApp no longer accepts this version: update Sidestep"
_NO_ANSWER = "WhatsApp does not answer: check the network"
_REJECTED = "WhatsApp rejected the connection; trying again"


class End(Enum):
    """Why a link is over."""

    QR_EXPIRED = auto()
    FAILED = auto()
    SUSPENDED = auto()
    BANNED = auto()
    FINAL = auto()


class State:
    """An account's connection and whom to tell about its changes."""

    def __init__(self, clock: Callable[[], datetime], people: People) -> None:
        self._clock = clock
        self._people = people
        self._deliver: Deliver | None = None
        self.connection = Connection(state=ConnectionState.STOPPED, since=clock())

    def tell(self, deliver: Deliver | None) -> None:
        self._deliver = deliver

    def show(self, state: ConnectionState, advice: str | None = None) -> None:
        if (state, advice) == (self.connection.state, self.connection.advice):
            return
        connected = state is ConnectionState.CONNECTED
        same = state is self.connection.state
        self.connection = Connection(
            state=state,
            since=self.connection.since if same else self._clock(),
            can_send=connected,
            can_receive=connected,
            advice=advice,
        )
        if self._deliver is not None:
            self._deliver(ConnectionChanged(connection=self.connection, own=self._people.own))


class Watch:
    """Watches one link."""

    def __init__(
        self, link: Link, state: State, people: People, deliver: Deliver, on_connected: Callable[[], None]
    ) -> None:
        self._link = link
        self._tell_connected = on_connected
        self._state = state
        self._people = people
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._seen_qr = False
        self.was_connected = False
        self.banned_for = timedelta()
        self.ended: asyncio.Future[End] = self._loop.create_future()

    @property
    def handlers(self) -> Handlers:
        handlers = {
            "PairStatusEv": self._on_pair_status,
            "ConnectedEv": self._on_connected,
            "DisconnectedEv": self._on_disconnected,
            "KeepAliveTimeoutEv": self._on_silence,
            "KeepAliveRestoredEv": self._on_connected,
            "StreamReplacedEv": self._on_replaced,
            "LoggedOutEv": self._on_logged_out,
            "TemporaryBanEv": self._on_ban,
            "ClientOutdatedEv": self._on_outdated,
            "ConnectFailureEv": self._on_rejected,
        }
        return {name: self._until_ended(handler) for name, handler in handlers.items()}

    def _until_ended(self, handler: Callable[[Any], None]) -> Callable[[Any], None]:
        # Go's last events may come while the link is being stopped: they say nothing about what comes next.
        return lambda event: None if self.ended.done() else handler(event)

    def on_qr(self, qr: str) -> None:
        self._end_after(_NEXT_QR_SECONDS if self._seen_qr else _FIRST_QR_SECONDS, End.QR_EXPIRED)
        self._seen_qr = True
        self._state.show(ConnectionState.PAIRING, _SCAN)
        self._deliver(PairingCode(qr=qr))

    def on_qr_over(self, status: str) -> None:
        """Whatever ends the showing of QRs: `success`, `timeout` (also a lost connection), or an error's name."""
        if status == "success" or self.ended.done():
            return
        if status == "err-client-outdated":
            self._on_outdated(None)
        else:
            self.end(End.QR_EXPIRED if status == "timeout" else End.FAILED)

    def end(self, why: End) -> None:
        self.cancel_timer()
        if not self.ended.done():
            self.ended.set_result(why)

    def cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _end_after(self, seconds: float, why: End) -> None:
        self.cancel_timer()
        self._timer = self._loop.call_later(seconds, self.end, why)

    def _on_pair_status(self, event: Any) -> None:
        phone, lid = self._link.own
        if event.Status != event.SUCCESS or phone is None:
            _log.warning("whatsapp_pairing_failed")
            self.end(End.FAILED)
            return
        self._people.be(phone, lid)
        self._end_after(_LOGIN_SECONDS, End.FAILED)
        self._deliver(Paired(jid=phone, lid=lid))

    def _on_connected(self, _event: Any) -> None:
        self.cancel_timer()
        self._people.be(*self._link.own)
        self._state.show(ConnectionState.CONNECTED)
        self.was_connected = True
        self._tell_connected()

    def _on_disconnected(self, _event: Any) -> None:
        # whatsmeow reconnects by itself, after 0, 2, 4, 6… seconds, for ever. Not so while pairing.
        if self._link.device is None:
            self.end(End.FAILED)
        else:
            self._state.show(ConnectionState.RECONNECTING)

    def _on_silence(self, _event: Any) -> None:
        self._state.show(ConnectionState.RECONNECTING, _NO_ANSWER)

    def _on_replaced(self, _event: Any) -> None:
        self._state.show(ConnectionState.REPLACED, _REPLACED)
        self.end(End.FINAL)

    def _on_logged_out(self, _event: Any) -> None:
        self._state.show(ConnectionState.LOGGED_OUT, _LOGGED_OUT)
        self.end(End.FINAL)

    def _on_outdated(self, _event: Any) -> None:
        self._state.show(ConnectionState.OUTDATED, _OUTDATED)
        self.end(End.FINAL)

    def _on_ban(self, event: Any) -> None:
        self.banned_for = timedelta(seconds=max(event.Expire, 60))
        reason = event.TempBanReason.Name(event.Code).lower() if event.HasField("Code") else "unknown"
        advice = f"WhatsApp has banned this number for {self.banned_for} ({reason}): send less"
        self._state.show(ConnectionState.BANNED, advice)
        self.end(End.BANNED)

    def _on_rejected(self, event: Any) -> None:
        _log.warning("whatsapp_connect_failure", reason=event.Reason)
        self._state.show(ConnectionState.RECONNECTING, _REJECTED)
        self.end(End.FAILED)
