"""The server's answers to a client's questions (iq): keys, devices, media hosts; it changes only stored keys."""

from collections.abc import Callable

from bot.lab import bundles, devicelist, files
from bot.lab.collections import Collections
from bot.lab.directory import Account, Directory
from bot.lab.errors import LabError
from bot.lab.groups import Groups
from bot.lab.linked import LinkedDevice
from bot.lab.nodes import PHONE, SERVER, Jid, Node, Value

Answer = tuple[Node, ...]

# Things that a client tells the server and that change nothing here.
_NOTED = {"passive", "w:p", "privacy", "tos", "w:stats", "urn:xmpp:whatsapp:dirty", "urn:xmpp:whatsapp:push"}
_MEDIA_HOST = "mmg.whatsapp.net"


class Refused(LabError):
    """The server will not answer this: its code, and its word for it."""

    def __init__(self, code: str, word: str) -> None:
        super().__init__(word)
        self.code = code


class Queries:
    def __init__(self, directory: Directory, groups: Groups, collections: Collections) -> None:
        self._directory, self._groups = directory, groups
        self.unknown: list[Node] = []  # what this server could not answer
        self._topics: dict[str, Callable[[LinkedDevice, Node], Answer | None]] = {
            "encrypt": self._keys,
            "usync": self._users,
            "w:m": self._media_hosts,
            "md": self._devices,
            "w:sync:app:state": collections.answer,
            "w:g2": self._about_groups,
        }

    def answer(self, device: LinkedDevice, query: Node) -> Node:
        topic = query.text("xmlns", "")
        reply: dict[str, Value] = {"id": query.text("id"), "from": query.attrs.get("to", SERVER)}
        known = self._topics.get(topic)
        try:
            answer = known(device, query) if known else () if topic in _NOTED else None
        except Refused as exc:
            return _error(reply, exc.code, str(exc))
        if answer is None:
            self.unknown.append(query)
            return _error(reply, "501", "feature-not-implemented")
        return Node("iq", {**reply, "type": "result"}, answer or None)

    def _keys(self, device: LinkedDevice, query: Node) -> Answer | None:
        if query.find("count"):
            return (Node("count", {"value": str(device.prekeys_left)}),)
        if wanted := query.find("key"):
            users = [self._bundle(user.jid("jid")) for user in wanted.all("user")]
            return (Node("list", {}, tuple(users)),)
        if query.find("identity") and query.find("skey"):
            device.store_keys(*bundles.read_upload(query))
            return ()
        return None

    def _bundle(self, jid: Jid) -> Node:
        device = self._directory.device(jid)
        if device is None:
            error = Node("error", {"code": "404", "text": "item-not-found"})
            return Node("user", {"jid": jid}, (error,))
        return Node("user", {"jid": jid}, bundles.write(device.publish()))

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
        if "status" in wanted and account:
            parts.append(Node("status", {"t": "0"}, account.about.encode()))
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
        attrs = {"auth": files.AUTH, "ttl": "3600", "auth_ttl": "3600", "max_buckets": "12"}
        return (Node("media_conn", attrs, (Node("host", {"hostname": _MEDIA_HOST}),)),)

    def _devices(self, device: LinkedDevice, query: Node) -> Answer | None:
        if query.find("remove-companion-device") is None:
            return None
        device.account.devices.pop(device.number, None)
        devicelist.announce(device.account)
        return ()

    def _about_groups(self, device: LinkedDevice, query: Node) -> Answer | None:
        if query.find("participating"):
            groups = tuple(group.describe() for group in self._groups.of(device.account))
            return (Node("groups", {}, groups),)
        if query.find("query") is None:
            return None
        group = self._groups.find(query.jid("to"))
        if group is None:
            raise Refused("404", "item-not-found")
        if device.account not in group.members:
            raise Refused("403", "forbidden")
        return (group.describe(),)


def _error(reply: dict[str, Value], code: str, text: str) -> Node:
    return Node("iq", {**reply, "type": "error"}, (Node("error", {"code": code, "text": text}),))


def _device_list(account: Account | None) -> Answer:
    numbers = account.devices if account else ()
    # Linked devices carry the index of the key that vouches for them; the phone vouches for itself.
    return tuple(
        Node("device", {"id": str(number), **({"key-index": str(number)} if number else {})})
        for number in numbers
    )
