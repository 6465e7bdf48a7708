"""Linking a device by QR code: the server's refs, the phone's signature, the device's answer; no messages."""

import asyncio
import base64
import binascii
import os
import time
from dataclasses import dataclass, field

from bot.lab import protobuf
from bot.lab.connection import Connection, Registration
from bot.lab.directory import Account
from bot.lab.errors import LabError, ProtocolError
from bot.lab.keys import hmac_sha256, verify
from bot.lab.linked import LinkedDevice
from bot.lab.nodes import SERVER, Node

_REFS = 6  # a client shows one after the other
_BY_ACCOUNT, _BY_DEVICE = b"\x06\x00", b"\x06\x01"  # set the two signatures apart


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
class _Offer:
    """A client that waits to be scanned."""

    connection: Connection
    keys: Registration
    scanned_by: Account | None = None
    details: bytes = b""
    linked: "asyncio.Future[LinkedDevice]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Pairing:
    def __init__(self) -> None:
        self._offers: dict[str, _Offer] = {}

    def offer(self, connection: Connection) -> None:
        keys = connection.hello.registration
        if keys is None:
            raise ProtocolError("a client without an account has to register its keys")
        offer = _Offer(connection=connection, keys=keys)
        refs = [base64.b64encode(os.urandom(12)) for _ in range(_REFS)]
        self._offers |= {ref.decode(): offer for ref in refs}
        nodes = tuple(Node("ref", {}, ref) for ref in refs)
        connection.send(_iq("pair-device", Node("pair-device", {}, nodes)))

    async def scan(self, account: Account, text: str, *, within: float) -> LinkedDevice:
        """What happens when the phone's camera sees the code; returns when the device is linked."""
        code = QrCode.parse(text)
        offer = self._offers.get(code.ref)
        if offer is None or offer.scanned_by is not None:
            raise LabError("this QR code has expired, or was never shown by a client of this lab")
        if (code.identity, code.noise_key) != (offer.keys.identity, offer.connection.hello.noise_key):
            raise ProtocolError("a QR code shows other keys than its client has registered")
        offer.scanned_by = account
        number = account.next_device()
        offer.details = protobuf.ADVDeviceIdentity(
            rawID=1, timestamp=int(time.time()), keyIndex=number
        ).SerializeToString()
        device = Node("device", {"jid": account.phone.on(number), "lid": account.lid.on(number)})
        platform = Node("platform", {"name": "android"})
        identity = Node("device-identity", {}, _vouch(account, offer, code.secret))
        success = Node("pair-success", {}, (device, platform, identity))
        offer.connection.send(_iq(f"pair-success-{number}", success))
        async with asyncio.timeout(within):
            return await offer.linked

    def answered(self, connection: Connection, result: Node) -> None:
        """A client's answer to one of the pairing's questions."""
        signed = result.find("pair-device-sign", "device-identity")
        offer = next((offer for offer in self._offers.values() if offer.connection is connection), None)
        if offer is None or offer.scanned_by is None:
            return  # it only says that it got its refs
        if signed is None:
            raise ProtocolError(f"a client refused to be paired: {result}")
        _check(offer, signed.data)
        number = int(result.text("id").removeprefix("pair-success-"))
        device = LinkedDevice(offer.scanned_by, number, connection.hello.noise_key, offer.keys)
        offer.scanned_by.devices[number] = device
        self.withdraw(connection)
        # The client has to log in anew with what it has just become.
        connection.send(Node("stream:error", {"code": "515"}))
        offer.linked.set_result(device)

    def withdraw(self, connection: Connection) -> None:
        """Its refs are worth nothing once a client is gone or linked."""
        self._offers = {
            ref: offer for ref, offer in self._offers.items() if offer.connection is not connection
        }


def _vouch(account: Account, offer: _Offer, secret: bytes) -> bytes:
    """The phone's word that this device belongs to the account, for the device's eyes only."""
    signature = account.primary.sign(_BY_ACCOUNT + offer.details + offer.keys.identity)
    signed: bytes = protobuf.ADVSignedDeviceIdentity(
        details=offer.details, accountSignatureKey=account.primary.public, accountSignature=signature
    ).SerializeToString()
    sealed: bytes = protobuf.ADVSignedDeviceIdentityHMAC(
        details=signed, HMAC=hmac_sha256(secret, signed)
    ).SerializeToString()
    return sealed


def _check(offer: _Offer, data: bytes) -> None:
    if offer.scanned_by is None:
        raise ProtocolError("nobody has scanned this client")
    signature = protobuf.ADVSignedDeviceIdentity.FromString(data).deviceSignature
    signed = _BY_DEVICE + offer.details + offer.keys.identity + offer.scanned_by.primary.public
    if not verify(offer.keys.identity, signed, signature):
        raise ProtocolError("a device's signature of its identity is wrong")


def _iq(stanza_id: str, child: Node) -> Node:
    return Node("iq", {"id": stanza_id, "type": "set", "xmlns": "md", "from": SERVER}, (child,))
