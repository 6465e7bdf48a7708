"""The post office's room for what is sealed once for many: one device's message to all others; it opens nothing."""

import datetime as dt
import os
from collections.abc import Iterable

from bot.lab.audience import Audience
from bot.lab.directory import Account, Device, Directory
from bot.lab.groups import Group, Groups
from bot.lab.nodes import Jid, Node, Value
from bot.lab.origin import Origin, envelope, seconds

_TOLD_TO_OWN_DEVICES = {"read": "read-self", "played": "played-self"}


class GroupPost:
    def __init__(self, directory: Directory, groups: Groups) -> None:
        self._directory, self._groups = directory, groups

    def message(self, origin: Origin, stanza: Node, *, at: dt.datetime | None = None) -> None:
        """The same ciphertext to all; who was not told the sender's key before gets that beside it, in private.

        What is sent again is for one device alone, and encrypted for it as between two people.
        """
        if (group := self._audience(origin.account, stanza)) is None:
            return
        attrs = {**envelope(origin, stanza, at), **self._from(group, origin)}
        identity = stanza.all("device-identity")
        if "participant" in stanza.attrs:
            if device := self._directory.device(stanza.jid("participant")):
                device.deliver(Node("message", attrs, stanza.all("enc") + identity), lasting=True)
            return
        private = self._private_parts(stanza)
        for account, number, device in group.devices():
            if account is origin.account and number == origin.device:
                continue
            own = private.get(device, ())
            content = own + stanza.all("enc") + (identity if own else ())
            device.deliver(Node("message", attrs, content), lasting=True)

    def receipt(self, origin: Origin, stanza: Node) -> None:
        """To whoever wrote the message, which only the reader's device knows: it names the author."""
        kind = stanza.text("type", "")
        if kind == "sender" or "participant" not in stanza.attrs:
            return
        author = stanza.jid("participant")
        group = self._audience(self._directory.find(author), stanza)
        if group is None or origin.account not in group.members:
            return
        attrs: dict[str, Value] = {"id": stanza.text("id"), "t": stanza.text("t", seconds())}
        if kind:
            attrs["type"] = kind
        attrs |= self._from(group, origin)
        for device in self._authors_devices(author, only_it=kind == "retry"):
            device.deliver(Node("receipt", attrs, stanza.content), lasting=True)
        if own_kind := _TOLD_TO_OWN_DEVICES.get(kind):
            told = Node("receipt", {**attrs, "type": own_kind, "recipient": author.on(0)}, stanza.content)
            for number, device in origin.account.devices.items():
                if number != origin.device:
                    device.deliver(told, lasting=True)

    def chat_state(self, origin: Origin, stanza: Node) -> None:
        if (group := self._audience(origin.account, stanza)) is None:
            return
        told = Node("chatstate", self._from(group, origin), stanza.content)
        for account, _, device in group.devices():
            if account is not origin.account:
                device.deliver(told, lasting=False)

    def announce(self, group: Group, by: Account, change: Node, accounts: Iterable[Account]) -> None:
        """A change of the group itself, to all devices of these accounts."""
        attrs: dict[str, Value] = {"id": os.urandom(8).hex(), "type": "w:gp2", "t": seconds()}
        attrs |= {"notify": by.name, **self._from(group, Origin(account=by, device=0))}
        for account in accounts:
            for device in account.devices.values():
                device.deliver(Node("notification", attrs, (change,)), lasting=True)

    def _audience(self, author: Account | None, stanza: Node) -> Audience | None:
        """None where the author is no member: nobody there is told anything by an outsider."""
        return self._groups.audience(author, stanza.jid("to"))

    def _from(self, group: Audience, origin: Origin) -> dict[str, Value]:
        mode = {"addressing_mode": group.addressing_mode}
        return {"from": group.jid, **origin.in_group(group.server), **mode}

    def _private_parts(self, stanza: Node) -> dict[Device, tuple[Node, ...]]:
        parts = stanza.find("participants")
        named = ((self._directory.device(to.jid("jid")), to) for to in parts.all("to")) if parts else ()
        return {device: to.all("enc") for device, to in named if device is not None}

    def _authors_devices(self, author: Jid, *, only_it: bool) -> Iterable[Device]:
        """A request to encrypt again is for the device that did it before."""
        account = self._directory.find(author)
        if account is None:
            return ()
        if only_it:
            device = account.devices.get(author.device)
            return (device,) if device else ()
        return account.devices.values()
