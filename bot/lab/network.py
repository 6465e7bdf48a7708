"""The network between a client and the server, when it is slow: passes bytes on, late and a few at a time."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

_CHUNK_BYTES = 1400  # about what one packet carries

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """One way's `latency` in seconds, and how many bytes get through in a second; None: as many as come."""

    latency: float = 0.0
    bytes_per_second: float | None = None


@asynccontextmanager
async def slowed(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pace: Pace
) -> AsyncIterator[Streams]:
    """The server's end of a slow line, whose client's end this reader and this writer are."""
    inner, outer = socket.socketpair()
    ends = await asyncio.open_connection(sock=inner), await asyncio.open_connection(sock=outer)
    ours, theirs = ends
    carriers = [
        asyncio.create_task(_carry(reader, ours[1], pace, client=writer)),
        asyncio.create_task(_carry(ours[0], writer, pace, client=writer)),
    ]
    try:
        yield theirs
    finally:
        # What was said last still has to get through: WhatsApp tells why just before it closes.
        theirs[1].close()
        await asyncio.wait(carriers[1:])
        carriers[0].cancel()
        await asyncio.wait(carriers)
        ours[1].close()


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pace: Pace, *, client: asyncio.StreamWriter
) -> None:
    on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
    clock = asyncio.get_running_loop().time
    receiving = asyncio.create_task(_receive(reader, on_the_way))
    try:
        with suppress(ConnectionError):
            while not client.is_closing():  # a line that was cut brings nothing more, not even late
                sent_at, data = await on_the_way.get()
                await asyncio.sleep(max(0.0, sent_at + pace.latency - clock()))
                if not data:
                    break
                if pace.bytes_per_second is not None:
                    await asyncio.sleep(len(data) / pace.bytes_per_second)
                writer.write(data)
                await writer.drain()
    finally:
        receiving.cancel()
        writer.close()


async def _receive(reader: asyncio.StreamReader, on_the_way: asyncio.Queue[tuple[float, bytes]]) -> None:
    clock = asyncio.get_running_loop().time
    data = b"?"
    while data:
        try:
            data = await reader.read(_CHUNK_BYTES)
        except (ConnectionError, OSError):
            data = b""
        on_the_way.put_nowait((clock(), data))
