"""HTTP/1.1 and WebSocket, the server's side, over an open stream: as much as WhatsApp's clients use of them."""

import asyncio
import base64
import hashlib
import struct
from dataclasses import dataclass

from bot.lab.errors import ProtocolError

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # fixed by RFC 6455
_CONTINUATION, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x2, 0x8, 0x9, 0xA
_FINAL, _MASKED = 0x80, 0x80


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request, its body not read yet. Header names are in lower case."""

    method: str
    target: str
    headers: dict[str, str]

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def opens_websocket(self) -> bool:
        return self.headers.get("upgrade", "").lower() == "websocket"


async def read_request(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    try:
        method, target, _ = first.split(" ")
    except ValueError as exc:
        raise ProtocolError("this is not an HTTP request") from exc
    fields = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in fields}
    return Request(method=method, target=target, headers=headers)


async def read_body(request: Request, reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(int(request.headers.get("content-length", "0")))


async def respond(writer: asyncio.StreamWriter, status: str, body: bytes = b"") -> None:
    writer.write(head(status, len(body)) + body)
    await writer.drain()


def head(status: str, size: int) -> bytes:
    """Of an answer that ends the exchange: the lab keeps no connection open for a second request."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode()


class WebSocket:
    """The messages of one client, as a stream of bytes: WhatsApp's frames do not follow their borders."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._buffer = b""

    @classmethod
    async def accept(
        cls, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> "WebSocket":
        key = request.headers.get("sec-websocket-key", "").encode()
        answer = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest()).decode()
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + f"Sec-WebSocket-Accept: {answer}\r\n\r\n".encode()
        )
        await writer.drain()
        return cls(reader, writer)

    async def read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._buffer += await self._message()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def write(self, data: bytes) -> None:
        """Only queues: what one caller writes is never interleaved with what another does."""
        self._frame(_BINARY, data)

    async def drain(self) -> None:
        await self._writer.drain()

    def close(self) -> None:
        if not self._writer.is_closing():
            self._frame(_CLOSE, b"")
            self._writer.close()

    def _frame(self, opcode: int, data: bytes) -> None:
        size = len(data)
        if size < 126:
            head = bytes([_FINAL | opcode, size])
        elif size < 1 << 16:
            head = bytes([_FINAL | opcode, 126]) + struct.pack(">H", size)
        else:
            head = bytes([_FINAL | opcode, 127]) + struct.pack(">Q", size)
        self._writer.write(head + data)

    async def _message(self) -> bytes:
        while True:
            first, second = await self._reader.readexactly(2)
            data = await self._payload(second)
            match first & 0x0F:
                case op if op in (_BINARY, _CONTINUATION):
                    return data
                case op if op == _PING:
                    self._frame(_PONG, data)
                case op if op == _CLOSE:
                    self.close()
                    raise ConnectionResetError("the client closed the connection")
                case _:
                    pass

    async def _payload(self, second: int) -> bytes:
        size = second & 0x7F
        if size == 126:
            size = int.from_bytes(await self._reader.readexactly(2), "big")
        elif size == 127:
            size = int.from_bytes(await self._reader.readexactly(8), "big")
        if not second & _MASKED:
            raise ProtocolError("a client has to mask what it sends")
        mask = await self._reader.readexactly(4)
        data = await self._reader.readexactly(size)
        # One big number instead of a loop over bytes: uploads of keys are 30 kB.
        stream = (mask * (size // 4 + 1))[:size]
        return (int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")
