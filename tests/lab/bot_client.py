"""The real neonize, driven without the daemon: what it was told, and its calls; a thin wall, no behaviour."""

import asyncio
import uuid
from pathlib import Path
from typing import Any

from neonize._binder import ProxySettings, gocode
from neonize.aioze.client import NewAClient
from neonize.aioze.events import (
    ChatPresenceEv,
    ConnectedEv,
    DisconnectedEv,
    GroupInfoEv,
    HistorySyncEv,
    JoinedGroupEv,
    LoggedOutEv,
    MessageEv,
    PresenceEv,
    ReceiptEv,
    StreamReplacedEv,
)
from neonize.events import UndecryptableMessageEv

from bot.lab.timeline import PATIENCE, Timeline
from bot.transports.whatsapp import clients, library
from bot.transports.whatsapp.threads import DaemonThreads, GoCalls

library.load()  # mends what neonize declares wrongly

EVENTS = (
    ChatPresenceEv,
    ConnectedEv,
    DisconnectedEv,
    GroupInfoEv,
    JoinedGroupEv,
    HistorySyncEv,
    LoggedOutEv,
    MessageEv,
    PresenceEv,
    ReceiptEv,
    StreamReplacedEv,
    UndecryptableMessageEv,
)


# The library's own SQLite gives up after five seconds, and at once where two transactions both read before they write:
# on a busy machine its first look at an account's state failed so. It appends a query of its own to the last word.
_PATIENT = "?_foreign_keys=on&_busy_timeout=60000&_txlock=immediate&rest="

# Go may log through a client's callbacks long after its stop; collected, they would be a call into freed memory.
_kept: list[NewAClient] = []


class BotClient:
    """One client on one store. What comes in is noted by kind: `messages`, `receipts`, `events` for the rest."""

    def __init__(self, store: Path, proxy_url: str) -> None:
        self.qr_codes: Timeline[str] = Timeline()
        self.messages: Timeline[Any] = Timeline()
        self.receipts: Timeline[Any] = Timeline()
        self.events: Timeline[Any] = Timeline()
        self._proxy_url = proxy_url
        # A unique id: a collected client stops whichever client has the same one.
        self.api = NewAClient(f"{store}{_PATIENT}", uuid=str(uuid.uuid4()))
        # Through the gate, as everybody: Go aborts when one client starts or stops while another is looked up.
        self.api._NewAClient__client = self._calls = GoCalls(gocode, "bare")
        _kept.append(self.api)
        self.api.qr(self._show_qr)
        for event in EVENTS:
            self.api.event(event)(self._note)

    async def connect(self) -> None:
        clients.hear_login_status(self.api, self._calls, asyncio.get_running_loop(), lambda _: None)
        clients.hear_first_word(self.api, self._calls)
        await self.api.connect(ProxySettings(self._proxy_url))

    async def connected(self, *, within: float = PATIENCE) -> None:
        await self.event(ConnectedEv, within=within)

    async def event(self, kind: type, *, within: float = PATIENCE) -> Any:
        return await self.events.expect(
            lambda event: isinstance(event, kind), within=within, what=kind.__name__
        )

    async def message(self, text: str, *, within: float = PATIENCE) -> Any:
        return await self.messages.expect(
            lambda message: text_of(message) == text, within=within, what=repr(text)
        )

    async def receipt(self, kind: int, *, within: float = PATIENCE) -> Any:
        return await self.receipts.expect(
            lambda receipt: receipt.Type == kind, within=within, what=f"a receipt of type {kind}"
        )

    async def stop(self) -> None:
        self._calls.retire()
        threads = DaemonThreads("bare-stop", 1)
        await threads.call(self._calls.stop, self.api.uuid)
        threads.finish()
        self.api._stop_finalizer.detach()  # It would stop this client again, whatever else Go is doing then.

    async def _show_qr(self, _: Any, code: bytes) -> None:
        self._calls.started()
        self.qr_codes.note(code.decode())

    async def _note(self, _: Any, event: Any) -> None:
        if isinstance(event, MessageEv) and event.Info.Category != "peer":
            self.messages.note(event)
        elif isinstance(event, ReceiptEv):
            self.receipts.note(event)
        else:
            self.events.note(event)


def text_of(event: Any) -> str:
    message = event.Message
    text: str = message.conversation or message.extendedTextMessage.text or message.imageMessage.caption
    return text
