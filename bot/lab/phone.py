"""A phone, device 0 of its account: its keys, its Signal sessions, what it sends and shows; no test vocabulary."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bot.lab import bundles, vouching
from bot.lab.audience import STATUS
from bot.lab.directory import Account, Addressing
from bot.lab.errors import Duplicate, SignalError
from bot.lab.groups import Group
from bot.lab.heard import Heard, text_of
from bot.lab.linked import LinkedDevice
from bot.lab.nodes import GROUP, Jid, Node, Value
from bot.lab.origin import Origin
from bot.lab.sealing import Sealer, chat_of, speaker_of
from bot.lab.server import Server
from bot.lab.sessions import GroupSessions, Sessions, identity_in
from bot.lab.shown import ChatState, Presence, Receipt
from bot.lab.signal import Bundle, Keyring
from bot.lab.timeline import Timeline

_SILENT = ("senderKeyDistributionMessage", "messageContextInfo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """A message that was not shown, as its key had opened one before, at `opened_at` by time.monotonic."""

    id: str
    opened_at: float | None


class Phone:
    def __init__(self, server: Server, account: Account) -> None:
        self.heard: Timeline[Heard] = Timeline()
        self.receipts: Timeline[Receipt] = Timeline()
        self.chat_states: Timeline[ChatState] = Timeline()
        self._shown: set[tuple[str, str, str]] = set()
        self._linked: set[int] = set()
        self.presences: Timeline[Presence] = Timeline()
        self.rang: Timeline[Heard] = Timeline()  # messages that its owner was notified of
        self.repeats: list[Repeat] = []  # also those that came twice, and were shown the first time
        self.retries: list[str] = []  # ids of messages that did not open and were asked for again
        # What the phone does by itself: when a device was linked, and when one tells it something.
        self.on_linked: Callable[[LinkedDevice], None] = lambda device: None
        self.on_peer_message: Callable[[int, Any], None] = lambda number, message: None
        self._server, self._account = server, account
        self._keyring = Keyring(account.primary)
        self._sessions, self._group_sessions = Sessions(self._keyring), GroupSessions()
        self._sealer = Sealer(
            account, self, (self._sessions, self._group_sessions), server.post, server.directory
        )
        self.send, self.sent, self.tells = self._sealer.send, self._sealer.sent, self._sealer.tell
        account.devices[0] = self

    def publish(self) -> Bundle:
        return self._keyring.publish()

    def deliver(self, stanza: Node, *, lasting: bool) -> None:
        """A phone of the lab is always on, and shows at once what it gets."""
        match stanza.tag:
            case "message":
                self._show(stanza)
            case "receipt" if stanza.text("type", "") == "retry":
                self._sealer.send_again(stanza)
            case "receipt":
                self.receipts.note(Receipt.read(stanza, self._number))
            case "notification" if stanza.text("type") == "account_sync":
                self._learn_devices(stanza.child("devices"))
            case "presence":
                self.presences.note(Presence.read(stanza, self._number))
            case "chatstate":
                self.chat_states.note(ChatState.read(stanza, self._number))

    def send_receipt(
        self,
        kind: str,
        ids: tuple[str, ...],
        *,
        to: Account | Group,
        addressed: Addressing = "lid",
        author: Account | None = None,
        at: dt.datetime | None = None,
    ) -> None:
        """In a group the messages' `author` has to be named."""
        first, *others = ids
        attrs: dict[str, Value] = {"to": chat_of(to, addressed), "id": first}
        if isinstance(to, Group) and author is not None:
            attrs["participant"] = to.address(author)
        if kind != "delivered":
            attrs["type"] = kind
        if at is not None:
            attrs["t"] = str(int(at.timestamp()))
        items = tuple(Node("item", {"id": other}) for other in others)
        self._server.post.receipt(
            self._origin(), Node("receipt", attrs, (Node("list", {}, items),) if items else None)
        )

    def send_chat_state(self, state: ChatState, *, to: Account | Group, addressed: Addressing) -> None:
        part = Node(state.state, {"media": "audio"} if state.recording else {})
        stanza = Node("chatstate", {"to": chat_of(to, addressed)}, (part,))
        self._server.post.chat_state(self._origin(), stanza)

    def shows_itself(self, online: bool) -> None:
        kind = "available" if online else "unavailable"
        self._server.presences.hear(self._origin(), Node("presence", {"type": kind}))

    def watches(self, account: Account, *, addressed: Addressing) -> None:
        attrs: dict[str, Value] = {"type": "subscribe", "to": chat_of(account, addressed)}
        self._server.presences.hear(self._origin(), Node("presence", attrs))

    def forget_sessions(self) -> None:
        """As after a restore without keys: what comes next does not open and is asked for again."""
        self._sessions.forget()
        self._group_sessions.forget()

    def takes_for_told(self, group: Group, account: Account) -> None:
        """As where the key to its messages got lost on its way: linked devices of this account have to ask for it."""
        linked = [
            (account, number)
            for number, device in account.devices.items()
            if isinstance(device, LinkedDevice)
        ]
        self._group_sessions.key_for(group.jid, linked)

    def _origin(self) -> Origin:
        return Origin(account=self._account, device=0)

    def _number(self, jid: Jid) -> str:
        account = self._server.directory.find(jid)
        return account.number if account else str(jid)

    def _learn_devices(self, listed: Node) -> None:
        for number in {part.jid("jid").device for part in listed.all("device")} - self._linked:
            self._linked.add(number)
            if isinstance(device := self._account.devices.get(number), LinkedDevice):
                self.on_linked(device)

    def _show(self, stanza: Node) -> None:
        speaker = speaker_of(stanza)
        sender = self._server.directory.find(speaker)
        if sender is None:
            return
        try:
            opened = [self._open(stanza, sender, speaker.device, enc) for enc in stanza.all("enc")]
        except Duplicate as repeat:
            self.repeats.append(Repeat(id=stanza.text("id"), opened_at=repeat.opened_at))
            return
        except SignalError:
            self._ask_again(stanza)
            return
        if stanza.text("category", "") == "peer":
            # Between a person's own devices, and never shown.
            for message in opened:
                self.on_peer_message(speaker.device, message)
            return
        for message in opened:
            if _says_something(message):
                self._note(stanza, sender, message)

    def _open(self, stanza: Node, sender: Account, device: int, enc: Node) -> Any:
        if enc.text("type") == "skmsg":
            return self._group_sessions.open(stanza.jid("from"), sender, device, enc)
        if device and (identity := identity_in(enc)) is not None:
            # Every device of an account may write in its name: this one has to show that it is of the account.
            vouching.check(sender, device, identity, stanza.child("device-identity").data)
        message = self._sessions.open(sender, device, enc)
        if message.HasField("senderKeyDistributionMessage"):
            self._group_sessions.learn(sender, device, message.senderKeyDistributionMessage)
        return message

    def _note(self, stanza: Node, sender: Account, message: Any) -> None:
        place = stanza.jid("from")
        chat = str(place) if place.server == GROUP or place == STATUS else sender.number
        if message.HasField("deviceSentMessage"):
            chat = self._number(Jid.parse(message.deviceSentMessage.destinationJID))
            message = message.deviceSentMessage.message
        # neonize names the own account twice when it writes to it, so that device 0 gets each such message twice.
        if (which := (chat, sender.number, stanza.text("id"))) in self._shown:
            return
        self._shown.add(which)
        heard = Heard(
            id=stanza.text("id"),
            text=text_of(message),
            chat=chat,
            sender=sender.number,
            from_me=sender is self._account,
            at=dt.datetime.fromtimestamp(int(stanza.text("t")), dt.UTC),
            proto=message,
            _store=self._server.media,
        )
        self.heard.note(heard)
        if not heard.from_me and not self._server.presences.is_linked_device_online(self._account):
            self.rang.note(heard)

    def _ask_again(self, stanza: Node) -> None:
        """A retry receipt with fresh keys: the sender builds a new session and encrypts once more."""
        message_id = stanza.text("id")
        self.retries.append(message_id)
        count = str(self.retries.count(message_id))
        retry = Node("retry", {"count": count, "id": message_id, "t": stanza.text("t"), "v": "1"})
        registration, *keys = bundles.write(self.publish())
        attrs: dict[str, Value] = {"to": stanza.jid("from"), "id": message_id, "type": "retry"}
        attrs |= {name: stanza.jid(name) for name in ("recipient", "participant") if name in stanza.attrs}
        self._server.post.receipt(
            self._origin(), Node("receipt", attrs, (retry, registration, Node("keys", {}, tuple(keys))))
        )


def _says_something(message: Any) -> bool:
    """Not so a message that only tells a key."""
    return any(field.name not in _SILENT for field, _ in message.ListFields())
