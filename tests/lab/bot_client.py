"""The real neonize, driven without the daemon: what it was told, and its calls; a thin wall, no behaviour."""

import asyncio
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from neonize._binder import ProxySettings, gocode
from neonize.aioze.client import NewAClient
from neonize.aioze.events import (
    ChatPresenceEv,
    ConnectedEv,
    DisconnectedEv,
    LoggedOutEv,
    MessageEv,
    ReceiptEv,
    StreamReplacedEv,
)
from neonize.events import UndecryptableMessageEv

from bot.lab.timeline import Timeline

EVENTS = (
    ChatPresenceEv,
    ConnectedEv,
    DisconnectedEv,
    LoggedOutEv,
    MessageEv,
    ReceiptEv,
    StreamReplacedEv,
    UndecryptableMessageEv,
)


class _Calls:
    """The Go library's functions, each client's endless one in a daemon thread of its own.

    neonize would park it in asyncio's default executor, which has too few threads for several clients.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="neonize-call")

    def __getattr__(self, name: str) -> Callable[..., asyncio.Future[Any]]:
        function = getattr(gocode, name)

        def call(*args: Any) -> asyncio.Future[Any]:
            loop = asyncio.get_running_loop()
            if name == "Neonize":
                return _in_daemon_thread(loop, function, args)
            return loop.run_in_executor(self._pool, function, *args)

        return call


def _in_daemon_thread(
    loop: asyncio.AbstractEventLoop, function: Callable[..., Any], args: tuple[Any, ...]
) -> asyncio.Future[Any]:
    ended: asyncio.Future[Any] = loop.create_future()

    def settle(result: Any) -> None:
        if not ended.done():
            ended.set_result(result)

    def run() -> None:
        result = function(*args)
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result)

    threading.Thread(target=run, daemon=True, name="neonize-client").start()
    return ended


class BotClient:
    """One client on one store. What comes in is noted by kind: `messages`, `receipts`, `events` for the rest."""

    def __init__(self, store: Path, proxy_url: str) -> None:
        self.qr_codes: Timeline[str] = Timeline()
        self.messages: Timeline[Any] = Timeline()
        self.receipts: Timeline[Any] = Timeline()
        self.events: Timeline[Any] = Timeline()
        self._proxy_url = proxy_url
        # A unique id: a collected client stops whichever client has the same one.
        self.api = NewAClient(str(store), uuid=str(uuid.uuid4()))
        self.api._NewAClient__client = _Calls()
        self.api.qr(self._show_qr)
        for event in EVENTS:
            self.api.event(event)(self._note)

    async def connect(self) -> None:
        await self.api.connect(ProxySettings(self._proxy_url))

    async def connected(self, *, within: float = 20) -> None:
        await self.event(ConnectedEv, within=within)

    async def event(self, kind: type, *, within: float = 20) -> Any:
        return await self.events.expect(
            lambda event: isinstance(event, kind), within=within, what=kind.__name__
        )

    async def message(self, text: str, *, within: float = 10) -> Any:
        return await self.messages.expect(
            lambda message: text_of(message) == text, within=within, what=repr(text)
        )

    async def receipt(self, kind: int, *, within: float = 10) -> Any:
        return await self.receipts.expect(
            lambda receipt: receipt.Type == kind, within=within, what=f"a receipt of type {kind}"
        )

    async def stop(self) -> None:
        await self.api.stop()

    async def _show_qr(self, _: Any, code: bytes) -> None:
        self.qr_codes.note(code.decode())

    async def _note(self, _: Any, event: Any) -> None:
        if isinstance(event, MessageEv):
            self.messages.note(event)
        elif isinstance(event, ReceiptEv):
            self.receipts.note(event)
        else:
            self.events.note(event)


def text_of(event: Any) -> str:
    message = event.Message
    text: str = message.conversation or message.extendedTextMessage.text or message.imageMessage.caption
    return text
