"""Linking a device: the server's refs for QR codes, the phone's signature, the device's answer; no messages."""

import asyncio
import base64
import binascii
import os
import time
from dataclasses import dataclass, field

from bot.lab import bundles, devicelist, protobuf, vouching
from bot.lab.connection import Connection, Registration
from bot.lab.directory import Account
from bot.lab.errors import LabError, ProtocolError
from bot.lab.linked import LinkedDevice
from bot.lab.nodes import SERVER, Node

_OFFER_ID = "pair-device"
# A client shows one ref after the other: the first of six for a minute, any other for 20 seconds.
_REFS = 6
_FIRST_SECONDS, _NEXT_SECONDS = 60.0, 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class QrCode:
    """What a client shows: the server's ref and its own keys, `secret` never leaves the screen otherwise."""

    ref: str
    noise_key: bytes
    identity: bytes
    secret: bytes

    @classmethod
    def parse(cls, text: str) -> "QrCode":
        """Newer clients put a link in front and the kind of client behind."""
        fields = text.rpartition("#")[2].split(",")
        if len(fields) < 4:
            raise LabError("this is not a QR code of WhatsApp")
        try:
            noise_key, identity, secret = (base64.b64decode(field, validate=True) for field in fields[1:4])
        except binascii.Error as exc:
            raise LabError("this is not a QR code of WhatsApp") from exc
        return cls(ref=fields[0], noise_key=noise_key, identity=identity, secret=secret)


@dataclass(slots=True, kw_only=True)
class Offer:
    """A client that waits to be linked to somebody's account."""

    connection: Connection
    keys: Registration
    refs: tuple[str, ...]
    offered_at: float  # of the event loop's clock
    taken_by: Account | None = None
    details: bytes = b""
    linked: "asyncio.Future[LinkedDevice]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def shows(self, ref: str, now: float) -> bool:
        """Whether this is the ref's turn. None comes before its turn: only its client knows it till then."""
        first = _FIRST_SECONDS if len(self.refs) == _REFS else _NEXT_SECONDS
        return now - self.offered_at < first + self.refs.index(ref) * _NEXT_SECONDS


class Pairing:
    """`refs` is how many QR codes a client gets before its time is over."""

    def __init__(self) -> None:
        self.refs = _REFS
        self._offers: list[Offer] = []
        self._linked: set[bytes] = set()

    def offer(self, connection: Connection) -> None:
        keys = connection.hello.registration
        if keys is None:
            raise ProtocolError("a client without an account has to register its keys")
        bundles.check(keys)
        refs = [base64.b64encode(os.urandom(12)) for _ in range(self.refs)]
        texts, now = tuple(ref.decode() for ref in refs), asyncio.get_running_loop().time()
        self._offers.append(Offer(connection=connection, keys=keys, refs=texts, offered_at=now))
        nodes = tuple(Node("ref", {}, ref) for ref in refs)
        connection.send(_iq(_OFFER_ID, Node("pair-device", {}, nodes)))

    def offer_of(self, connection: Connection) -> Offer | None:
        """None once its client is linked, or gone."""
        return next((offer for offer in self._offers if offer.connection is connection), None)

    async def scan(self, account: Account, text: str, *, within: float) -> LinkedDevice:
        """What happens when the phone's camera sees the code; returns when the device is linked."""
        code = QrCode.parse(text)
        offer = next((offer for offer in self._offers if code.ref in offer.refs), None)
        if offer is None or offer.taken_by is not None:
            raise LabError("this QR code has expired, or was never shown by a client of this lab")
        if not offer.shows(code.ref, asyncio.get_running_loop().time()):
            raise LabError("this QR code has expired: its client shows another one by now")
        if (code.identity, code.noise_key) != (offer.keys.identity, offer.connection.hello.noise_key):
            raise ProtocolError("a QR code shows other keys than its client has registered")
        return await self.link(account, offer, code.secret, within=within)

    async def link(self, account: Account, offer: Offer, secret: bytes, *, within: float) -> LinkedDevice:
        """The phone vouches for a client with the secret that both have; returns when that has answered."""
        offer.taken_by = account
        number = account.next_device()
        offer.details = protobuf.ADVDeviceIdentity(
            rawID=1, timestamp=int(time.time()), keyIndex=number
        ).SerializeToString()
        device = Node("device", {"jid": account.phone.on(number), "lid": account.lid.on(number)})
        platform = Node("platform", {"name": "android"})
        word = vouching.vouch(account, offer.details, offer.keys.identity, secret)
        identity = Node("device-identity", {}, word)
        success = Node("pair-success", {}, (device, platform, identity))
        offer.connection.send(_iq(f"pair-success-{number}", success))
        async with asyncio.timeout(within):
            return await offer.linked

    def answered(self, connection: Connection, result: Node) -> None:
        """A client's answer to one of the pairing's questions."""
        signed = result.find("pair-device-sign", "device-identity")
        offer = self.offer_of(connection)
        if offer is None or offer.taken_by is None or result.text("id") == _OFFER_ID:
            return  # it only says that it got its refs, and the phone may have been faster
        if signed is None:
            raise ProtocolError(f"a client refused to be paired: {result}")
        vouching.check_own_word(offer.taken_by, offer.details, offer.keys.identity, signed.data)
        number = int(result.text("id").removeprefix("pair-success-"))
        if signed.text("key-index", "") != str(number):
            raise ProtocolError("a device answers with the index of another key than it was given")
        device = LinkedDevice(offer.taken_by, number, connection.hello.noise_key, offer.keys)
        offer.taken_by.devices[number] = device
        self._linked.add(device.noise_key)
        devicelist.announce(device.account, new=number)
        self.withdraw(connection)
        # The client has to log in anew with what it has just become.
        connection.send(Node("stream:error", {"code": "515"}))
        offer.linked.set_result(device)

    def has_linked(self, noise_key: bytes) -> bool:
        """Whether this was ever the key of a device that was linked here, be it unlinked by now."""
        return noise_key in self._linked

    def withdraw(self, connection: Connection) -> None:
        """Its refs are worth nothing once a client is gone or linked."""
        self._offers = [offer for offer in self._offers if offer.connection is not connection]

    def expire(self) -> None:
        """What the server does with clients that nobody has linked in time: it closes their connections."""
        for offer in self._offers:
            offer.connection.end(Node("xmlstreamend"))
        self._offers.clear()


def _iq(stanza_id: str, child: Node) -> Node:
    return Node("iq", {"id": stanza_id, "type": "set", "xmlns": "md", "from": SERVER}, (child,))
