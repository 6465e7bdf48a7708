"""What the owner is shown to link a number: QR codes one after the other, or one code to type in; it links nothing.

Both live in the same phase: WhatsApp hands out QR codes to whoever is not linked, and ends the connection after
the last one. The code for a number is asked for meanwhile, and its time ends with theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from bot.transports.base import Deliver, NotConnected, PairBy, PairingCode, PairingFailed
from bot.transports.whatsapp.link import Link

# whatsmeow shows the first QR for 60 seconds and five more for 20 each.
_FIRST_QR, _NEXT_QR = timedelta(seconds=60), timedelta(seconds=20)
_ALL_QRS = _FIRST_QR + 5 * _NEXT_QR
# An unattended QR is renewed for half an hour, then once an hour: each client leaves sockets behind in Go.
_QUICK_ROUNDS = 10
_SLOW_QR = timedelta(hours=1)
# Each code rings on the phone, and WhatsApp soon refuses to give out more.
_MOST_CODES = 5
EXPIRED = "nobody has scanned the QR code: another is shown once an hour; for one at once, restart the daemon"
_TYPE_IN = (
    "enter the code on the phone: Settings > Linked devices > Link a device > Link with phone number instead"
)
_NOT_ENTERED = "nobody has entered a code: start again when the phone is at hand"
_NOT_SCANNED = "nobody has scanned a QR code: start again when the phone is at hand"


class Invitation:
    """One run's, over all its links. With a `phone` a code for that number is shown, without one QR codes.

    `attended`: somebody waits for it to be used, and is told when nobody has.
    """

    def __init__(
        self, phone: str | None, deliver: Deliver, clock: Callable[[], datetime], *, attended: bool = False
    ) -> None:
        self._phone = phone
        self._attended = attended
        self._deliver = deliver
        self._clock = clock
        self._expires_at = clock()
        self._rounds = self._codes = 0

    @property
    def advice(self) -> str | None:
        """None: scan the QR code, as the state itself says."""
        return None if self._phone is None else _TYPE_IN

    def renew(self, *, first: bool) -> datetime:
        """A link has come up with its first or another QR code. Returns when what is shown will have expired."""
        if self._phone is None:
            self._expires_at = self._clock() + (_FIRST_QR if first else _NEXT_QR)
        elif first:
            self._expires_at = self._clock() + _ALL_QRS
        return self._expires_at

    def show(self, qr: str) -> None:
        if self._phone is None:
            self._deliver(PairingCode(text=qr, expires_at=self._expires_at))

    async def ask(
        self, link: Link, on_silence: Callable[[], None], on_refusal: Callable[[PairingFailed], None]
    ) -> None:
        """To be called after a link's first QR code: a code to type in, if that is wanted, can be had from now on."""
        if self._phone is None:
            return
        if self._codes >= _MOST_CODES:
            on_refusal(PairingFailed(_NOT_ENTERED))
            return
        try:
            code = await link.pairing_code(self._phone)
        except NotConnected:
            on_silence()
        except PairingFailed as refusal:
            on_refusal(refusal)
        else:
            self._codes += 1
            self._deliver(PairingCode(by=PairBy.CODE, text=code, expires_at=self._expires_at))

    def after_expiry(self) -> timedelta | None:
        """How long nothing is shown, as EXPIRED tells; None: go on at once. Raises PairingFailed if attended."""
        self._rounds += 1
        if self._phone is not None or self._rounds < _QUICK_ROUNDS:
            return None
        if self._attended:
            raise PairingFailed(_NOT_SCANNED)
        return _SLOW_QR

    def begin_anew(self) -> None:
        """The account was linked."""
        self._rounds = self._codes = 0
