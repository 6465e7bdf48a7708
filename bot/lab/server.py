"""WhatsApp's server: lets clients in, hears what they say and answers; routing itself is the post office's."""

import asyncio
import time
from dataclasses import dataclass, field

from bot.lab import web
from bot.lab.codepairing import CodePairing
from bot.lab.collections import Collections
from bot.lab.connection import Connection, Identity
from bot.lab.devicelist import participant_hash
from bot.lab.directory import Account, Directory
from bot.lab.door import Door
from bot.lab.errors import ProtocolError
from bot.lab.faults import Faults
from bot.lab.files import FileServer
from bot.lab.groups import Groups
from bot.lab.linked import LinkedDevice
from bot.lab.media import MediaStore
from bot.lab.nodes import PHONE, SERVER, Codec, Jid, Node, Value
from bot.lab.origin import Origin
from bot.lab.pairing import Pairing
from bot.lab.post import PostOffice
from bot.lab.presences import Presences
from bot.lab.queries import Queries
from bot.lab.timeline import Timeline
from bot.lab.trust import Trust

_NOT_A_MEMBER = "403"
_MOST_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Stanza:
    """Something that a linked device said; `at` is of time.monotonic."""

    device: LinkedDevice
    node: Node
    at: float = field(default_factory=time.monotonic)


class Server:
    def __init__(self, trust: Trust) -> None:
        self.directory = Directory()
        self.stopped = False
        self.owners: list[Account] = []  # whom a customer means who does not say to whom
        self.groups = Groups()
        self.post = PostOffice(self.directory, self.groups)
        self.presences = Presences(self.directory)
        self.media = MediaStore()
        self.files = FileServer(self.media)
        self.pairing = Pairing()
        self.codes = CodePairing(self.pairing, self.directory)
        self.collections = Collections(self.media)
        self.queries = Queries(self.directory, self.groups, self.collections)
        self.faults = Faults()
        self.door = Door()
        self.stanzas: Timeline[Stanza] = Timeline()
        self._codec, self._identity = Codec(trust.tokens), Identity(trust.noise_root)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, already out of TLS: a client's WebSocket, or one file up or down."""
        if self.door.silence is not None:
            await self._say_nothing(reader)
            return
        request = await web.read_request(reader)
        if not request.opens_websocket:
            await self.files.serve(request, reader, writer)
            return
        socket = await web.WebSocket.accept(request, reader, writer)
        connection = await Connection.establish(socket, self._identity, self._codec, self.door)
        try:
            if connection.hello.user is None:
                await self._pair(connection)
            else:
                await self._log_in(connection)
        finally:
            connection.lost()

    @staticmethod
    async def _say_nothing(reader: asyncio.StreamReader) -> None:
        while await reader.read(_MOST_BYTES):
            pass  # until the client gives up

    async def _refuse(self, connection: Connection, failure: Node) -> None:
        connection.end(failure)
        while True:
            await connection.receive()  # until it has closed

    async def _pair(self, connection: Connection) -> None:
        self.pairing.offer(connection)
        try:
            while True:
                stanza = await connection.receive()
                if stanza.tag == "iq" and stanza.text("type") in ("result", "error"):
                    self.pairing.answered(connection, stanza)
                elif stanza.tag == "iq":
                    connection.send(self.codes.answer(connection, stanza))
        finally:
            self.pairing.withdraw(connection)

    async def _log_in(self, connection: Connection) -> None:
        device = self._known(connection)
        if device is None:
            if not self.pairing.has_linked(connection.hello.noise_key):
                # No 401: the client would delete a session that belongs to WhatsApp, or to another lab.
                raise ProtocolError(
                    f"+{connection.hello.user} logs in and was never linked in this lab: give the client a store of "
                    "its own, by SIDESTEP__DATABASE__DIR or DATABASE_URL"
                )
            await self._refuse(connection, Node("failure", {"reason": "401"}))
            return
        if failure := self.door.failure(device.account):
            await self._refuse(connection, failure)
            return
        if device.connection is not None:
            # One connection per device: the newer one wins, and the older is told why.
            stream_error(device, conflict="replaced")
        lid = device.account.lid.on(device.number)
        connection.send(Node("success", {"t": _now(), "lid": lid, "props": "0", "from": SERVER}))
        origin = Origin(account=device.account, device=device.number)
        self.presences.lost(origin)  # a new connection has said nothing yet
        device.attach(connection, self.faults.courier)
        try:
            if self.door.throws_out(device.account):
                connection.close()
            while True:
                self._hear(device, connection, await connection.receive())
        finally:
            if device.connection in (connection, None):
                self.presences.lost(origin)
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
                if not self.door.ignores(stanza):
                    connection.send(self.queries.answer(device, stanza))
            case "message":
                self._take_message(origin, connection, stanza)
            case "receipt":
                self._take_receipt(origin, device, connection, stanza)
            case "ack":
                device.acknowledge(stanza.text("class"), stanza.text("id"))
            case "chatstate":
                self.post.chat_state(origin, stanza)
            case "presence":
                self.presences.hear(origin, stanza)
            case _:
                pass  # noted, and of no consequence here
        self.stanzas.note(Stanza(device=device, node=stanza))

    def _take_message(self, origin: Origin, connection: Connection, stanza: Node) -> None:
        to = stanza.jid("to")
        attrs: dict[str, Value] = {"class": "message", "id": stanza.text("id"), "from": to, "t": _now()}
        if refusal := self.faults.refusal(self.directory.find(to)):
            refusal.refused.note(stanza.text("id"))
            connection.send(Node("ack", {**attrs, "error": str(refusal.code)}))
            return
        group = self.groups.find(to)
        if group is not None and origin.account not in group.members:
            connection.send(Node("ack", {**attrs, "error": _NOT_A_MEMBER}))
            return
        self.post.message(origin, stanza)
        # Only the server knows all devices: a sender that meant others is told so, and asks for them anew.
        if group is not None and "phash" in stanza.attrs:
            attrs["phash"] = group.participant_hash()
        elif missed := self.post.missed(origin, stanza):
            attrs["phash"] = participant_hash(missed)
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


def stream_error(
    device: LinkedDevice, *, code: str | None = None, conflict: str | None = None, closes: bool = True
) -> None:
    """Tells a client why its stream has ended, and closes its connection, unless that is left to the client."""
    if (connection := device.connection) is None:
        return
    attrs = {"code": code} if code else {}
    content = (Node("conflict", {"type": conflict}),) if conflict else None
    error = Node("stream:error", attrs, content)
    if closes:
        connection.end(error)
    else:
        connection.fall_silent(error)
    device.detach(connection)


def _now() -> str:
    return str(int(time.time()))
