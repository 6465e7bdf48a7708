"""Signal between two devices: X3DH and the double ratchet; it neither knows WhatsApp nor touches the network."""

import hmac
import os
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Literal

from bot.lab import cbc
from bot.lab.errors import Duplicate, ProtocolError, SignalError
from bot.lab.keys import KeyPair, hkdf, hmac_sha256, verify
from bot.lab.wire import MAC_BYTES, PreKeyMessage, WhisperMessage, with_type

_KEPT = 5  # how many earlier sessions and receiving chains stay usable, for what is still under way
_FARTHEST_SKIP = 2000

Kind = Literal["pkmsg", "msg"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A ciphertext and how it is labelled: pkmsg until the other side has answered, then msg."""

    kind: Kind
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What a device publishes so that others can write to it first. `prekey` is used up by its reader."""

    registration_id: int
    identity: bytes
    signed_prekey_id: int
    signed_prekey: bytes
    signature: bytes
    prekey_id: int | None = None
    prekey: bytes | None = None


class Keyring:
    """A device's own keys: one identity, one signed prekey, and one-time prekeys made on demand."""

    def __init__(self, identity: KeyPair | None = None) -> None:
        self.identity = identity or KeyPair.generate()
        self.registration_id = int.from_bytes(os.urandom(2), "big") & 0x3FFF | 1
        self.signed_prekey = KeyPair.generate()
        self._one_time: dict[int, KeyPair] = {}
        self._last_id = 0

    def publish(self) -> Bundle:
        """A bundle with a fresh one-time prekey."""
        self._last_id += 1
        prekey = self._one_time[self._last_id] = KeyPair.generate()
        return Bundle(
            registration_id=self.registration_id,
            identity=self.identity.public,
            signed_prekey_id=1,
            signed_prekey=self.signed_prekey.public,
            signature=self.identity.sign(with_type(self.signed_prekey.public)),
            prekey_id=self._last_id,
            prekey=prekey.public,
        )

    def one_time(self, prekey_id: int) -> KeyPair:
        try:
            return self._one_time[prekey_id]
        except KeyError:
            raise SignalError(f"one-time prekey {prekey_id} is unknown or was used before") from None

    def use_up(self, prekey_id: int) -> None:
        self._one_time.pop(prekey_id, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _MessageKeys:
    cipher: bytes
    mac: bytes
    iv: bytes


@dataclass(slots=True)
class _Chain:
    """A symmetric ratchet: one key per message. Keys passed over are kept for messages out of order."""

    key: bytes
    index: int = 0
    _waiting: dict[int, _MessageKeys] = field(default_factory=dict)
    _spent_at: dict[int, float] = field(default_factory=dict)

    def step(self) -> _MessageKeys:
        material = hkdf(hmac_sha256(self.key, b"\x01"), 80, info=b"WhisperMessageKeys")
        self.key = hmac_sha256(self.key, b"\x02")
        self.index += 1
        return _MessageKeys(cipher=material[:32], mac=material[32:64], iv=material[64:])

    def keys_of(self, counter: int) -> _MessageKeys:
        """The keys stay until `spend`: a forged message must not use up a real one's."""
        if counter - self.index > _FARTHEST_SKIP:
            raise SignalError("a message from too far in the future")
        while self.index <= counter:
            index = self.index
            self._waiting[index] = self.step()
        try:
            return self._waiting[counter]
        except KeyError:
            before = self._spent_at.get(counter)
            raise Duplicate(f"message {counter} of this chain was opened before", opened_at=before) from None

    def spend(self, counter: int) -> None:
        del self._waiting[counter]
        self._spent_at[counter] = time.monotonic()


class _Session:
    """One double ratchet. The initiator's base key names it on both sides."""

    def __init__(
        self, *, ours: KeyPair, theirs: bytes, base_key: bytes, root: bytes, ratchet: KeyPair
    ) -> None:
        self.base_key = base_key
        self._ours, self._theirs = ours, theirs
        self._root, self._ratchet = root, ratchet
        self._sending: _Chain | None = None
        self._previous_counter = 0
        self._receiving: OrderedDict[bytes, _Chain] = OrderedDict()

    def start_sending(self, their_ratchet: bytes) -> None:
        self._previous_counter = self._sending.index if self._sending else 0
        self._ratchet = KeyPair.generate()
        self._root, key = _root_step(self._root, self._ratchet.agree(their_ratchet))
        self._sending = _Chain(key)

    def seal(self, plain: bytes) -> bytes:
        if self._sending is None:
            raise SignalError("this session has not received anything yet")
        counter, keys = self._sending.index, self._sending.step()
        message = WhisperMessage(
            ratchet_key=self._ratchet.public,
            counter=counter,
            previous_counter=self._previous_counter,
            ciphertext=cbc.encrypt(keys.cipher, keys.iv, plain),
        ).to_bytes()
        return message + _mac(keys.mac, self._ours.public, self._theirs, message)

    def open(self, data: bytes) -> bytes:
        """State changes only after the MAC is right, so a wrong session can simply be tried."""
        message = WhisperMessage.parse(data)
        root, chain = self._root, self._receiving.get(message.ratchet_key)
        turned = chain is None
        if chain is None:
            root, key = _root_step(root, self._ratchet.agree(message.ratchet_key))
            chain = _Chain(key)
        keys = chain.keys_of(message.counter)
        expected = _mac(keys.mac, self._theirs, self._ours.public, data[:-MAC_BYTES])
        if not hmac.compare_digest(expected, data[-MAC_BYTES:]):
            raise SignalError("the MAC of a message is wrong")
        chain.spend(message.counter)
        if turned:
            self._root = root
            self._receiving[message.ratchet_key] = chain
            if len(self._receiving) > _KEPT:
                self._receiving.popitem(last=False)
            self.start_sending(message.ratchet_key)
        return cbc.decrypt(keys.cipher, keys.iv, message.ciphertext)


class Correspondence:
    """All sessions with one other device, the current one first.

    Both sides may start a session at the same time; each then opens what the other began, and the last
    one that worked becomes current.
    """

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._sessions: list[_Session] = []
        self._unanswered: PreKeyMessage | None = None

    @property
    def open_for_writing(self) -> bool:
        return bool(self._sessions)

    def begin(self, bundle: Bundle) -> None:
        """X3DH as the one who writes first. Any earlier session stays for what is under way."""
        if not verify(bundle.identity, with_type(bundle.signed_prekey), bundle.signature):
            raise SignalError("the signature of a signed prekey is wrong")
        identity, base = self._keyring.identity, KeyPair.generate()
        secret = identity.agree(bundle.signed_prekey) + base.agree(bundle.identity)
        secret += base.agree(bundle.signed_prekey)
        if bundle.prekey is not None:
            secret += base.agree(bundle.prekey)
        session = _Session(
            ours=identity, theirs=bundle.identity, base_key=base.public, root=_x3dh(secret), ratchet=base
        )
        session.start_sending(bundle.signed_prekey)
        self._promote(session)
        self._unanswered = PreKeyMessage(
            registration_id=self._keyring.registration_id,
            prekey_id=bundle.prekey_id,
            signed_prekey_id=bundle.signed_prekey_id,
            base_key=base.public,
            identity_key=identity.public,
            message=b"",
        )

    def forget(self) -> None:
        """As a device does that was restored from nothing."""
        self._sessions.clear()
        self._unanswered = None

    def seal(self, plain: bytes) -> Sealed:
        if not self._sessions:
            raise SignalError("there is no session with this device")
        data = self._sessions[0].seal(plain)
        if (header := self._unanswered) is None:
            return Sealed(kind="msg", data=data)
        first = PreKeyMessage(
            registration_id=header.registration_id,
            prekey_id=header.prekey_id,
            signed_prekey_id=header.signed_prekey_id,
            base_key=header.base_key,
            identity_key=header.identity_key,
            message=data,
        )
        return Sealed(kind="pkmsg", data=first.to_bytes())

    def open(self, sealed: Sealed) -> bytes:
        try:
            return self._open_first(sealed.data) if sealed.kind == "pkmsg" else self._open_any(sealed.data)
        except (ProtocolError, ValueError) as exc:
            if isinstance(exc, SignalError):
                raise
            raise SignalError(str(exc)) from exc

    def _open_any(self, data: bytes) -> bytes:
        failure = SignalError("there is no session with this device")
        for session in list(self._sessions):
            try:
                plain = session.open(data)
            except SignalError as exc:
                failure = exc
                if isinstance(exc, Duplicate):
                    break
                continue
            self._promote(session)
            self._unanswered = None
            return plain
        raise failure

    def _open_first(self, data: bytes) -> bytes:
        message = PreKeyMessage.parse(data)
        for session in self._sessions:
            if session.base_key == message.base_key:
                return session.open(message.message)
        session = self._answer(message)
        plain = session.open(message.message)
        if message.prekey_id is not None:
            self._keyring.use_up(message.prekey_id)
        self._promote(session)
        self._unanswered = None
        return plain

    def _answer(self, message: PreKeyMessage) -> _Session:
        """X3DH as the one who was written to."""
        ring = self._keyring
        secret = ring.signed_prekey.agree(message.identity_key) + ring.identity.agree(message.base_key)
        secret += ring.signed_prekey.agree(message.base_key)
        if message.prekey_id is not None:
            secret += ring.one_time(message.prekey_id).agree(message.base_key)
        return _Session(
            ours=ring.identity,
            theirs=message.identity_key,
            base_key=message.base_key,
            root=_x3dh(secret),
            ratchet=ring.signed_prekey,
        )

    def _promote(self, session: _Session) -> None:
        others = [other for other in self._sessions if other is not session]
        self._sessions = [session, *others][:_KEPT]


def _x3dh(secret: bytes) -> bytes:
    # 32 bytes of 0xFF set these secrets apart from those of the XEdDSA signatures.
    return hkdf(b"\xff" * 32 + secret, 64, info=b"WhisperText")[:32]


def _root_step(root: bytes, shared: bytes) -> tuple[bytes, bytes]:
    material = hkdf(shared, 64, salt=root, info=b"WhisperRatchet")
    return material[:32], material[32:]


def _mac(key: bytes, sender: bytes, receiver: bytes, message: bytes) -> bytes:
    return hmac_sha256(key, with_type(sender) + with_type(receiver) + message)[:MAC_BYTES]
