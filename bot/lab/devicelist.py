"""Which devices an account has: how its own devices are told of a change, and how two sides compare lists."""

import base64
import hashlib
import os
import time
from collections.abc import Iterable

from bot.lab.directory import Account
from bot.lab.nodes import Jid, Node, Value


def participant_hash(devices: Iterable[Jid]) -> str:
    """By it a sender and the server find out whether they mean the same devices."""
    names = sorted(f"{jid.user}.0:{jid.device}@{jid.server}" for jid in devices)
    digest = hashlib.sha256("".join(names).encode()).digest()
    return "2:" + base64.b64encode(digest[:6]).decode()


def announce(account: Account, *, new: int | None = None) -> None:
    """Tells the account's devices, but the one that is `new`, which they are by now.

    Who is not told goes on encrypting for the devices of before.
    """
    jids = [account.phone.on(number) for number in account.devices]
    listed = tuple(Node("device", {"jid": jid, "key-index": str(jid.device)}) for jid in jids)
    attrs: dict[str, Value] = {"from": account.phone, "type": "account_sync", "t": str(int(time.time()))}
    devices = Node("devices", {"dhash": participant_hash(jids)}, listed)
    for number, device in account.devices.items():
        if number != new:
            told = Node("notification", {**attrs, "id": os.urandom(8).hex()}, (devices,))
            device.deliver(told, lasting=True)
