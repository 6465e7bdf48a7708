"""One client's connection: WebSocket, Noise and binary XML put together, stanza in, stanza out; no meaning."""

import asyncio
import time
from dataclasses import dataclass

from bot.lab import protobuf
from bot.lab.door import Door
from bot.lab.errors import ProtocolError
from bot.lab.keys import KeyPair
from bot.lab.nodes import Codec, Node
from bot.lab.noise import Channel, Responder
from bot.lab.web import WebSocket

_MAGIC = b"WA"
_HEADER_BYTES = 4  # "WA", the protocol's version, the dictionary's version
_LENGTH_BYTES = 3
_DAY_SECONDS = 86_400
_GRACE_SECONDS = 0.2


class Identity:
    """How the server proves itself: a static key, certified by the root that clients of the lab trust."""

    def __init__(self, root: KeyPair) -> None:
        self.static = KeyPair.generate()
        intermediate = KeyPair.generate()
        self.certificate: bytes = protobuf.CertChain(
            intermediate=_certify(root, intermediate.public, serial=1, issuer=0),
            leaf=_certify(intermediate, self.static.public, serial=2, issuer=1),
        ).SerializeToString()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """Who connects. `user` and `device` are None before pairing; then `registration` holds the new keys."""

    noise_key: bytes
    user: str | None
    device: int | None
    registration: "Registration | None"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """The Signal keys with which a client asks to be paired."""

    registration_id: int
    identity: bytes
    signed_prekey_id: int
    signed_prekey: bytes
    signature: bytes
    properties: bytes = b""  # how the client wants to be shown, and how much of the past to be told


class Connection:
    def __init__(self, socket: WebSocket, channel: Channel, codec: Codec, hello: Hello, door: Door) -> None:
        self.hello = hello
        self._socket, self._channel, self._codec, self._door = socket, channel, codec, door
        self._closed = False

    @classmethod
    async def establish(cls, socket: WebSocket, identity: Identity, codec: Codec, door: Door) -> "Connection":
        header = await socket.read(_HEADER_BYTES)
        if header[:2] != _MAGIC:
            raise ProtocolError("a connection has to start with WA")
        responder = Responder(identity.static, header)
        client = protobuf.HandshakeMessage.FromString(await _read_frame(socket)).clientHello
        reply = responder.reply(client.ephemeral, identity.certificate)
        server = protobuf.HandshakeMessage.ServerHello(
            ephemeral=reply.ephemeral, static=reply.static, payload=reply.payload
        )
        _write_frame(socket, protobuf.HandshakeMessage(serverHello=server).SerializeToString())
        client = protobuf.HandshakeMessage.FromString(await _read_frame(socket)).clientFinish
        finish = responder.finish(client.static, client.payload)
        return cls(socket, responder.channel(), codec, _hello(finish.static, finish.payload), door)

    async def receive(self) -> Node:
        while True:
            frame = await _read_frame(self._socket)
            node = self._codec.decode(self._channel.receiving.open(frame))
            if self._door.silence is None:
                return node
            self._door.silence.swallowed.note(node)

    def send(self, node: Node) -> None:
        """Queues at once, so stanzas leave in the order of the calls. Nothing is sent after `end`, or in a silence."""
        if not self._closed and self._door.silence is None:
            _write_frame(self._socket, self._channel.sending.seal(self._codec.encode(node)))

    async def drain(self) -> None:
        if not self._closed:
            await self._socket.drain()

    def end(self, reason: Node) -> None:
        """Says why, and closes. A client that sees the close at once would drop the reason unread."""
        self.send(reason)
        self._closed = True
        asyncio.get_running_loop().call_later(_GRACE_SECONDS, self._socket.close)

    def fall_silent(self, last: Node) -> None:
        """Says one more thing, and nothing after that, on a connection that stays open."""
        self.send(last)
        self._closed = True

    def close(self) -> None:
        """Without a word."""
        self._closed = True
        self._socket.close()

    def lost(self) -> None:
        """To be called when reading has ended, whoever ended it."""
        self._closed = True


async def _read_frame(socket: WebSocket) -> bytes:
    return await socket.read(int.from_bytes(await socket.read(_LENGTH_BYTES), "big"))


def _write_frame(socket: WebSocket, frame: bytes) -> None:
    socket.write(len(frame).to_bytes(_LENGTH_BYTES, "big") + frame)


def _hello(noise_key: bytes, payload: bytes) -> Hello:
    said = protobuf.ClientPayload.FromString(payload)
    if said.HasField("username"):
        return Hello(noise_key=noise_key, user=str(said.username), device=said.device, registration=None)
    keys = said.devicePairingData
    registration = Registration(
        registration_id=int.from_bytes(keys.eRegid, "big"),
        identity=keys.eIdent,
        signed_prekey_id=int.from_bytes(keys.eSkeyID, "big"),
        signed_prekey=keys.eSkeyVal,
        signature=keys.eSkeySig,
        properties=keys.deviceProps,
    )
    return Hello(noise_key=noise_key, user=None, device=None, registration=registration)


def _certify(issuer_key: KeyPair, key: bytes, *, serial: int, issuer: int) -> object:
    kind, now = protobuf.CertChain.NoiseCertificate, int(time.time())
    details: bytes = kind.Details(
        serial=serial, issuerSerial=issuer, key=key, notBefore=now - _DAY_SECONDS, notAfter=now + _DAY_SECONDS
    ).SerializeToString()
    return kind(details=details, signature=issuer_key.sign(details))
