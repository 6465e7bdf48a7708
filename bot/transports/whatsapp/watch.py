"""Mirrors what neonize tells about the connection as states with advice, and says when a link has ended."""

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import structlog

from bot.transports.base import ConnectionState, Deliver, Paired, PairingFailed
from bot.transports.whatsapp import verdicts
from bot.transports.whatsapp.ids import People
from bot.transports.whatsapp.invitation import Invitation
from bot.transports.whatsapp.link import Handlers, Link
from bot.transports.whatsapp.patience import Patience
from bot.transports.whatsapp.state import State
from bot.transports.whatsapp.verdicts import End, Verdict

_log = structlog.get_logger(__name__)

# whatsmeow shows the first QR for 60 seconds and five more for 20 each; if it does not say then that it is
# over, nothing else ever will.
_FIRST_QR_SECONDS = 65.0
_NEXT_QR_SECONDS = 25.0

_NO_ANSWER = "WhatsApp does not answer: check the network"


class Watch:
    """Watches one link.

    `on_qr_phase` is called with the link's first QR code; `on_connected` after each login; `on_doubt`, with what is
    to be told, when somebody has to find out whether WhatsApp is still there. `confirm` calls back if the library has a
    connection.
    """

    def __init__(
        self,
        link: Link,
        state: State,
        people: People,
        deliver: Deliver,
        clock: Callable[[], datetime],
        patience: Patience,
        invitation: Invitation,
        *,
        on_qr_phase: Callable[[], None],
        on_connected: Callable[[], None],
        on_doubt: Callable[[str], None],
        confirm: Callable[[Callable[[], None]], None],
    ) -> None:
        self._link = link
        self._state = state
        self._people = people
        self._deliver = deliver
        self._clock = clock
        self._patience = patience
        self._invitation = invitation
        self._tell_qr_phase = on_qr_phase
        self._tell_connected = on_connected
        self._tell_doubt = on_doubt
        self._confirm = confirm
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._let_in: asyncio.TimerHandle | None = None
        self._seen_qr = False
        self._is_lost = False
        self._count_of_losses = 0
        self._losses: deque[datetime] = deque(maxlen=patience.most_losses)
        self._was_connected = False
        self.verdict: Verdict | None = None
        self.ended: asyncio.Future[End] = self._loop.create_future()

    @property
    def has_held(self) -> bool:
        """Whether it was connected, and not only to be thrown out again and again."""
        return self._was_connected and not self._is_flapping()

    @property
    def handlers(self) -> Handlers:
        handlers = {
            "PairStatusEv": self._on_pair_status,
            "OfflineSyncCompletedEv": self._on_let_in,
            "ConnectedEv": self._on_connected,
            "DisconnectedEv": self._on_disconnected,
            "KeepAliveTimeoutEv": lambda _: self._tell_doubt(_NO_ANSWER),
            "KeepAliveRestoredEv": lambda _: self._state.end_doubt(),
            "StreamErrorEv": self._on_stream_error,
            "StreamReplacedEv": lambda _: self._judge(verdicts.REPLACED),
            "LoggedOutEv": lambda event: self._judge(verdicts.logged_out(event)),
            "TemporaryBanEv": lambda event: self._judge(verdicts.banned(event)),
            "ClientOutdatedEv": lambda _: self._judge(verdicts.OUTDATED),
            "ConnectFailureEv": lambda event: self._judge(verdicts.rejected(event)),
        }
        return {name: self._until_ended(handler) for name, handler in handlers.items()}

    def _until_ended(self, handler: Callable[[Any], None]) -> Callable[[Any], None]:
        # Go's last events may come while the link is being stopped: they say nothing about what comes next.
        return lambda event: None if self.ended.done() else handler(event)

    def expect_login(self) -> None:
        """A server that takes the connection, and then says nothing, is not waited for without end."""
        self._call_later(self._patience.login, self.give_up)

    def on_qr(self, qr: str) -> None:
        first, self._seen_qr = not self._seen_qr, True
        until_next = timedelta(seconds=_FIRST_QR_SECONDS if first else _NEXT_QR_SECONDS)
        self._call_later(until_next, lambda: self.end(End.QR_EXPIRED))
        expires_at = self._invitation.renew(first=first)
        self._state.show(ConnectionState.PAIRING, self._invitation.advice, next_try=expires_at)
        self._invitation.show(qr)
        if first:
            self._tell_qr_phase()

    def on_qr_over(self, status: str) -> None:
        """Whatever ends the showing of QRs: `success`, `timeout` (also a lost connection), or an error's name."""
        if status == "success" or self.ended.done():
            return
        if status == "err-client-outdated":
            self._judge(verdicts.OUTDATED)
        else:
            self.end(End.QR_EXPIRED if status == "timeout" else End.FAILED)

    def on_life_over(self, error: str) -> None:
        """The library has ended by itself."""
        self._judge(verdicts.life_over(error, had_logged_in=self._was_connected))

    def give_up(self) -> None:
        """Nobody answers at the other end of this link."""
        if not self.ended.done():
            self._state.show(ConnectionState.RECONNECTING, _NO_ANSWER)
            self.end(End.FAILED)

    def end(self, why: End) -> None:
        self.cancel_timer()
        if not self.ended.done():
            self.ended.set_result(why)

    def fail(self, error: PairingFailed) -> None:
        """The account cannot be paired this way: whoever waits for the end of the link gets the error."""
        self.cancel_timer()
        if not self.ended.done():
            self.ended.set_exception(error)

    def unlinked(self) -> None:
        if not self.ended.done():
            self._judge(verdicts.UNLINKED)

    def cancel_timer(self) -> None:
        for timer in (self._timer, self._let_in):
            if timer is not None:
                timer.cancel()

    def _call_later(self, delay: timedelta, callback: Callable[[], None]) -> None:
        self.cancel_timer()
        self._timer = self._loop.call_later(delay.total_seconds(), callback)

    def _judge(self, verdict: Verdict) -> None:
        # A network that is down is told by the state, once a try: its lines would fill the log of a long outage.
        tell = _log.debug if verdict is verdicts.UNREACHABLE else _log.warning
        tell("whatsapp_link_ended", account=self._link.account, state=verdict.state, reason=verdict.advice)
        self.verdict = verdict
        self._state.show(verdict.state, verdict.advice)
        self.end(verdict.end)

    def _on_pair_status(self, event: Any) -> None:
        phone, lid = self._link.own
        if event.Status != event.SUCCESS or phone is None:
            _log.warning("whatsapp_pairing_failed", account=self._link.account)
            self.end(End.FAILED)
            return
        self._people.be(phone, lid)
        self._state.phone_heard()
        # whatsmeow logs in once now; if that fails it does not try again.
        self.expect_login()
        self._deliver(Paired(jid=phone, lid=lid))

    def _on_let_in(self, _event: Any) -> None:
        # The login was taken, and what had waited is here. But "connected" comes only after two questions of the
        # library's own, which it awaits for 75 seconds each: nobody is left unanswered for so long over them.
        if not self._state.is_connected:
            if self._let_in is not None:
                self._let_in.cancel()
            wait = self._patience.let_in.total_seconds()
            self._let_in = self._loop.call_later(wait, self._on_connected, None)

    def _on_connected(self, _event: Any) -> None:
        if not self._is_lost:
            self._show_connected()
            return
        # The library says so, too late, also of a login whose connection has gone with its first questions.
        losses = self._count_of_losses

        def on_confirmed() -> None:
            if losses == self._count_of_losses and not self.ended.done():
                self._show_connected()

        self._confirm(on_confirmed)

    def _show_connected(self) -> None:
        self.cancel_timer()
        self._is_lost = False
        self._was_connected = True
        self._people.be(*self._link.own)
        self._state.show(ConnectionState.CONNECTED)
        self._tell_connected()

    def _on_disconnected(self, _event: Any) -> None:
        if self._link.device is None:
            # While pairing whatsmeow does not reconnect.
            self.end(End.FAILED)
            return
        if self._let_in is not None:
            self._let_in.cancel()
        self._losses.append(self._clock())
        self._count_of_losses += 1
        if self._is_flapping():
            self._judge(verdicts.UNSTABLE)
            return
        self._state.show_library_reconnecting()
        if not self._is_lost:
            # Once for each loss: its tries become rarer with each, and it never ends them.
            self._is_lost = True
            self._call_later(self._patience.library, self.give_up)

    def _is_flapping(self) -> bool:
        if len(self._losses) < self._patience.most_losses:
            return False
        return self._losses[-1] - self._losses[0] < self._patience.flapping

    def _on_stream_error(self, event: Any) -> None:
        # A code that whatsmeow does not know, and does nothing about. Mostly WhatsApp closes the connection then.
        _log.warning("whatsapp_stream_error", account=self._link.account, code=event.Code)
        self._tell_doubt(f"WhatsApp has reported an error ({event.Code or 'without a code'})")
