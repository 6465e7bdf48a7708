"""The WhatsApp transport: keeps one account connected and sends for it; it keeps no message and decides no reply."""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from bot.transports.base import (
    Connection,
    ConnectionState,
    Content,
    Deliver,
    Medium,
    NotConnected,
    Sent,
)
from bot.transports.whatsapp import download, library
from bot.transports.whatsapp.checkup import Checkup
from bot.transports.whatsapp.clients import HistoryDepth
from bot.transports.whatsapp.departures import Departures
from bot.transports.whatsapp.ears import Ears
from bot.transports.whatsapp.errands import Errands
from bot.transports.whatsapp.history import HistoryEars
from bot.transports.whatsapp.ids import People, is_person
from bot.transports.whatsapp.invitation import Invitation
from bot.transports.whatsapp.link import Handlers, Link
from bot.transports.whatsapp.patience import Patience, Random, by_chance
from bot.transports.whatsapp.phone import attentive
from bot.transports.whatsapp.presence import Presence
from bot.transports.whatsapp.rest import Rest
from bot.transports.whatsapp.sender import LONGEST_SEND, Prepared, Sender
from bot.transports.whatsapp.session import device_of, session_store_url, stored_devices
from bot.transports.whatsapp.state import State
from bot.transports.whatsapp.subjects import Subjects
from bot.transports.whatsapp.threads import DaemonThreads
from bot.transports.whatsapp.timers import Timers
from bot.transports.whatsapp.verdicts import UNREACHABLE, End
from bot.transports.whatsapp.watch import Watch
from storage.models import Jid

_log = structlog.get_logger(__name__)


class WhatsAppTransport:
    """One account. `jid` is its number as recorded when it was paired, None to pair a new one.

    It is paired by QR code, or, with the `phone` number to be linked, by a code to type in there. `attended`:
    somebody stands by to do so, and `run` raises PairingFailed when that has taken too long.
    """

    def __init__(
        self,
        *,
        account: str,
        store_dsn: str,
        jid: Jid | None,
        proxy: str | None,
        clock: Callable[[], datetime],
        history: HistoryDepth = "recent",
        phone: str | None = None,
        attended: bool = False,
        longest_send: timedelta = LONGEST_SEND,
        patience: Patience = Patience(),  # noqa: B008 - frozen
        chance: Random = by_chance,
    ) -> None:
        self._account = account
        self._store_url = session_store_url(store_dsn)
        self._proxy = proxy
        self._clock = clock
        self._phone = phone
        self._attended = attended
        self._patience = patience
        self._people = People([] if jid is None else [jid])
        self._state = State(clock, self._people, patience.quiet_phone)
        self._rest = Rest(self._state, clock, patience, chance)
        self._timers = Timers(self._people)
        self._errands = Errands(self._people)
        self._subjects = Subjects(self._people, self._errands.describe)
        self._ears = Ears(
            account,
            self._people,
            self._timers,
            clock,
            self._errands.look_up,
            self._errands.open_vote,
            self._subjects,
        )
        self._past = HistoryEars(account, self._people, clock, history)
        self._history = history
        self._desk = DaemonThreads(f"whatsapp-{account}-desk", 1)
        self._departures = Departures()
        self._device: str | None = None
        self._link: Link | None = None
        self._watch: Watch | None = None
        self._unlinked = asyncio.Event()
        self._unlinked.set()
        self._is_over = False
        self._presence = Presence()
        self._checkup = Checkup(account, self._state, patience)
        self._sender = Sender(
            clock,
            longest_send,
            self._timers,
            self._restart,
            patience.acknowledgement,
            self._checkup.on_slow_send,
        )

    @property
    def connection(self) -> Connection:
        return self._state.connection

    @property
    def one_at_a_time(self) -> bool:
        return True

    @property
    def dropped(self) -> Counter[str]:
        """How many events were no message of a chat, by reason; `undecryptable` ones among them."""
        return self._ears.dropped

    async def run(self, deliver: Deliver) -> None:
        neonize = await self._desk.call(library.load)
        library.bind_loop(asyncio.get_running_loop())
        self._state.tell(deliver)
        self._state.show(ConnectionState.STARTING)
        try:
            devices = await self._desk.call(stored_devices, neonize, self._store_url)
            # A JID that has no session must never reach neonize: Go would abort the process.
            self._device = next(
                (found for jid in self._people.own if (found := device_of(devices, jid))), None
            )
            looking = asyncio.create_task(self._checkup.keep_looking())
            try:
                await self._keep_connected(deliver)
            finally:
                looking.cancel()
        finally:
            await self._departures.end()
            self._errands.cancel()
            if not self._is_over:
                self._state.show(ConnectionState.STOPPED)
            self._state.tell(None)

    async def _keep_connected(self, deliver: Deliver) -> None:
        invitation = Invitation(self._phone, deliver, self._clock, attended=self._attended)
        while True:
            await self._rest.until_wanted()
            end, watch = await self._live_one_link(deliver, invitation)
            if end is End.FINAL:
                self._is_over = True
                return
            await self._rest.after(end, watch, invitation)

    async def _live_one_link(self, deliver: Deliver, invitation: Invitation) -> tuple[End, Watch]:
        link = Link(
            library.load(),
            name=self._account,
            store_url=self._store_url,
            device=self._device,
            proxy=self._proxy,
            history=self._history,
        )
        watch = Watch(
            link,
            self._state,
            self._people,
            deliver,
            self._clock,
            self._patience,
            invitation,
            on_qr_phase=lambda: self._errands.run(invitation.ask(link, watch.give_up, watch.fail)),
            on_connected=lambda: self._errands.run(self._presence.announce(link)),
            on_doubt=lambda reason: self._checkup.on_doubt(link, reason),
            confirm=lambda then: self._errands.confirm_connection(link, then),
        )
        _log.info("whatsapp_link_started", account=self._account)
        self._link, self._watch = link, watch
        self._checkup.attend(link, watch)
        self._errands.attend(link)
        self._unlinked.clear()
        try:
            watch.expect_login()
            life = await link.start(
                {**watch.handlers, **self._hearing(deliver)},
                watch.on_qr,
                watch.on_qr_over,
                # What has waited comes before "connected", and may name the account by its LID.
                on_first=lambda: self._people.be(*link.own),
            )
            life.add_done_callback(lambda life: self._on_life_over(watch, life))
            return await watch.ended, watch
        finally:
            watch.cancel_timer()
            self._link = self._watch = None
            self._errands.attend(None)
            self._checkup.leave()
            await self._past.all_come()
            await link.leave()
            if not link.has_heard:
                # It may be connecting just now, which only a stop prevents.
                await link.close()
            self._departures.add(link)
            self._device = link.device or self._device
            self._unlinked.set()

    def _hearing(self, deliver: Deliver) -> Handlers:
        ears = attentive(self._ears.handlers(deliver), self._state.phone_heard)
        return self._past.beside({**ears, **self._subjects.handlers(deliver)}, deliver)

    def _on_life_over(self, watch: Watch, life: "asyncio.Task[None]") -> None:
        error = "" if life.cancelled() else str(life.exception())
        if not watch.ended.done():
            watch.on_life_over(error)
            tell = _log.debug if watch.verdict is UNREACHABLE else _log.warning
            tell("whatsapp_library_ended", account=self._account, error=library.redacted(error))

    async def suspend(self) -> None:
        if self._is_over:
            return
        self._rest.suspend()
        self._state.show(ConnectionState.SUSPENDED)
        if self._watch is not None:
            self._watch.end(End.SUSPENDED)
        await self._unlinked.wait()

    async def resume(self) -> None:
        """Also cuts a pause short: after a failure, or to see a new QR."""
        if self.connection.state is ConnectionState.SUSPENDED:
            self._state.show(ConnectionState.STARTING)
        self._rest.resume()

    async def unlink(self) -> None:
        """WhatsApp takes this device off the phone's list; the session is gone, and `run` returns."""
        link, watch = self._connected_link(), self._watch
        try:
            await link.unlink()
        except NotConnected:
            # The server may have thrown us out before its answer came.
            if self.connection.state is not ConnectionState.LOGGED_OUT:
                raise
        if watch is not None:
            watch.unlinked()

    async def prepare(self, content: Content) -> Prepared:
        """Also waits until an earlier send whose caller has gone is over: the next could not start at once."""
        link = self._link if self.connection.can_send else None
        return await self._sender.prepare(content, link)

    async def download(self, raw: str, *, most_bytes: int) -> Medium:
        ticket = download.ticket_of(library.load(), raw, most_bytes)
        if self._link is None or not self.connection.can_receive:
            raise NotConnected(f"WhatsApp is not connected ({self.connection.state})")
        return await download.fetch(self._link, ticket, most_bytes)

    async def send(self, to: Jid, prepared: object) -> Sent:
        """Takes what `prepare` returned, or a text's Content as it is. NotConnected while an earlier send lasts."""
        link = self._connected_link()
        try:
            return await self._sender.send(link, self._people.as_sent_to(to), prepared)
        finally:
            if self._presence.is_typing(to):
                self._errands.run(self._presence.has_sent(link, to))

    def _restart(self, link: Link) -> None:
        if self._link is link and self._watch is not None:
            _log.warning("whatsapp_send_stuck", account=self._account)
            self._watch.give_up()

    async def set_typing(self, to: Jid, typing: bool) -> None:
        if self._link is None or not self.connection.can_send:
            return
        if self._people.address(to).alt is None and is_person(to):
            # Typing comes before a send, which has no time to ask.
            self._errands.look_up(to)
        await self._presence.show_typing(self._link, to, typing, sent_to=self._people.as_sent_to(to))

    def _connected_link(self) -> Link:
        if self._link is None or not self.connection.can_send:
            raise NotConnected(f"WhatsApp is not connected ({self.connection.state})")
        return self._link
