"""WhatsApp's server: lets clients in, hears what they say and answers; routing itself is the post office's."""

import asyncio
import json
import time
from dataclasses import dataclass

from bot.lab import web
from bot.lab.connection import Connection, Identity
from bot.lab.directory import Account, Directory
from bot.lab.faults import Faults
from bot.lab.linked import LinkedDevice
from bot.lab.media import MediaStore
from bot.lab.nodes import PHONE, SERVER, Codec, Jid, Node, Value
from bot.lab.pairing import Pairing
from bot.lab.post import Origin, PostOffice
from bot.lab.queries import Queries
from bot.lab.timeline import Timeline
from bot.lab.trust import Trust

_MEDIA_URL = "https://mmg.whatsapp.net"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stanza:
    """Something that a linked device said."""

    device: LinkedDevice
    node: Node


class Server:
    def __init__(self, trust: Trust) -> None:
        self.directory = Directory()
        self.owners: list[Account] = []  # whom a customer means who does not say to whom
        self.post = PostOffice(self.directory)
        self.media = MediaStore()
        self.pairing = Pairing()
        self.queries = Queries(self.directory)
        self.faults = Faults()
        self.stanzas: Timeline[Stanza] = Timeline()
        self._codec, self._identity = Codec(trust.tokens), Identity(trust.noise_root)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, already out of TLS: a client's WebSocket, or one file up or down."""
        request = await web.read_request(reader)
        if not request.opens_websocket:
            await self._file(request, reader, writer)
            return
        socket = await web.WebSocket.accept(request, reader, writer)
        connection = await Connection.establish(socket, self._identity, self._codec)
        try:
            if connection.hello.user is None:
                await self._pair(connection)
            else:
                await self._log_in(connection)
        finally:
            connection.lost()

    async def _file(
        self, request: web.Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if request.method == "POST":
            self.media.put(request.path, await web.read_body(request, reader))
            answer = {"url": _MEDIA_URL + request.path, "direct_path": f"{request.path}?ccb=1"}
            await web.respond(writer, "200 OK", json.dumps(answer).encode())
        elif (sealed := self.media.get(request.path)) is not None:
            await web.respond(writer, "200 OK", sealed)
        else:
            await web.respond(writer, "404 Not Found")

    async def _pair(self, connection: Connection) -> None:
        self.pairing.offer(connection)
        try:
            while True:
                stanza = await connection.receive()
                if stanza.tag == "iq" and stanza.text("type") in ("result", "error"):
                    self.pairing.answered(connection, stanza)
        finally:
            self.pairing.withdraw(connection)

    async def _log_in(self, connection: Connection) -> None:
        device = self._known(connection)
        if device is None:
            connection.end(Node("failure", {"reason": "401"}))
            while True:
                await connection.receive()  # until it has closed
        if device.connection is not None:
            # One connection per device: the newer one wins, and the older is told why.
            stream_error(device, conflict="replaced")
        lid = device.account.lid.on(device.number)
        connection.send(Node("success", {"t": _now(), "lid": lid, "props": "0", "from": SERVER}))
        device.attach(connection)
        try:
            while True:
                self._hear(device, connection, await connection.receive())
        finally:
            device.detach(connection)

    def _known(self, connection: Connection) -> LinkedDevice | None:
        """Only the key that was paired may log in, and only until it is unlinked."""
        hello = connection.hello
        device = self.directory.device(Jid(hello.user or "", PHONE, hello.device or 0))
        if isinstance(device, LinkedDevice) and device.noise_key == hello.noise_key:
            return device
        return None

    def _hear(self, device: LinkedDevice, connection: Connection, stanza: Node) -> None:
        origin = Origin(account=device.account, device=device.number)
        match stanza.tag:
            case "iq" if stanza.text("type") in ("get", "set"):
                connection.send(self.queries.answer(device, stanza))
            case "message":
                self._take_message(origin, connection, stanza)
            case "receipt":
                self._take_receipt(origin, device, connection, stanza)
            case "ack":
                device.acknowledge(stanza.text("class"), stanza.text("id"))
            case "chatstate":
                self.post.chat_state(origin, stanza)
            case _:
                pass  # presence and the like: noted, and of no consequence here
        self.stanzas.note(Stanza(device=device, node=stanza))

    def _take_message(self, origin: Origin, connection: Connection, stanza: Node) -> None:
        to = stanza.jid("to")
        attrs: dict[str, Value] = {"class": "message", "id": stanza.text("id"), "from": to, "t": _now()}
        if refusal := self.faults.refusal(self.directory.find(to)):
            refusal.refused.append(stanza.text("id"))
            connection.send(Node("ack", {**attrs, "error": str(refusal.code)}))
            return
        self.post.message(origin, stanza)
        ack = Node("ack", attrs)
        if self.faults.held is not None:
            self.faults.held.hold(connection, ack)
        else:
            connection.send(ack)

    def _take_receipt(
        self, origin: Origin, device: LinkedDevice, connection: Connection, stanza: Node
    ) -> None:
        attrs: dict[str, Value] = {"class": "receipt", "id": stanza.text("id"), "from": stanza.jid("to")}
        if "type" in stanza.attrs:
            attrs["type"] = stanza.text("type")
        connection.send(Node("ack", attrs))
        # "read" is the reader's doing and comes later; all others but "retry" say that a message has arrived.
        if stanza.text("type", "") not in ("read", "read-self", "played", "retry"):
            device.acknowledge("message", stanza.text("id"))
        self.post.receipt(origin, stanza)


def stream_error(device: LinkedDevice, *, code: str | None = None, conflict: str | None = None) -> None:
    """Tells a client why, and closes its connection."""
    if (connection := device.connection) is None:
        return
    attrs = {"code": code} if code else {}
    content = (Node("conflict", {"type": conflict}),) if conflict else None
    connection.end(Node("stream:error", attrs, content))
    device.detach(connection)


def _now() -> str:
    return str(int(time.time()))
