"""What a phone sends: sealed for each of its readers, and kept for those who ask for it again; it reads nothing."""

import datetime as dt
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bot.lab import bundles, messages, protobuf, vouching
from bot.lab.audience import Audience
from bot.lab.directory import SERVERS, Account, Addressing, Device, Directory
from bot.lab.errors import LabError
from bot.lab.linked import LinkedDevice
from bot.lab.nodes import SHARED, Jid, Node, Value
from bot.lab.origin import Origin
from bot.lab.post import PostOffice
from bot.lab.sessions import GroupSessions, Sessions, pad, spoiled, telling
from bot.lab.signal import Bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    """Kept for readers who ask again."""

    chat: Jid
    attrs: dict[str, Value]
    message: Any
    origin: Origin
    at: dt.datetime | None

    def shown_to(self, account: Account) -> Any:
        """One's own other devices are told in which chat it was, but in a group, where all get the same."""
        if account is not self.origin.account or self.chat.server in SHARED:
            return self.message
        return messages.for_own_devices(self.message, str(self.chat))


class Sealer:
    def __init__(
        self,
        account: Account,
        phone: Device,
        sessions: tuple[Sessions, GroupSessions],
        post: PostOffice,
        directory: Directory,
    ) -> None:
        self._account, self._phone = account, phone
        self._sessions, self._group_sessions = sessions
        self._post, self._directory = post, directory
        self._sent: dict[str, _Sent] = {}

    def send(
        self,
        message: Any,
        *,
        to: Account | Audience,
        addressed: Addressing = "lid",
        alt: bool = True,
        message_id: str | None = None,
        at: dt.datetime | None = None,
        kind: str = "text",
        edit: str | None = None,
        damaged: bool = False,
    ) -> str:
        """Encrypts for each device of the reader, and a copy for each other device of one's own, or for a group.

        A `damaged` message does not open: a linked device asks for it again, and gets it whole. How people are
        addressed in a group is the group's to say.
        """
        message_id = message_id or new_id()
        chat = chat_of(to, addressed)
        attrs: dict[str, Value] = {"to": chat, "id": message_id, "type": kind}
        if edit:
            attrs["edit"] = edit
        sent = _Sent(
            chat=chat,
            attrs=attrs,
            message=message,
            origin=Origin(account=self._account, device=0, alt=alt),
            at=at,
        )
        self._sent[message_id] = sent
        parts = self._for_group(sent, to) if isinstance(to, Audience) else self._for_person(sent, to)
        *first, last = parts
        # In a group the key still arrives: what does not open is the message.
        content = (*first, _spoiled(last) if damaged else last)
        self._post.message(sent.origin, Node("message", attrs, content), at=at)
        return message_id

    def sent(self, message_id: str) -> Any:
        """What this phone wrote. LabError if it did not write that."""
        if message_id not in self._sent:
            raise LabError(f"this phone has sent no message {message_id}")
        return self._sent[message_id].message

    def tell(self, device: LinkedDevice, message: Any) -> str:
        """Tells one of one's own linked devices something that it shows to nobody: keys, history."""
        message_id = new_id()
        attrs: dict[str, Value] = {"to": device.jid, "id": message_id, "type": "text", "category": "peer"}
        enc = self._sessions.seal(self._account, device.number, message)
        origin = Origin(account=self._account, device=0)
        self._post.message(origin, Node("message", attrs, (enc,)))
        return message_id

    def _for_person(self, sent: _Sent, to: Account) -> Iterator[Node]:
        tos = []
        for account in dict.fromkeys((self._account, to)):
            for number, device in account.devices.items():
                if device is not self._phone:
                    enc = self._sessions.seal(account, number, sent.shown_to(account))
                    tos.append(Node("to", {"jid": account.address(sent.chat.server, number)}, (enc,)))
        yield Node("participants", {}, tuple(tos))

    def _for_group(self, sent: _Sent, group: Audience) -> Iterator[Node]:
        """One ciphertext for all, and the key to it in private for whoever lacks it."""
        readers = [
            (account, number) for account, number, device in group.devices() if device is not self._phone
        ]
        key, untold = self._group_sessions.key_for(group.jid, readers)
        told = telling(group.jid, key)
        tos = tuple(
            Node("to", {"jid": group.address(account, number)}, (self._sessions.seal(account, number, told),))
            for account, number in readers
            if (account, number) in untold
        )
        if tos:
            yield Node("participants", {}, tos)
        sealed = key.seal(pad(sent.message.SerializeToString()))
        yield Node("enc", {"v": "2", "type": "skmsg"}, sealed)

    def send_again(self, receipt: Node) -> None:
        """To the one device that could not open it; a second request comes with keys for a new session."""
        reader, sent = speaker_of(receipt), self._sent.get(receipt.text("id"))
        account = self._directory.find(reader)
        if sent is None or account is None or reader.device not in account.devices:
            return
        message, attrs = sent.shown_to(account), dict(sent.attrs)
        if sent.chat.server in SHARED:
            message = protobuf.Message.FromString(message.SerializeToString())
            message.MergeFrom(telling(sent.chat, self._group_sessions.told(sent.chat)))
            attrs |= {"participant": reader}
        else:
            attrs |= {"to": reader, "recipient": sent.chat, "device_fanout": "false"}
        enc = self._sessions.seal(account, reader.device, message, anew=_keys_in(receipt, account, reader))
        counted = Node("enc", {**enc.attrs, "count": receipt.child("retry").text("count")}, enc.data)
        self._post.message(sent.origin, Node("message", attrs, (counted,)), at=sent.at)


def _keys_in(receipt: Node, account: Account, reader: Jid) -> Bundle | None:
    """For a new session. A linked device shows whose it is."""
    if (keys := receipt.find("keys")) is None:
        return None
    bundle = bundles.read(receipt.child("registration"), keys)
    if reader.device:
        vouching.check(account, reader.device, bundle.identity, keys.child("device-identity").data)
    return bundle


def new_id() -> str:
    return "3A" + os.urandom(9).hex().upper()


def speaker_of(stanza: Node) -> Jid:
    """Whose device a stanza is from; what comes from a group names it beside."""
    return stanza.jid("participant" if "participant" in stanza.attrs else "from")


def chat_of(to: Account | Audience, addressed: Addressing) -> Jid:
    return to.jid if isinstance(to, Audience) else to.address(SERVERS[addressed])


def _spoiled(part: Node) -> Node:
    if part.tag == "enc":
        return spoiled(part)
    tos = (Node(to.tag, to.attrs, tuple(spoiled(enc) for enc in to.all("enc"))) for to in part.children)
    return Node(part.tag, part.attrs, tuple(tos))
