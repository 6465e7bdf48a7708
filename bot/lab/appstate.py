"""App state as an account's devices keep it: settings and marks as encrypted mutations under MACs; no network.

A collection is a list of numbered patches, each of which sets values under indexes. The server orders and
stores them and can read none. What keeps it honest is a sum over the MACs of all values that are set, the
LTHash, which every device computes for itself and every patch is signed over.
"""

import hmac
import json
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bot.lab import cbc, protobuf
from bot.lab.keys import hkdf, hmac_sha256

Collection = Literal[
    "critical_block", "critical_unblock_low", "regular_high", "regular", "regular_low"
]  # in the order of their urgency

_MAC_BYTES = 32
_WORDS = struct.Struct("<64H")  # the LTHash, 128 bytes, is added up in words of 16 bits that overflow


class Key:
    """What an account's phone gives to each linked device, and five keys that follow from it."""

    def __init__(self) -> None:
        # The id as phones make it: which device, and which of its keys.
        self.id, self.data = b"\x00\x00" + os.urandom(4), os.urandom(32)
        material = hkdf(self.data, 160, info=b"WhatsApp Mutation Keys")
        self._index, self._cipher, self._value, self._snapshot, self._patch = (
            material[start : start + 32] for start in range(0, 160, 32)
        )

    def index_mac(self, index: bytes) -> bytes:
        return hmac_sha256(self._index, index)

    def seal(self, plain: bytes) -> bytes:
        """A value that is set; its last bytes are its MAC."""
        iv = os.urandom(16)
        sealed = iv + cbc.encrypt(self._cipher, iv, plain)
        # The first byte says "set"; the last eight, how much of this is not the value.
        told = b"\x01" + self.id + sealed + _number(1 + len(self.id))
        return sealed + hmac.digest(self._value, told, "sha512")[:_MAC_BYTES]

    def snapshot_mac(self, name: str, version: int, total: bytes) -> bytes:
        return hmac_sha256(self._snapshot, total + _number(version) + name.encode())

    def patch_mac(self, name: str, version: int, snapshot_mac: bytes, value_macs: Sequence[bytes]) -> bytes:
        told = snapshot_mac + b"".join(value_macs) + _number(version) + name.encode()
        return hmac_sha256(self._patch, told)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """`index` says what is set, as ("mute", a chat's id); `value` is a SyncActionValue; `version`, its format's."""

    index: tuple[str, ...]
    value: Any
    version: int


class Ledger:
    """One collection as its writer keeps it: its version, and the MAC of each value that is set."""

    def __init__(self, name: Collection, key: Key) -> None:
        self.name, self.version = name, 0
        self._key = key
        self._macs: dict[bytes, bytes] = {}

    def patch(self, settings: Sequence[Setting]) -> Any:
        """The next SyncdPatch of this collection."""
        self.version += 1
        mutations = [self._set(setting) for setting in settings]
        macs = [mutation.record.value.blob[-_MAC_BYTES:] for mutation in mutations]
        snapshot_mac = self._key.snapshot_mac(self.name, self.version, _total(self._macs.values()))
        return protobuf.SyncdPatch(
            version=protobuf.SyncdVersion(version=self.version),
            mutations=mutations,
            snapshotMAC=snapshot_mac,
            patchMAC=self._key.patch_mac(self.name, self.version, snapshot_mac, macs),
            keyID=protobuf.KeyId(ID=self._key.id),
            deviceIndex=0,
        )

    def _set(self, setting: Setting) -> Any:
        index = json.dumps(setting.index, separators=(",", ":")).encode()
        data = protobuf.SyncActionData(index=index, value=setting.value, padding=b"", version=setting.version)
        sealed, index_mac = self._key.seal(data.SerializeToString()), self._key.index_mac(index)
        self._macs[index_mac] = sealed[-_MAC_BYTES:]
        record = protobuf.SyncdRecord(
            index=protobuf.SyncdIndex(blob=index_mac),
            value=protobuf.SyncdValue(blob=sealed),
            keyID=protobuf.KeyId(ID=self._key.id),
        )
        return protobuf.SyncdMutation(operation=protobuf.SyncdMutation.SET, record=record)


def _total(macs: Any) -> bytes:
    """The LTHash of these values, in whatever order."""
    words = [0] * 64
    for mac in macs:
        more = _WORDS.unpack(hkdf(mac, _WORDS.size, info=b"WhatsApp Patch Integrity"))
        words = [(word + each) & 0xFFFF for word, each in zip(words, more, strict=True)]
    return _WORDS.pack(*words)


def _number(value: int) -> bytes:
    return value.to_bytes(8, "big")
