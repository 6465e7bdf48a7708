"""The lab's side of Noise XX, against a client written from the same specification."""

import pytest

from bot.lab.errors import ProtocolError
from bot.lab.keys import KeyPair
from bot.lab.noise import Channel, Reply, Responder, SymmetricState

HEADER = b"WA\x06\x03"


class Client:
    """The initiator: e; then what the server replied; then s, se."""

    def __init__(self) -> None:
        self.static, self.ephemeral = KeyPair.generate(), KeyPair.generate()
        self._state = SymmetricState(HEADER)
        self._state.absorb(self.ephemeral.public)

    def read(self, reply: Reply) -> tuple[bytes, bytes]:
        """The server's static key and payload."""
        self._state.absorb(reply.ephemeral)
        self._state.mix(self.ephemeral.agree(reply.ephemeral))
        static = self._state.open(reply.static)
        self._state.mix(self.ephemeral.agree(static))
        self._server_ephemeral = reply.ephemeral
        return static, self._state.open(reply.payload)

    def finish(self, payload: bytes) -> tuple[bytes, bytes]:
        static = self._state.seal(self.static.public)
        self._state.mix(self.static.agree(self._server_ephemeral))
        return static, self._state.seal(payload)

    def channel(self) -> Channel:
        to_server, from_server = self._state.split()
        return Channel.between(receiving_key=from_server, sending_key=to_server)


def test_both_sides_learn_who_the_other_is_and_can_talk() -> None:
    server_key, client = KeyPair.generate(), Client()
    server = Responder(server_key, HEADER)
    assert client.read(server.reply(client.ephemeral.public, b"certificate")) == (
        server_key.public,
        b"certificate",
    )
    finish = server.finish(*client.finish(b"hello"))
    assert (finish.static, finish.payload) == (client.static.public, b"hello")
    here, there = server.channel(), client.channel()
    for i in range(3):
        assert there.receiving.open(here.sending.seal(b"down %d" % i)) == b"down %d" % i
        assert here.receiving.open(there.sending.seal(b"up %d" % i)) == b"up %d" % i


def test_a_changed_handshake_fails() -> None:
    client = Client()
    server = Responder(KeyPair.generate(), HEADER)
    client.read(server.reply(client.ephemeral.public, b""))
    static, payload = client.finish(b"hello")
    with pytest.raises(ProtocolError):
        server.finish(static, payload[:-1] + bytes([payload[-1] ^ 1]))


def test_another_header_is_another_handshake() -> None:
    client = Client()
    server = Responder(KeyPair.generate(), b"WA\x06\x02")
    reply = server.reply(client.ephemeral.public, b"")
    with pytest.raises(ProtocolError):
        client.read(reply)


def test_frames_open_only_in_their_order() -> None:
    key = bytes(32)
    sender = Channel.between(receiving_key=key, sending_key=key)
    receiver = Channel.between(receiving_key=key, sending_key=key)
    sender.sending.seal(b"lost")
    with pytest.raises(ProtocolError):
        receiver.receiving.open(sender.sending.seal(b"next"))
