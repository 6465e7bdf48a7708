"""The server's answers to a client's questions (iq): keys, devices, media hosts; it changes only stored keys."""

from collections.abc import Callable

from bot.lab.connection import Registration
from bot.lab.directory import Account, Directory
from bot.lab.linked import LinkedDevice
from bot.lab.nodes import PHONE, SERVER, Jid, Node, Value
from bot.lab.signal import Bundle

Answer = tuple[Node, ...]

# Things that a client tells the server and that change nothing here.
_NOTED = {"passive", "w:p", "privacy", "tos", "w:stats", "urn:xmpp:whatsapp:dirty", "urn:xmpp:whatsapp:push"}
_CURVE25519 = b"\x05"
_MEDIA_HOST = "mmg.whatsapp.net"


class Queries:
    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self.unknown: list[Node] = []  # what this server could not answer
        self._topics: dict[str, Callable[[LinkedDevice, Node], Answer | None]] = {
            "encrypt": self._keys,
            "usync": self._users,
            "w:m": self._media_hosts,
            "md": self._devices,
        }

    def answer(self, device: LinkedDevice, query: Node) -> Node:
        topic = query.text("xmlns", "")
        reply: dict[str, Value] = {"id": query.text("id"), "from": SERVER}
        known = self._topics.get(topic)
        answer = known(device, query) if known else () if topic in _NOTED else None
        if answer is None:
            self.unknown.append(query)
            error = Node("error", {"code": "501", "text": "feature-not-implemented"})
            return Node("iq", {**reply, "type": "error"}, (error,))
        return Node("iq", {**reply, "type": "result"}, answer or None)

    def _keys(self, device: LinkedDevice, query: Node) -> Answer | None:
        if query.find("count"):
            return (Node("count", {"value": str(device.prekeys_left)}),)
        if wanted := query.find("key"):
            users = [self._bundle(user.jid("jid")) for user in wanted.all("user")]
            return (Node("list", {}, tuple(users)),)
        if query.find("identity") and query.find("skey"):
            _store(device, query)
            return ()
        return None

    def _bundle(self, jid: Jid) -> Node:
        device = self._directory.device(jid)
        if device is None:
            error = Node("error", {"code": "404", "text": "item-not-found"})
            return Node("user", {"jid": jid}, (error,))
        return Node("user", {"jid": jid}, bundle_nodes(device.publish()))

    def _users(self, device: LinkedDevice, query: Node) -> Answer:
        asked = query.child("usync")
        wanted = [protocol.tag for protocol in asked.child("query").children]
        users = tuple(self._user(user, wanted) for user in asked.child("list").all("user"))
        attrs = {"sid": asked.text("sid", ""), "mode": asked.text("mode", "query")}
        return (Node("usync", attrs, (Node("list", {}, users),)),)

    def _user(self, asked: Node, wanted: list[str]) -> Node:
        if contact := asked.find("contact"):
            return self._contact(contact.data)
        jid = asked.jid("jid")
        account = self._directory.find(jid)
        parts = []
        if "lid" in wanted and account:
            parts.append(Node("lid", {"val": account.lid}))
        if "devices" in wanted:
            parts.append(Node("devices", {}, (Node("device-list", {}, _device_list(account)),)))
        return Node("user", {"jid": jid}, tuple(parts))

    def _contact(self, query: bytes) -> Node:
        """Is this number on WhatsApp?"""
        user = query.decode().partition("@")[0].removeprefix("+")
        account = self._directory.find(Jid(user, PHONE))
        attrs = {"jid": account.lid, "pn_jid": account.phone} if account else {"jid": Jid(user, PHONE)}
        return Node("user", attrs, (Node("contact", {"type": "in" if account else "out"}, query),))

    def _media_hosts(self, device: LinkedDevice, query: Node) -> Answer:
        attrs = {"auth": "lab", "ttl": "3600", "auth_ttl": "3600", "max_buckets": "12"}
        return (Node("media_conn", attrs, (Node("host", {"hostname": _MEDIA_HOST}),)),)

    def _devices(self, device: LinkedDevice, query: Node) -> Answer | None:
        if query.find("remove-companion-device") is None:
            return None
        device.account.devices.pop(device.number, None)
        return ()


def bundle_nodes(bundle: Bundle) -> Answer:
    """A device's public keys, as they are handed out."""
    signed = (
        Node("id", {}, bundle.signed_prekey_id.to_bytes(3, "big")),
        Node("value", {}, bundle.signed_prekey),
        Node("signature", {}, bundle.signature),
    )
    nodes: Answer = (
        Node("registration", {}, bundle.registration_id.to_bytes(4, "big")),
        Node("type", {}, _CURVE25519),
        Node("identity", {}, bundle.identity),
        Node("skey", {}, signed),
    )
    if bundle.prekey_id is None or bundle.prekey is None:
        return nodes
    key = (Node("id", {}, bundle.prekey_id.to_bytes(3, "big")), Node("value", {}, bundle.prekey))
    return (*nodes, Node("key", {}, key))


def _store(device: LinkedDevice, upload: Node) -> None:
    signed = upload.child("skey")
    keys = Registration(
        registration_id=int.from_bytes(upload.child("registration").data, "big"),
        identity=upload.child("identity").data,
        signed_prekey_id=int.from_bytes(signed.child("id").data, "big"),
        signed_prekey=signed.child("value").data,
        signature=signed.child("signature").data,
    )
    listed = upload.child("list").all("key")
    device.store_keys(
        keys, [(int.from_bytes(key.child("id").data, "big"), key.child("value").data) for key in listed]
    )


def _device_list(account: Account | None) -> Answer:
    numbers = account.devices if account else ()
    # Linked devices carry the index of the key that vouches for them; the phone vouches for itself.
    return tuple(
        Node("device", {"id": str(number), **({"key-index": str(number)} if number else {})})
        for number in numbers
    )
