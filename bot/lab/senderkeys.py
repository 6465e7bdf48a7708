"""Sender keys: how one device writes to a whole group at once; it knows neither groups nor their members.

A sender has one chain of keys for the group. Each reader is told in private where the chain stands, and from there
on derives the key of every message; whoever came later cannot read what was before. All readers know the chain, so
that each message is signed as well: else any of them could write in the sender's name.
"""

import os
from collections import OrderedDict
from dataclasses import dataclass, field

from bot.lab import cbc
from bot.lab.errors import Duplicate, ProtocolError, SignalError
from bot.lab.keys import KeyPair, hkdf, hmac_sha256, verify
from bot.lab.wire import SIGNATURE_BYTES, SenderKeyDistribution, SenderKeyMessage

_KEPT = 5  # how many keys of one sender stay usable, for what is still under way
_FARTHEST_SKIP = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class _MessageKey:
    iv: bytes
    cipher: bytes


@dataclass(slots=True)
class _Chain:
    """One key per message. Keys passed over are kept for messages out of order."""

    key: bytes
    iteration: int = 0
    _waiting: dict[int, _MessageKey] = field(default_factory=dict)

    def step(self) -> _MessageKey:
        material = hkdf(hmac_sha256(self.key, b"\x01"), 48, info=b"WhisperGroup")
        self.key = hmac_sha256(self.key, b"\x02")
        self.iteration += 1
        return _MessageKey(iv=material[:16], cipher=material[16:])

    def take(self, iteration: int) -> _MessageKey:
        if iteration - self.iteration > _FARTHEST_SKIP:
            raise SignalError("a group message from too far in the future")
        while self.iteration <= iteration:
            at = self.iteration
            self._waiting[at] = self.step()
        try:
            return self._waiting.pop(iteration)
        except KeyError:
            raise Duplicate(
                f"message {iteration} of this chain was opened before, or is from before one was told of it"
            ) from None


class SenderKey:
    """One's own key for one group."""

    def __init__(self) -> None:
        self._id = int.from_bytes(os.urandom(4), "big") & 0x7FFFFFFF
        self._chain = _Chain(os.urandom(32))
        self._signing = KeyPair.generate()

    def distribution(self) -> bytes:
        """For a reader: opens what is sealed from now on."""
        return SenderKeyDistribution(
            key_id=self._id,
            iteration=self._chain.iteration,
            chain_key=self._chain.key,
            signing_key=self._signing.public,
        ).to_bytes()

    def seal(self, plain: bytes) -> bytes:
        iteration, key = self._chain.iteration, self._chain.step()
        message = SenderKeyMessage(
            key_id=self._id, iteration=iteration, ciphertext=cbc.encrypt(key.cipher, key.iv, plain)
        ).to_bytes()
        return message + self._signing.sign(message)


@dataclass(slots=True)
class _Known:
    chain: _Chain
    signing: bytes


class SendersKeys:
    """What one reader has been told by one sender in one group, the newest last."""

    def __init__(self) -> None:
        self._keys: OrderedDict[int, _Known] = OrderedDict()

    def learn(self, distribution: bytes) -> None:
        """A key that is known already keeps its chain: senders repeat themselves, and late messages may still come."""
        try:
            told = SenderKeyDistribution.parse(distribution)
        except ProtocolError as exc:
            raise SignalError(str(exc)) from exc
        known = self._keys.get(told.key_id)
        if known is not None and known.signing == told.signing_key:
            return
        self._keys[told.key_id] = _Known(_Chain(told.chain_key, told.iteration), told.signing_key)
        if len(self._keys) > _KEPT:
            self._keys.popitem(last=False)

    def open(self, data: bytes) -> bytes:
        try:
            message = SenderKeyMessage.parse(data)
        except ProtocolError as exc:
            raise SignalError(str(exc)) from exc
        known = self._keys.get(message.key_id)
        if known is None:
            raise SignalError("this sender's key has not come")
        # Before the chain moves: a forged message must not use up a real one's key.
        if not verify(known.signing, data[:-SIGNATURE_BYTES], data[-SIGNATURE_BYTES:]):
            raise SignalError("the signature of a group message is wrong")
        key = known.chain.take(message.iteration)
        try:
            return cbc.decrypt(key.cipher, key.iv, message.ciphertext)
        except ValueError as exc:
            raise SignalError("a group message is not encrypted as it should be") from exc
