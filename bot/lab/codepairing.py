"""Linking a device by a code that its owner types into the phone: the server's part and the phone's; no messages.

The device shows eight characters; server and phone never send them. Each side wraps an ephemeral key with a key
derived from them, so that only who knows the characters arrives at the same secret.
"""

import asyncio
import os
import re
import time
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from bot.lab.connection import Connection
from bot.lab.directory import Account, Directory
from bot.lab.errors import LabError, ProtocolError
from bot.lab.keys import KeyPair, hkdf
from bot.lab.linked import LinkedDevice
from bot.lab.nodes import SERVER, Node, Value
from bot.lab.pairing import Offer, Pairing

_TAG = "link_code_companion_reg"
_CODE = re.compile(r"[1-9A-HJ-NP-TV-Z]{8}")  # no 0, I, O or U: they are misread
_ROUNDS = 1 << 17
_SALT_BYTES, _IV_BYTES, _NONCE_BYTES, _KEY_BYTES = 32, 16, 12, 32
_ERRORS = {400: "bad-request", 404: "item-not-found", 429: "rate-overlimit", 501: "feature-not-implemented"}


@dataclass(slots=True, eq=False, kw_only=True)
class _Request:
    """A device that has asked to be linked to a number. `bundle` is its answer to the phone, still closed."""

    ref: bytes
    offer: Offer
    account: Account
    wrapped_key: bytes
    bundle: "asyncio.Future[bytes] | None" = field(default=None)


class CodePairing:
    """`refusal` is the error that every device gets that asks for a code; None lets them have one."""

    def __init__(self, pairing: Pairing, directory: Directory) -> None:
        self.refusal: int | None = None
        self._pairing, self._directory = pairing, directory
        self._requests: list[_Request] = []

    def answer(self, connection: Connection, query: Node) -> Node:
        """The server's answer to what a device asks before it is linked."""
        part = query.find(_TAG)
        match part and part.text("stage", ""):
            case "companion_hello" if part is not None:
                return self._register(connection, query, part)
            case "companion_finish" if part is not None:
                return self._finish(query, part)
            case _:
                return _refused(query, 501)

    async def enter(self, account: Account, code: str, *, within: float) -> LinkedDevice:
        """The phone's part; returns when the device is linked."""
        typed = code.replace("-", "").upper()
        if not _CODE.fullmatch(typed):
            raise LabError("a pairing code has eight letters and digits, without 0, I, O and U")
        request = self._current(account)
        ephemeral = KeyPair.generate()
        device_key = _unwrap(typed, request.wrapped_key)
        request.bundle = asyncio.get_running_loop().create_future()
        request.offer.connection.send(_primary_hello(request, _wrap(typed, ephemeral.public)))
        async with asyncio.timeout(within):
            bundle = await request.bundle
            shared = ephemeral.agree(device_key)
            secret = _adv_secret(request, shared, _open(bundle, shared))
            return await self._pairing.link(account, request.offer, secret, within=within)

    def _current(self, account: Account) -> _Request:
        """The last device that asked for this number, if it still waits."""
        waiting = [r for r in self._requests if self._pairing.offer_of(r.offer.connection) is r.offer]
        self._requests = waiting
        for request in reversed(waiting):
            if request.account is account:
                return request
        raise LabError(
            "no device waits for a code of this number: it has expired, or nobody has asked for one"
        )

    def _register(self, connection: Connection, query: Node, hello: Node) -> Node:
        account, offer = self._directory.find(hello.jid("jid")), self._pairing.offer_of(connection)
        if self.refusal is not None:
            return _refused(query, self.refusal)
        if account is None or offer is None:
            return _refused(query, 404)
        if hello.child("companion_server_auth_key_pub").data != connection.hello.noise_key:
            raise ProtocolError("a device asks for a code with another key than that of its connection")
        if not re.fullmatch(r"\w+ \([\w ]+\)", hello.child("companion_platform_display").data.decode()):
            return _refused(query, 400)
        wrapped = hello.child("link_code_pairing_wrapped_companion_ephemeral_pub").data
        request = _Request(ref=os.urandom(16), offer=offer, account=account, wrapped_key=wrapped)
        self._requests.append(request)
        part = Node(_TAG, {"stage": "companion_hello"}, (Node("link_code_pairing_ref", {}, request.ref),))
        return _result(query, part)

    def _finish(self, query: Node, finish: Node) -> Node:
        ref = finish.child("link_code_pairing_ref").data
        request = next((request for request in self._requests if request.ref == ref), None)
        if request is None or request.bundle is None or request.bundle.done():
            return _refused(query, 404)
        if finish.child("companion_identity_public").data != request.offer.keys.identity:
            raise ProtocolError("a device ends its pairing with another identity than it has registered")
        request.bundle.set_result(finish.child("link_code_pairing_wrapped_key_bundle").data)
        return _result(query)


def _primary_hello(request: _Request, wrapped_key: bytes) -> Node:
    part = (
        Node("link_code_pairing_wrapped_primary_ephemeral_pub", {}, wrapped_key),
        Node("primary_identity_pub", {}, request.account.primary.public),
        Node("link_code_pairing_ref", {}, request.ref),
    )
    attrs: dict[str, Value] = {
        "from": SERVER,
        "type": _TAG,
        "id": os.urandom(4).hex(),
        "t": str(int(time.time())),
    }
    return Node("notification", attrs, (Node(_TAG, {"stage": "primary_hello"}, part),))


def _open(bundle: bytes, shared: bytes) -> bytes:
    """The device's identity, the phone's, and random bytes. It opens only if both sides had the same code."""
    salt, rest = bundle[:_SALT_BYTES], bundle[_SALT_BYTES:]
    key = hkdf(shared, _KEY_BYTES, salt=salt, info=b"link_code_pairing_key_bundle_encryption_key")
    try:
        return AESGCM(key).decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], None)
    except InvalidTag as exc:
        raise LabError("this is not the code that the device shows") from exc


def _adv_secret(request: _Request, shared: bytes, opened: bytes) -> bytes:
    identity, account = request.offer.keys.identity, request.account
    random = opened[2 * _KEY_BYTES :]
    if opened[: 2 * _KEY_BYTES] != identity + account.primary.public or len(random) != _KEY_BYTES:
        raise ProtocolError("a device's key bundle does not name the two identities")
    return hkdf(shared + account.primary.agree(identity) + random, _KEY_BYTES, info=b"adv_secret")


def _wrap(code: str, key: bytes) -> bytes:
    salt, iv = os.urandom(_SALT_BYTES), os.urandom(_IV_BYTES)
    return salt + iv + _crypt(code, salt, iv, key)


def _unwrap(code: str, wrapped: bytes) -> bytes:
    if len(wrapped) != _SALT_BYTES + _IV_BYTES + _KEY_BYTES:
        raise ProtocolError("a wrapped key has to be 80 bytes long")
    salt, rest = wrapped[:_SALT_BYTES], wrapped[_SALT_BYTES:]
    return _crypt(code, salt, rest[:_IV_BYTES], rest[_IV_BYTES:])


def _crypt(code: str, salt: bytes, iv: bytes, data: bytes) -> bytes:
    """AES in counter mode: the same way in and out. No check: a wrong code gives a wrong key, unnoticed here."""
    key = PBKDF2HMAC(hashes.SHA256(), _KEY_BYTES, salt, _ROUNDS).derive(code.encode())
    return Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor().update(data)


def _result(query: Node, *content: Node) -> Node:
    attrs: dict[str, Value] = {"id": query.text("id"), "from": SERVER, "type": "result"}
    return Node("iq", attrs, content or None)


def _refused(query: Node, code: int) -> Node:
    error = Node("error", {"code": str(code), "text": _ERRORS.get(code, "error")})
    attrs: dict[str, Value] = {"id": query.text("id"), "from": SERVER, "type": "error"}
    return Node("iq", attrs, (error,))
