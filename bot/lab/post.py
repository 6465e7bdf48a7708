"""The post office: takes what one device sends and delivers it to all the devices it is for; opens nothing."""

import datetime as dt

from bot.lab.directory import Directory
from bot.lab.grouppost import GroupPost
from bot.lab.groups import Groups
from bot.lab.nodes import GROUP, LID, SHARED, Jid, Node, Value
from bot.lab.origin import Origin, envelope, seconds

_TOLD_TO_OWN_DEVICES = {"read": "read-self", "played": "played-self"}


class PostOffice:
    def __init__(self, directory: Directory, groups: Groups) -> None:
        self._directory = directory
        self._groups = GroupPost(directory, groups)
        self.announce = self._groups.announce

    def message(self, origin: Origin, stanza: Node, *, at: dt.datetime | None = None) -> None:
        """Delivers each device its own ciphertext. Whom nobody knows is skipped, as WhatsApp does."""
        if stanza.jid("to").server in SHARED:
            self._groups.message(origin, stanza, at=at)
            return
        shared = stanza.find("device-identity")
        # What is sent again goes to one device, and names the chat beside it.
        to = stanza.jid("recipient") if "recipient" in stanza.attrs else stanza.jid("to")
        for jid, enc in _ciphertexts(stanza):
            account = self._directory.find(jid)
            if account is None or (device := account.devices.get(jid.device)) is None:
                continue
            attrs = envelope(origin, stanza, at)
            if stanza.text("category", "") == "peer":
                attrs["from"] = origin.account.address(to.server, origin.device)  # about no chat
            else:
                attrs |= self._own_copy(origin, to) if account is origin.account else origin.attrs(to.server)
            attrs["addressing_mode"] = "lid" if to.server == LID else "pn"
            content = (enc, shared) if shared else (enc,)
            device.deliver(Node("message", attrs, content), lasting=True)

    def missed(self, origin: Origin, stanza: Node) -> list[Jid]:
        """All devices that a message to a person is for, if its sender has missed one or named another."""
        participants, account = stanza.find("participants"), self._directory.find(stanza.jid("to"))
        if participants is None or account is None:
            return []
        server = stanza.jid("to").server
        wanted = {
            each.address(server, number) for each in (origin.account, account) for number in each.devices
        }
        named = {to.jid("jid") for to in participants.all("to")} | {origin.jid(server)}
        return [] if named == wanted else list(wanted)

    def receipt(self, origin: Origin, stanza: Node) -> None:
        to, kind = stanza.jid("to"), stanza.text("type", "")
        if to.server in SHARED:
            self._groups.receipt(origin, stanza)
            return
        account = self._directory.find(to)
        if account is None or kind == "sender":
            return
        attrs: dict[str, Value] = {"id": stanza.text("id"), "t": stanza.text("t", seconds())}
        if kind:
            attrs["type"] = kind
        told = Node("receipt", {**attrs, **origin.attrs(to.server)}, stanza.content)
        if kind == "retry":
            # It asks one device to encrypt again, so only the one that did it before.
            if device := account.devices.get(to.device):
                device.deliver(told, lasting=True)
            return
        if account is not origin.account:
            for device in account.devices.values():
                device.deliver(told, lasting=True)
        if own_kind := _TOLD_TO_OWN_DEVICES.get(kind):
            attrs |= {"type": own_kind, **self._own_copy(origin, to)}
            self._to_own_others(origin, Node("receipt", attrs, stanza.content))

    def chat_state(self, origin: Origin, stanza: Node) -> None:
        to = stanza.jid("to")
        if to.server == GROUP:
            self._groups.chat_state(origin, stanza)
            return
        if (account := self._directory.find(to)) is None or account is origin.account:
            return
        for device in account.devices.values():
            device.deliver(Node("chatstate", origin.attrs(to.server), stanza.content), lasting=False)

    def _own_copy(self, origin: Origin, to: Jid) -> dict[str, Value]:
        """How the sender's other devices are told in which chat it was."""
        attrs: dict[str, Value] = {
            "from": origin.account.address(to.server, origin.device),
            "recipient": to.on(0),
        }
        if origin.alt and (account := self._directory.find(to)):
            name = "peer_recipient_pn" if to.server == LID else "peer_recipient_lid"
            attrs[name] = account.other_address(to.server)
        return attrs

    def _to_own_others(self, origin: Origin, stanza: Node) -> None:
        for number, device in origin.account.devices.items():
            if number != origin.device:
                device.deliver(stanza, lasting=True)


def _ciphertexts(stanza: Node) -> list[tuple[Jid, Node]]:
    """For whom and what: one for each device, or, sent again or among one's own devices, a single one."""
    if participants := stanza.find("participants"):
        return [(to.jid("jid"), to.child("enc")) for to in participants.all("to")]
    return [(stanza.jid("to"), enc) for enc in stanza.all("enc")]
