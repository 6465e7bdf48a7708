"""The WhatsApp transport: keeps one account connected and sends for it; it keeps no message and decides no reply."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import structlog

from bot.transports.base import (
    Connection,
    ConnectionState,
    Content,
    Deliver,
    NotConnected,
    Sent,
)
from bot.transports.whatsapp import library
from bot.transports.whatsapp.ears import Ears
from bot.transports.whatsapp.ids import People, is_person
from bot.transports.whatsapp.link import Link
from bot.transports.whatsapp.presence import Presence, announce
from bot.transports.whatsapp.sender import LONGEST_SEND, Prepared, Sender
from bot.transports.whatsapp.session import device_of, session_store_url, stored_devices
from bot.transports.whatsapp.threads import DaemonThreads
from bot.transports.whatsapp.watch import End, State, Watch
from storage.models import Jid

_log = structlog.get_logger(__name__)

_FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS = 2.0, 60.0
# An unattended QR is renewed for half an hour, then once an hour: each client leaves sockets behind in Go.
_QUICK_QR_ROUNDS = 10
_SLOW_QR_SECONDS = 3600.0
_MOST_LOOKUPS = 50
_EXPIRED = "the QR code has expired: ask for a new one"
_SUSPENDED = (
    "the database cannot be written, so messages wait at WhatsApp; the number comes back with the database"
)
_UNREACHABLE = "WhatsApp cannot be reached: check the network and the proxy; trying again"
_FINAL = (ConnectionState.REPLACED, ConnectionState.LOGGED_OUT, ConnectionState.OUTDATED)


class WhatsAppTransport:
    """One account. `jid` is its number as recorded when it was paired, None to pair a new one."""

    def __init__(
        self,
        *,
        account: str,
        store_dsn: str,
        jid: Jid | None,
        proxy: str | None,
        clock: Callable[[], datetime],
        longest_send: timedelta = LONGEST_SEND,
    ) -> None:
        self._account = account
        self._store_url = session_store_url(store_dsn)
        self._proxy = proxy
        self._clock = clock
        self._people = People([] if jid is None else [jid])
        self._state = State(clock, self._people)
        self._ears = Ears(account, self._people, clock, self._look_up)
        self._desk = DaemonThreads(f"whatsapp-{account}-desk", 1)
        self._device: str | None = None
        self._link: Link | None = None
        self._watch: Watch | None = None
        self._wanted = _set_event()
        self._unlinked = _set_event()
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking_up: set[Jid] = set()
        self._presence = Presence()
        self._sender = Sender(clock, longest_send, self._restart)

    @property
    def connection(self) -> Connection:
        return self._state.connection

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
            await self._keep_connected(deliver)
        finally:
            for task in self._tasks:
                task.cancel()
            if self.connection.state not in _FINAL:
                self._state.show(ConnectionState.STOPPED)
            self._state.tell(None)

    async def _keep_connected(self, deliver: Deliver) -> None:
        failures = rounds = 0
        while True:
            await self._wanted.wait()
            self._wake.clear()
            end, watch = await self._live_one_link(deliver)
            if watch.was_connected:
                failures = rounds = 0
            match end:
                case End.FINAL:
                    return
                case End.FAILED:
                    await self._pause(min(_FIRST_RETRY_SECONDS * 2**failures, _LAST_RETRY_SECONDS))
                    failures = min(failures + 1, 10)
                case End.BANNED:
                    await self._pause(watch.banned_for.total_seconds())
                case End.QR_EXPIRED:
                    rounds += 1
                    if rounds >= _QUICK_QR_ROUNDS:
                        self._state.show(ConnectionState.PAIRING, _EXPIRED)
                        await self._pause(_SLOW_QR_SECONDS)
                case End.SUSPENDED:
                    pass

    async def _live_one_link(self, deliver: Deliver) -> tuple[End, Watch]:
        link = Link(
            library.load(),
            name=self._account,
            store_url=self._store_url,
            device=self._device,
            proxy=self._proxy,
        )
        watch = Watch(link, self._state, self._people, deliver, lambda: self._spawn(announce(link)))
        self._link, self._watch = link, watch
        self._unlinked.clear()
        try:
            life = await link.start(
                {**watch.handlers, **self._ears.handlers(deliver)}, watch.on_qr, watch.on_qr_over
            )
            life.add_done_callback(lambda life: self._on_life_over(watch, life))
            return await watch.ended, watch
        finally:
            watch.cancel_timer()
            self._link = self._watch = None
            await link.stop()
            self._device = link.device or self._device
            self._unlinked.set()

    def _on_life_over(self, watch: Watch, life: "asyncio.Task[None]") -> None:
        error = None if life.cancelled() else life.exception()
        if watch.ended.done():
            return
        _log.warning("whatsapp_not_started", account=self._account, error=library.redacted(str(error)))
        self._state.show(ConnectionState.RECONNECTING, _UNREACHABLE)
        watch.end(End.FAILED)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def suspend(self) -> None:
        if self.connection.state in _FINAL:
            return
        self._wanted.clear()
        self._wake.set()
        self._state.show(ConnectionState.SUSPENDED, _SUSPENDED)
        if self._watch is not None:
            self._watch.end(End.SUSPENDED)
        await self._unlinked.wait()

    async def resume(self) -> None:
        """Also cuts a pause short: after a failure, or to see a new QR."""
        if self.connection.state is ConnectionState.SUSPENDED:
            self._state.show(ConnectionState.STARTING)
        self._wanted.set()
        self._wake.set()

    async def prepare(self, content: Content) -> Prepared:
        """Also waits until an earlier send whose caller has gone is over: the next could not start at once."""
        link = self._link if self.connection.can_send else None
        return await self._sender.prepare(content, link)

    async def send(self, to: Jid, prepared: object) -> Sent:
        """Takes what `prepare` returned, or a text's Content as it is. NotConnected while an earlier send lasts."""
        return await self._sender.send(self._connected_link(), self._people.as_sent_to(to), prepared)

    def _restart(self, link: Link) -> None:
        if self._link is link and self._watch is not None:
            _log.warning("whatsapp_send_stuck", account=self._account)
            self._state.show(ConnectionState.RECONNECTING)
            self._watch.end(End.FAILED)

    async def set_typing(self, to: Jid, typing: bool) -> None:
        if self._link is None or not self.connection.can_send:
            return
        if self._people.address(to).alt is None and is_person(to):
            # Typing comes before a send, which has no time to ask.
            self._look_up(to)
        await self._presence.show_typing(self._link, self._people.as_sent_to(to), typing)

    def _connected_link(self) -> Link:
        if self._link is None or not self.connection.can_send:
            raise NotConnected(f"WhatsApp is not connected ({self.connection.state})")
        return self._link

    def _look_up(self, jid: Jid) -> None:
        if self._link is None or jid in self._looking_up or len(self._looking_up) >= _MOST_LOOKUPS:
            return
        self._looking_up.add(jid)
        self._spawn(self._learn_other_form(jid, self._link))

    async def _learn_other_form(self, jid: Jid, link: Link) -> None:
        try:
            with suppress(NotConnected):
                other = await link.other_form(jid)
                if other is not None:
                    self._people.pair(jid, other)
        finally:
            self._looking_up.discard(jid)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event
