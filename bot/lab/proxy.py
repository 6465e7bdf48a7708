"""The only way from a client to the lab: an HTTP proxy that ends TLS for WhatsApp's hosts and refuses all others.

Nothing is ever dialled from here, so nothing can leave the machine through it.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from bot.lab import web
from bot.lab.certificate import Certificate
from bot.lab.errors import ProtocolError
from bot.lab.network import Pace, slowed

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_DOMAINS = (".whatsapp.com", ".whatsapp.net")
_PORT = 443
# What a client that goes away looks like from here.
_GONE = (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError)


class Proxy:
    def __init__(self, certificate: Certificate, serve: Serve) -> None:
        self.refused: list[str] = []  # "METHOD target" of each request that was turned away
        self.failures: list[BaseException] = []  # what went wrong in `serve`; a lab that stops raises it
        self._context, self._serve = certificate.server_context(), serve
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._down = False
        self._resets = 0
        self._pace: Pace | None = None

    @property
    def url(self) -> str:
        if self._server is None:
            raise RuntimeError("the lab is not running")
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"http://{host}:{port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self.cut()
            await self._server.wait_closed()
            self._server = None

    async def cut(self) -> None:
        """Resets every connection, as a network does that fails."""
        tasks = list(self._open)
        for writer in list(self._open.values()):
            writer.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def go_down(self) -> None:
        """Cuts, and refuses new connections until `come_back`."""
        self._down = True
        await self.cut()

    def come_back(self) -> None:
        self._down = False

    def reset_next(self, times: int) -> None:
        """The next connections, so many of them, are reset instead of being accepted."""
        self._resets = times

    @contextmanager
    def slow(self, pace: Pace) -> Iterator[None]:
        """Connections that are made within the block are slow, and stay so."""
        self._pace = pace
        try:
            yield
        finally:
            self._pace = None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._attend(reader, writer))
        self._open[task] = writer
        task.add_done_callback(self._closed)

    def _closed(self, task: "asyncio.Task[None]") -> None:
        del self._open[task]
        if not task.cancelled() and (failure := task.exception()) is not None:
            self.failures.append(failure)

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._down or self._resets:
                self._resets = max(0, self._resets - 1)
                writer.transport.abort()
            elif await self._admit(reader, writer):
                await self._connect(reader, writer)
        except _GONE:
            pass
        finally:
            writer.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._pace is None:
            await self._serve(reader, writer)
            return
        async with slowed(reader, writer, self._pace) as (late_reader, late_writer):
            await self._serve(late_reader, late_writer)

    async def _admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            request = await web.read_request(reader)
        except ProtocolError:
            return False
        host, _, port = request.target.rpartition(":")
        if request.method != "CONNECT" or port != str(_PORT) or not host.endswith(_DOMAINS):
            self.refused.append(f"{request.method} {request.target}")
            await web.respond(writer, "403 Forbidden")
            return False
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        plain = writer.transport
        try:
            await writer.start_tls(self._context)
        except AttributeError:
            # Cut at the very end of the handshake: Python leaves a writer that could not even be closed.
            writer._transport = plain  # type: ignore[attr-defined] # there is no public way to give it one
            return False
        return True
