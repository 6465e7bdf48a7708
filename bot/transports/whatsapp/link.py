"""One neonize client from its start to its end: calls Go safely, hears its events; decides nothing about them."""

import asyncio
import ctypes
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from bot.transports.base import NotConnected, TransportError
from bot.transports.whatsapp import outcome
from bot.transports.whatsapp.ids import device_to_proto, parse_jid, server_of, to_jid, to_proto
from bot.transports.whatsapp.library import Neonize, redacted
from bot.transports.whatsapp.threads import DaemonThreads, GoCalls, stop_client
from storage.models import LID_SERVER, Jid

_log = structlog.get_logger(__name__)

_DISCONNECT_SECONDS = 0.8
_QUIET_SECONDS = 0.05
_DRAIN_SECONDS = 0.4
_STOP_SECONDS = 0.5
# One client at a time enters Go's plain maps: two at once abort the process. Until it is heard of, or so long.
_starting = asyncio.Lock()
_REGISTERED_SECONDS = 1.0
# Go may log through a client's callbacks long after its stop; collected, they would be a call into freed memory.
_kept: list[object] = []

Handlers = Mapping[str, Callable[[Any], None]]
"""What to do with an event, by the name of its class in `neonize.events`."""


class Link:
    """Events are handled in their order, on the loop, each before the next."""

    def __init__(
        self, neonize: Neonize, *, name: str, store_url: str, device: str | None, proxy: str | None
    ) -> None:
        self._neonize = neonize
        self._name = name
        self._proxy = proxy
        # Unique: the uuid names the client in Go, and a collected client stops whatever has its name.
        client = neonize.client.NewAClient(
            store_url, uuid=f"{name}-{uuid.uuid4().hex}", new_device=device is None, props=_shown_as(neonize)
        )
        # Set afterwards, because the constructor would make the JID's user the client's name.
        client.jid = None if device is None else device_to_proto(neonize.protocol, device)
        self._calls = GoCalls(neonize.go, f"whatsapp-{name}")
        _replace_calls(client, self._calls)
        self._client = client
        _kept.append(client)
        self._life: asyncio.Task[None] | None = None
        self._sign_of_life: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._in_go = False
        self._closed = False
        self._heard_at = 0.0
        self.sends = 0

    async def start(
        self, handlers: Handlers, on_qr: Callable[[str], None], on_qr_over: Callable[[str], None]
    ) -> "asyncio.Task[None]":
        """Connects. The task ends when the client cannot start; its error is neonize's."""
        _hear_login_status(self._client, asyncio.get_running_loop(), on_qr_over)
        for name, handler in handlers.items():
            self._client.event(getattr(self._neonize.events, name))(self._hearing(name, handler))
        self._client.qr(self._hearing("QR", lambda code: on_qr(code.decode())))
        proxy = None if self._proxy is None else self._neonize.binder.ProxySettings(self._proxy)
        async with _starting:
            life: asyncio.Task[None] = await self._client.connect(proxy)
            self._life = life
            await asyncio.wait(
                [life, self._sign_of_life], timeout=_REGISTERED_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
        return life

    def _hearing(self, name: str, handler: Callable[[Any], None]) -> Callable[[Any, Any], Any]:
        async def on_event(_client: Any, event: Any) -> None:
            # No await in here: neonize starts handlers in the order of their events, then lets them run side by side.
            self._heard_at = time.monotonic()
            if self._closed:
                return
            self._in_go = self._in_go or name != "QR"
            if not self._sign_of_life.done():
                self._sign_of_life.set_result(None)
            try:
                handler(event)
            except Exception as exc:  # noqa: BLE001 - neonize would lose it without a word
                _log.error("whatsapp_event_failed", account=self._name, event_type=name, exc_info=exc)

        return on_event

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
    def sending(self) -> bool:
        return self._calls.sending

    async def sent_all(self) -> None:
        """Returns when no send is on its way any more."""
        await self._calls.after_sends()

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

    async def be_seen(self, available: bool) -> None:
        """Raises NotConnected, also as long as the account has no push name: WhatsApp wants one for it."""
        self._check()
        presence = self._neonize.enums.Presence
        try:
            await self._client.send_presence(presence.AVAILABLE if available else presence.UNAVAILABLE)
        except self._neonize.errors.SendPresenceError as exc:
            raise NotConnected(
                "presence was not taken: the account has no push name yet, or is not connected"
            ) from exc

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
        if self._closed or not self._in_go:
            raise NotConnected("WhatsApp is not connected")

    async def stop(self) -> None:
        """Disconnects and lets go within 2 seconds. What WhatsApp had already delivered is still heard."""
        stopping = DaemonThreads(f"whatsapp-{self._name}-stop", 1)
        uuid_, go = self._client.uuid, self._neonize.go
        await asyncio.wait([stopping.call(go.Disconnect, uuid_)], timeout=_DISCONNECT_SECONDS)
        await self._drain()
        self._closed = True
        self._client.event.list_func.clear()
        self._calls.retire(uuid_)
        await asyncio.wait([stopping.call(stop_client, go, uuid_)], timeout=_STOP_SECONDS)
        stopping.finish()
        self._client._stop_finalizer.detach()  # It would stop this client again, at exit and on the main thread.
        if self._life is not None:
            await asyncio.wait([self._life], timeout=_STOP_SECONDS)

    async def _drain(self) -> None:
        give_up_at = time.monotonic() + _DRAIN_SECONDS
        while time.monotonic() < give_up_at:
            await asyncio.sleep(_QUIET_SECONDS)
            if time.monotonic() - self._heard_at > _QUIET_SECONDS and not self._calls.outstanding:
                return


def _shown_as(neonize: Neonize) -> Any:
    """How the owner's phone names us in its list of linked devices."""
    properties = neonize.properties.DeviceProps
    return properties(os="Sidestep", platformType=properties.DESKTOP)


def _hear_login_status(
    client: Any, loop: asyncio.AbstractEventLoop, on_status: Callable[[str], None]
) -> None:
    """Neonize drops it, yet it is all that tells of a connection lost, or refused, while a QR is shown."""

    def from_go(_uuid: int, status: int) -> None:
        loop.call_soon_threadsafe(on_status, ctypes.string_at(status).decode(errors="replace"))

    client._NewAClient__onLoginStatus = from_go


def _replace_calls(client: Any, calls: GoCalls) -> None:
    if not hasattr(client, "_NewAClient__client") or not hasattr(client, "_stop_finalizer"):
        raise TransportError("this version of neonize is built differently: its threads cannot be replaced")
    client._NewAClient__client = calls
