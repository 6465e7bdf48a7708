"""A device's public keys as stanzas carry them: handed out, uploaded, and sent along with a request for a resend."""

from bot.lab.connection import Registration
from bot.lab.errors import ProtocolError
from bot.lab.keys import verify
from bot.lab.nodes import Node
from bot.lab.signal import Bundle
from bot.lab.wire import with_type

_CURVE25519 = b"\x05"
_KEY_BYTES = 32

PreKey = tuple[int, bytes]


def write(bundle: Bundle) -> tuple[Node, ...]:
    signed = _key_nodes(bundle.signed_prekey_id, bundle.signed_prekey)
    nodes: tuple[Node, ...] = (
        Node("registration", {}, bundle.registration_id.to_bytes(4, "big")),
        Node("type", {}, _CURVE25519),
        Node("identity", {}, bundle.identity),
        Node("skey", {}, (*signed, Node("signature", {}, bundle.signature))),
    )
    if bundle.prekey_id is None or bundle.prekey is None:
        return nodes
    return (*nodes, Node("key", {}, _key_nodes(bundle.prekey_id, bundle.prekey)))


def read(registration: Node, keys: Node) -> Bundle:
    """With its one-time prekey, which is for whoever reads this."""
    prekey_id, prekey = _prekey(keys.child("key"))
    signed_id, signed = _prekey(keys.child("skey"))
    return Bundle(
        registration_id=int.from_bytes(registration.data, "big"),
        identity=keys.child("identity").data,
        signed_prekey_id=signed_id,
        signed_prekey=signed,
        signature=keys.child("skey").child("signature").data,
        prekey_id=prekey_id,
        prekey=prekey,
    )


def read_upload(upload: Node) -> tuple[Registration, list[PreKey]]:
    signed_id, signed = _prekey(upload.child("skey"))
    keys = Registration(
        registration_id=int.from_bytes(upload.child("registration").data, "big"),
        identity=upload.child("identity").data,
        signed_prekey_id=signed_id,
        signed_prekey=signed,
        signature=upload.child("skey").child("signature").data,
    )
    check(keys)
    return keys, [_prekey(key) for key in upload.child("list").all("key")]


def check(keys: Registration) -> None:
    """Nobody could write to a device whose signed prekey is not its own."""
    if not verify(keys.identity, with_type(keys.signed_prekey), keys.signature):
        raise ProtocolError("a device registers a signed prekey that it has not signed")


def _key_nodes(key_id: int, key: bytes) -> tuple[Node, ...]:
    return Node("id", {}, key_id.to_bytes(3, "big")), Node("value", {}, key)


def _prekey(node: Node) -> PreKey:
    key_id, key = node.child("id").data, node.child("value").data
    if len(key_id) != 3 or len(key) != _KEY_BYTES:
        raise ProtocolError("a prekey has an id of three bytes and a value of 32")
    return int.from_bytes(key_id, "big"), key
