"""A linked device as the server keeps it: its keys, its connection, and what waits for it; it routes nothing."""

import asyncio
from collections.abc import Iterable

from bot.lab import protobuf
from bot.lab.connection import Connection, Registration
from bot.lab.directory import Account
from bot.lab.faults import Courier
from bot.lab.nodes import SERVER, Jid, Node, Value
from bot.lab.signal import Bundle

_FEW_PREKEYS = 5


class LinkedDevice:
    """Stanzas that last are kept until the client has acknowledged them, and sent again at its next login."""

    def __init__(self, account: Account, number: int, noise_key: bytes, keys: Registration) -> None:
        self.account, self.number, self.noise_key = account, number, noise_key
        self.connection: Connection | None = None
        self.online = asyncio.Event()
        self._courier: Courier | None = None
        self.properties = protobuf.DeviceProps.FromString(keys.properties)
        self._keys = keys
        self._prekeys: list[tuple[int, bytes]] = []
        self._queue: list[Node] = []

    @property
    def jid(self) -> Jid:
        return self.account.phone.on(self.number)

    @property
    def waiting(self) -> int:
        """How many stanzas the client has not acknowledged yet."""
        return len(self._queue)

    @property
    def prekeys_left(self) -> int:
        return len(self._prekeys)

    def store_keys(self, keys: Registration, prekeys: Iterable[tuple[int, bytes]]) -> None:
        self._keys = keys
        self._prekeys.extend(prekeys)

    def publish(self) -> Bundle:
        prekey_id, prekey = self._prekeys.pop(0) if self._prekeys else (None, None)
        if len(self._prekeys) == _FEW_PREKEYS - 1:
            self._ask_for_prekeys()
        return Bundle(
            registration_id=self._keys.registration_id,
            identity=self._keys.identity,
            signed_prekey_id=self._keys.signed_prekey_id,
            signed_prekey=self._keys.signed_prekey,
            signature=self._keys.signature,
            prekey_id=prekey_id,
            prekey=prekey,
        )

    def deliver(self, stanza: Node, *, lasting: bool) -> None:
        if lasting:
            self._queue.append(stanza)
        if self.connection is None:
            return
        if lasting and self._courier is not None:
            self._courier.bring(self.connection, stanza)
        else:
            self.connection.send(stanza)

    def acknowledge(self, tag: str, stanza_id: str) -> None:
        """One stanza per acknowledgement: the same id may wait twice."""
        if self._courier is not None and self._courier.loses_acks:
            return
        for i, stanza in enumerate(self._queue):
            if stanza.tag == tag and stanza.text("id") == stanza_id:
                del self._queue[i]
                return

    def attach(self, connection: Connection, courier: Courier) -> None:
        """After a login: what waited is sent first, in its order, marked as coming from the offline queue."""
        waited = list(self._queue)
        connection.send(_ib(Node("offline_preview", _counts(waited))))
        for stanza in waited:
            connection.send(Node(stanza.tag, {**stanza.attrs, "offline": "0"}, stanza.content))
        connection.send(_ib(Node("offline", {"count": str(len(waited))})))
        self.connection, self._courier = connection, courier
        self.online.set()

    def detach(self, connection: Connection) -> None:
        """A connection that was replaced in the meantime does not take its successor down."""
        if self.connection is connection:
            self.connection = None
            self.online.clear()

    def _ask_for_prekeys(self) -> None:
        attrs: dict[str, Value] = {
            "from": SERVER,
            "type": "encrypt",
            "id": f"prekeys-{self.number}",
            "t": "0",
        }
        count = Node("count", {"value": str(len(self._prekeys))})
        self.deliver(Node("notification", attrs, (count,)), lasting=False)


def _ib(child: Node) -> Node:
    return Node("ib", {"from": SERVER}, (child,))


def _counts(stanzas: list[Node]) -> dict[str, str]:
    tags = [stanza.tag for stanza in stanzas]
    return {
        "count": str(len(tags)),
        "message": str(tags.count("message")),
        "receipt": str(tags.count("receipt")),
        "notification": str(tags.count("notification")),
        "appdata": "0",
    }
