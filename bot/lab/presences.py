"""Who is online, and who has asked to be told: the server's side of `presence` stanzas; typing is not among them."""

import time
from collections import defaultdict

from bot.lab.directory import Account, Directory
from bot.lab.nodes import Jid, Node, Value
from bot.lab.origin import Origin


class Presences:
    """A person is online while one of the person's devices is; only who is online oneself is told of others."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._online: defaultdict[Account, set[int]] = defaultdict(set)
        self._last_seen: dict[Account, int] = {}
        # Whom a device wants to be told of, under the id by which it has asked.
        self._wanted: defaultdict[tuple[Account, int], dict[Account, Jid]] = defaultdict(dict)

    def hear(self, origin: Origin, stanza: Node) -> None:
        match stanza.text("type", "available"):
            case "available":
                if name := stanza.text("name", ""):
                    origin.account.name = name
                self._change(origin, online=True)
            case "unavailable":
                self._change(origin, online=False)
            case "subscribe":
                self._subscribe(origin, stanza.jid("to"))
            case _:
                pass  # others exist, and change nothing here

    def lost(self, origin: Origin) -> None:
        """A device's connection is gone: it is not online any more, and wants to be told of nobody."""
        self._wanted.pop((origin.account, origin.device), None)
        self._change(origin, online=False)

    def is_linked_device_online(self, account: Account) -> bool:
        """Then WhatsApp does not ring the phone, as its owner seems to be sitting before another screen."""
        return bool(self._online[account] - {0})

    def _change(self, origin: Origin, *, online: bool) -> None:
        devices = self._online[origin.account]
        before = bool(devices)
        (devices.add if online else devices.discard)(origin.device)
        if before and not devices:
            self._last_seen[origin.account] = int(time.time())
        if before is not bool(devices):
            for account, number in list(self._wanted):
                self._tell(account, number, origin.account)

    def _subscribe(self, origin: Origin, to: Jid) -> None:
        if (account := self._directory.find(to)) is not None:
            self._wanted[origin.account, origin.device][account] = to.on(0)
            self._tell(origin.account, origin.device, account)

    def _tell(self, reader: Account, number: int, about: Account) -> None:
        jid, device = self._wanted[reader, number].get(about), reader.devices.get(number)
        if jid is None or device is None or number not in self._online[reader]:
            return
        attrs: dict[str, Value] = {"from": jid}
        if not self._online[about]:
            attrs["type"] = "unavailable"
            if last := self._last_seen.get(about):
                attrs["last"] = str(last)
        device.deliver(Node("presence", attrs), lasting=False)
