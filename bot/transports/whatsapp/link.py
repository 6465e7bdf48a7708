"""One neonize client from its start to its end: calls Go safely, hears its events; decides nothing about them."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from bot.transports.base import NotConnected
from bot.transports.whatsapp import clients, outcome
from bot.transports.whatsapp.clients import HistoryDepth
from bot.transports.whatsapp.ids import parse_jid, server_of, to_jid, to_proto
from bot.transports.whatsapp.library import Neonize, redacted
from bot.transports.whatsapp.threads import DaemonThreads, GoCalls, disconnect_client
from storage.models import LID_SERVER, Jid

_log = structlog.get_logger(__name__)

_LONGEST_DOWNLOAD_SECONDS = 300.0
_DISCONNECT_SECONDS, _ONCE_MORE_SECONDS = 0.8, 0.2
_LOOK_SECONDS, _QUIET_SECONDS = 0.05, 0.15
# On a busy machine what the library has handed over takes its time to come; where nothing comes nobody waits for it.
_DRAIN_SECONDS = 1.0
_STOP_SECONDS = 0.5
# How whatsmeow's error begins when the server has answered a query, if only to refuse it.
_ANSWERED = "info query returned"

Handlers = Mapping[str, Callable[[Any], None]]
"""What to do with an event, by the name of its class in `neonize.events`."""


class Nameless(NotConnected):
    """WhatsApp takes no presence from an account without a push name, and the phone has not told it yet."""


class Link:
    """Events are handled in their order, on the loop, each before the next."""

    def __init__(
        self,
        neonize: Neonize,
        *,
        name: str,
        store_url: str,
        device: str | None,
        proxy: str | None,
        history: HistoryDepth = "recent",
    ) -> None:
        self._neonize = neonize
        self._name = name
        self._proxy = proxy
        self._calls = GoCalls(neonize.go, f"whatsapp-{name}")
        self._client = clients.new(neonize, name, store_url, device, history, self._calls)
        self._stopping = DaemonThreads(f"whatsapp-{name}-stop", 1)
        self._life: asyncio.Task[None] | None = None
        self._is_heard = self._in_go = False
        self._left = self._stopped = self._closed = False
        self._heard_at = 0.0
        self.sends = 0

    @property
    def account(self) -> str:
        """Its name, for the log."""
        return self._name

    async def start(
        self,
        handlers: Handlers,
        on_qr: Callable[[str], None],
        on_qr_over: Callable[[str], None],
        *,
        on_first: Callable[[], None] = lambda: None,
    ) -> "asyncio.Task[None]":
        """Connects. The task ends when the client cannot start; its error is neonize's.

        `on_first` comes before the first event but QR codes: from then on `own` is known.
        """
        self._on_first = on_first
        loop = asyncio.get_running_loop()
        clients.hear_login_status(self._client, self._calls, loop, on_qr_over)
        clients.hear_unreadable(self._neonize, self._client, loop, self._on_unreadable)
        clients.hear_first_word(self._client, self._calls)
        for name, handler in handlers.items():
            self._client.event(getattr(self._neonize.events, name))(self._hearing(name, handler))
        self._client.qr(self._hearing("QR", lambda code: on_qr(code.decode())))
        proxy = None if self._proxy is None else self._neonize.binder.ProxySettings(self._proxy)
        self._life = await self._client.connect(proxy)
        return self._life

    def _hearing(self, name: str, handler: Callable[[Any], None]) -> Callable[[Any, Any], Any]:
        async def on_event(_client: Any, event: Any) -> None:
            # No await in here: neonize starts handlers in the order of their events, then lets them run side by side.
            self._heard_at = time.monotonic()
            if name == "QR":
                self._calls.started()
            if self._closed:
                return
            is_first = name != "QR" and not self._in_go
            self._is_heard, self._in_go = True, self._in_go or is_first
            try:
                if is_first:
                    self._on_first()
                handler(event)
            except Exception as exc:  # noqa: BLE001 - neonize would lose it without a word
                _log.error("whatsapp_event_failed", account=self._name, event_type=name, exc_info=exc)

        return on_event

    def _on_unreadable(self, name: str, salvaged: Any) -> None:
        _log.error("whatsapp_event_unreadable", account=self._name, event_type=name)
        handler = self._client.event.list_func.get(clients.MESSAGE)
        if salvaged is not None and handler is not None:
            asyncio.get_running_loop().create_task(handler(self._client, salvaged))

    @property
    def own(self) -> tuple[Jid | None, Jid | None]:
        """The account's phone number and LID, as far as neonize has told."""
        me = self._client.me
        return (None, None) if me is None else (to_jid(me.JID), to_jid(me.LID))

    @property
    def device(self) -> str | None:
        me = self._client.me
        if me is None or parse_jid(f"{me.JID.User}@{me.JID.Server}") is None:
            return None
        return f"{me.JID.User}:{me.JID.Device}@{me.JID.Server}"

    @property
    def has_heard(self) -> bool:
        """Whether the library has told anything that it had from WhatsApp, but for QR codes."""
        return self._in_go

    @property
    def sending(self) -> bool:
        return self._calls.sending

    async def ready_to_send(self) -> None:
        """Comes back when no send is on its way any more, and the next could start at once."""
        await self._calls.ready_to_send()

    async def send(self, to: Any, message: Any) -> Any:
        """Neonize's SendResponse. The call is on its thread before the first await of this returns control."""
        self.sends += 1
        return await self._client.send_message(to, message)

    async def upload(self, data: bytes, media_type: Any) -> Any:
        self._check()
        try:
            return await self._client.upload(data, media_type)
        except self._neonize.errors.UploadError as exc:
            raise outcome.of_upload(str(exc)) from exc

    async def download(self, message: Any) -> bytes:
        """The file that this message names. Cancelled, it goes on in Go to its end, unheard."""
        self._check()
        try:
            async with asyncio.timeout(_LONGEST_DOWNLOAD_SECONDS):
                data: bytes = await self._client.download_any(message)
        except TimeoutError as exc:
            raise NotConnected("WhatsApp's media server takes too long") from exc
        except self._neonize.errors.DownloadError as exc:
            raise outcome.of_download(str(exc)) from exc
        return data

    async def other_form(self, jid: Jid) -> Jid | None:
        """The phone number of a LID, the LID of a phone number, if the session store knows; asks no server."""
        self._check()
        proto = to_proto(self._neonize.protocol, jid)
        to_phone = server_of(jid) == LID_SERVER
        ask = self._client.get_pn_from_lid if to_phone else self._client.get_lid_from_pn
        try:
            return to_jid(await ask(proto))
        except self._neonize.errors.GetJIDFromStoreError:
            return None

    async def describe(self, group: Jid) -> Any:
        """What WhatsApp says of a group, as neonize's GroupInfo; None if it will not tell."""
        self._check()
        try:
            return await self._client.get_group_info(to_proto(self._neonize.protocol, group))
        except self._neonize.errors.GetGroupInfoError:
            return None

    async def ask_for_lid(self, phone: Jid) -> Jid | None:
        """Asks WhatsApp for the LID of a phone number. For the number of a LID nobody can ask."""
        self._check()
        try:
            # The answer leaves the LID out, but the session store has it from then on.
            await self._client.get_user_info(to_proto(self._neonize.protocol, phone))
        except self._neonize.errors.GetUserInfoError as exc:
            raise NotConnected(redacted(str(exc))) from exc
        return await self.other_form(phone)

    async def pairing_code(self, phone: str) -> str:
        """Eight characters for the owner of this number to type in; once a QR code has been heard of.

        Before that the client is not in Go, which aborts the process. Raises PairingFailed or NotConnected.
        """
        if self._closed or not self._is_heard:
            raise NotConnected("WhatsApp is not connected")
        # WhatsApp takes the name of a well-known browser only, and rings the owner's phone if asked to.
        shown_as = self._neonize.enums.ClientType.CHROME
        try:
            return str(await self._client.PairPhone(phone, True, client_type=shown_as))
        except self._neonize.errors.PairPhoneError as exc:
            raise outcome.of_pairing_code(str(exc)) from exc

    async def unlink(self) -> None:
        """Asks WhatsApp to take this device off the account; the library forgets the session then."""
        self._check()
        try:
            await self._client.logout()
        except self._neonize.errors.LogoutError as exc:
            raise NotConnected(f"WhatsApp did not unlink this device: {redacted(str(exc))}") from exc

    async def is_logged_in(self) -> bool:
        """Whether the library thinks so; asks no server."""
        self._check()
        return bool(await self._client.is_logged_in)

    async def is_there(self) -> bool:
        """Whether the library has a connection; asks no server."""
        self._check()
        return bool(await self._client.is_connected)

    async def answers(self, *, within: float) -> bool:
        """Whether WhatsApp is there, found out by saying once more what is said after each login: we are active.

        Anything that is heard within these seconds is an answer, too.
        """
        asked_at = time.monotonic()
        try:
            # Without a time limit: another client that starts may hold up every call, and that is no silence.
            if not await self.is_logged_in():
                return False
            async with asyncio.timeout(within):
                await self._client.set_passive(False)
        except NotConnected:
            return False
        except TimeoutError:
            return self._heard_at > asked_at
        except self._neonize.errors.SetPassiveError as exc:
            return str(exc).startswith(_ANSWERED)
        return True

    async def open_vote(self, event: Any) -> Sequence[bytes] | None:
        """The hashes of the options that a poll's voter has chosen, None if the poll's secret is not known."""
        self._check()
        try:
            vote = await self._client.decrypt_poll_vote(event)
        except self._neonize.errors.DecryptPollVoteError:
            return None
        return tuple(vote.selectedOptions)

    async def be_seen(self, available: bool) -> None:
        """Raises NotConnected; Nameless as long as the account has no push name."""
        self._check()
        presence = self._neonize.enums.Presence
        try:
            await self._client.send_presence(presence.AVAILABLE if available else presence.UNAVAILABLE)
        except self._neonize.errors.SendPresenceError as exc:
            if "PushName" in str(exc):
                raise Nameless("presence was not taken: the account has no push name yet") from exc
            raise NotConnected(redacted(str(exc))) from exc

    async def acknowledge_deliveries(self) -> None:
        """Customers see two ticks although we are not "online"."""
        self._check()
        await self._client.set_force_activate_delivery_receipts(True)

    async def show_typing(self, to: Any, typing: bool) -> None:
        self._check()
        state, media = self._neonize.enums.ChatPresence, self._neonize.enums.ChatPresenceMedia
        shown = state.CHAT_PRESENCE_COMPOSING if typing else state.CHAT_PRESENCE_PAUSED
        try:
            await self._client.send_chat_presence(to, shown, media.CHAT_PRESENCE_MEDIA_TEXT)
        except self._neonize.errors.SendPresenceError as exc:
            raise NotConnected(redacted(str(exc))) from exc

    def _check(self) -> None:
        # Most Go functions abort the process if their client is not there yet, or not any more.
        if self._left or not self._in_go:
            raise NotConnected("WhatsApp is not connected")

    async def leave(self) -> None:
        """Disconnects, within 2 seconds. What WhatsApp had already delivered is still heard."""
        self._left = True
        self._client._stop_finalizer.detach()  # It would stop this client again, at exit and on the main thread.
        await self._disconnect(_DISCONNECT_SECONDS)
        await self._drain()
        # The library may have been about to reconnect, which undoes a disconnection of that very moment.
        await self._disconnect(_ONCE_MORE_SECONDS)

    async def _disconnect(self, wait_for: float) -> None:
        call = self._stopping.call(disconnect_client, self._neonize.go, self._client.uuid)
        await asyncio.wait([call], timeout=wait_for)

    async def close(self) -> None:
        """Lets go of the client, within a second, or later by itself where others are starting. Only after `leave`."""
        if self._stopped:
            return
        self._stopped = True
        self._calls.retire()
        await asyncio.wait([self._stopping.call(self._calls.stop, self._client.uuid)], timeout=_STOP_SECONDS)
        self._stopping.finish()
        if self._life is not None:
            await asyncio.wait([self._life], timeout=_STOP_SECONDS)

    def stop_hearing(self) -> None:
        """What has not come by now is lost."""
        self._closed = True
        self._client.event.list_func.clear()

    async def _drain(self) -> None:
        began = time.monotonic()
        while (now := time.monotonic()) < began + _DRAIN_SECONDS:
            if now - max(began, self._heard_at) > _QUIET_SECONDS and not self._calls.outstanding:
                return
            await asyncio.sleep(_LOOK_SECONDS)
