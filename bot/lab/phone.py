"""A phone, device 0 of its account: its keys, its Signal sessions, what it sends and shows; no test vocabulary."""

import datetime as dt
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bot.lab import protobuf
from bot.lab.directory import SERVERS, Account, Addressing
from bot.lab.errors import Duplicate, SignalError
from bot.lab.heard import Heard, text_of
from bot.lab.nodes import Jid, Node, Value
from bot.lab.post import Origin
from bot.lab.queries import bundle_nodes
from bot.lab.server import Server
from bot.lab.signal import Bundle, Correspondence, Keyring, Sealed
from bot.lab.timeline import Timeline

_BLOCK = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a phone is told about its messages; `kind` is delivered, inactive, read, read-self, played…"""

    kind: str
    ids: tuple[str, ...]
    sender: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatState:
    """`state` is composing or paused; `recording` a voice message."""

    state: str
    recording: bool
    sender: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    """Kept for readers who ask again. `copy` is what one's own other devices get."""

    attrs: dict[str, Value]
    message: Any
    copy: Any
    origin: Origin
    at: dt.datetime | None


class Phone:
    def __init__(self, server: Server, account: Account) -> None:
        self.heard: Timeline[Heard] = Timeline()
        self.receipts: Timeline[Receipt] = Timeline()
        self.chat_states: Timeline[ChatState] = Timeline()
        self.retries: list[str] = []  # ids of messages that did not open and were asked for again
        self._server, self._account = server, account
        self._keyring = Keyring(account.primary)
        self._sessions: dict[tuple[str, int], Correspondence] = {}
        self._sent: dict[str, _Sent] = {}
        account.devices[0] = self

    def publish(self) -> Bundle:
        return self._keyring.publish()

    def deliver(self, stanza: Node, *, lasting: bool) -> None:
        """A phone of the lab is always on, and shows at once what it gets."""
        match stanza.tag:
            case "message":
                self._show(stanza)
            case "receipt" if stanza.text("type", "") == "retry":
                self._send_again(stanza)
            case "receipt":
                items = (item.text("id") for part in stanza.all("list") for item in part.all("item"))
                kind = stanza.text("type", "") or "delivered"
                ids = (stanza.text("id"), *items)
                self.receipts.note(Receipt(kind=kind, ids=ids, sender=self._number(stanza.jid("from"))))
            case "chatstate":
                state = stanza.children[0]
                recording = state.text("media", "") == "audio"
                sender = self._number(stanza.jid("from"))
                self.chat_states.note(ChatState(state=state.tag, recording=recording, sender=sender))

    def send(
        self,
        message: Any,
        *,
        to: Account,
        addressed: Addressing = "lid",
        alt: bool = True,
        message_id: str | None = None,
        at: dt.datetime | None = None,
        kind: str = "text",
        edit: str | None = None,
        damaged: bool = False,
    ) -> str:
        """Encrypts for each device of the reader, and a copy for each other device of one's own.

        A `damaged` message does not open: a linked device asks for it again, and gets it whole.
        """
        message_id = message_id or new_id()
        chat = to.address(SERVERS[addressed])
        copy = protobuf.DeviceSentMessage(destinationJID=str(chat), message=message)
        attrs: dict[str, Value] = {"to": chat, "id": message_id, "type": kind}
        if edit:
            attrs["edit"] = edit
        sent = _Sent(
            attrs=attrs,
            message=message,
            copy=protobuf.Message(deviceSentMessage=copy),
            origin=Origin(account=self._account, device=0, alt=alt),
            at=at,
        )
        self._sent[message_id] = sent
        parts = self._participants(sent, to, chat.server, damaged=damaged)
        stanza = Node("message", attrs, (Node("participants", {}, tuple(parts)),))
        self._server.post.message(sent.origin, stanza, at=at)
        return message_id

    def send_receipt(self, kind: str, ids: tuple[str, ...], *, to: Account, addressed: Addressing) -> None:
        first, *others = ids
        attrs: dict[str, Value] = {"to": to.address(SERVERS[addressed]), "id": first}
        if kind != "delivered":
            attrs["type"] = kind
        items = tuple(Node("item", {"id": other}) for other in others)
        self._server.post.receipt(
            self._origin(), Node("receipt", attrs, (Node("list", {}, items),) if items else None)
        )

    def send_chat_state(self, state: ChatState, *, to: Account, addressed: Addressing) -> None:
        part = Node(state.state, {"media": "audio"} if state.recording else {})
        stanza = Node("chatstate", {"to": to.address(SERVERS[addressed])}, (part,))
        self._server.post.chat_state(self._origin(), stanza)

    def forget_sessions(self) -> None:
        """As after a restore without keys: what comes next does not open and is asked for again."""
        for session in self._sessions.values():
            session.forget()

    def _origin(self) -> Origin:
        return Origin(account=self._account, device=0)

    def _number(self, jid: Jid) -> str:
        account = self._server.directory.find(jid)
        return account.number if account else str(jid)

    def _participants(self, sent: _Sent, to: Account, server: str, *, damaged: bool) -> Iterable[Node]:
        for account in dict.fromkeys((self._account, to)):
            message = sent.copy if account is self._account else sent.message
            for number, device in account.devices.items():
                if device is self:
                    continue
                session = self._session(account, number)
                if not session.open_for_writing:
                    session.begin(device.publish())
                sealed = session.seal(_pad(message.SerializeToString()))
                enc = Node(
                    "enc", {"v": "2", "type": sealed.kind}, _damaged(sealed.data) if damaged else sealed.data
                )
                yield Node("to", {"jid": account.address(server, number)}, (enc,))

    def _send_again(self, receipt: Node) -> None:
        """To the one device that could not open it; a second request comes with keys for a new session."""
        to, sent = receipt.jid("from"), self._sent.get(receipt.text("id"))
        account, device = self._server.directory.find(to), self._server.directory.device(to)
        if sent is None or account is None or device is None:
            return
        session = self._session(account, to.device)
        if receipt.find("keys") or not session.open_for_writing:
            session.begin(device.publish())
        message = sent.copy if account is self._account else sent.message
        sealed = session.seal(_pad(message.SerializeToString()))
        count = receipt.child("retry").text("count")
        enc = Node("enc", {"v": "2", "type": sealed.kind, "count": count}, sealed.data)
        attrs = {**sent.attrs, "to": to, "recipient": sent.attrs["to"], "device_fanout": "false"}
        self._server.post.message(sent.origin, Node("message", attrs, (enc,)), at=sent.at)

    def _session(self, account: Account, device: int) -> Correspondence:
        key = (account.phone.user, device)
        return self._sessions.setdefault(key, Correspondence(self._keyring))

    def _show(self, stanza: Node) -> None:
        origin = stanza.jid("from")
        account = self._server.directory.find(origin)
        if account is None:
            return
        session = self._session(account, origin.device)
        enc = stanza.child("enc")
        try:
            plain = session.open(
                Sealed(kind="pkmsg" if enc.text("type") == "pkmsg" else "msg", data=enc.data)
            )
        except Duplicate:
            return
        except SignalError:
            self._ask_again(stanza)
            return
        message = protobuf.Message.FromString(_unpad(plain))
        if stanza.text("category", "") == "peer":
            return  # between a person's own devices, never shown
        self._note(stanza, account, message)

    def _note(self, stanza: Node, sender: Account, message: Any) -> None:
        chat = sender.number
        if message.HasField("deviceSentMessage"):
            chat = self._number(Jid.parse(message.deviceSentMessage.destinationJID))
            message = message.deviceSentMessage.message
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

    def _ask_again(self, stanza: Node) -> None:
        """A retry receipt with fresh keys: the sender builds a new session and encrypts once more."""
        message_id = stanza.text("id")
        self.retries.append(message_id)
        count = str(self.retries.count(message_id))
        retry = Node("retry", {"count": count, "id": message_id, "t": stanza.text("t"), "v": "1"})
        registration, *keys = bundle_nodes(self.publish())
        attrs: dict[str, Value] = {"to": stanza.jid("from"), "id": message_id, "type": "retry"}
        if "recipient" in stanza.attrs:
            attrs["recipient"] = stanza.jid("recipient")
        self._server.post.receipt(
            self._origin(), Node("receipt", attrs, (retry, registration, Node("keys", {}, tuple(keys))))
        )


def new_id() -> str:
    return "3A" + os.urandom(9).hex().upper()


def _damaged(data: bytes) -> bytes:
    """One bit of the ciphertext proper is turned: what is around it has to stay readable."""
    at = len(data) - 20
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _pad(plain: bytes) -> bytes:
    """WhatsApp hides the length of a text by up to 16 bytes, each of which says how many they are."""
    size = os.urandom(1)[0] % _BLOCK + 1
    return plain + bytes([size]) * size


def _unpad(plain: bytes) -> bytes:
    return plain[: -plain[-1]]
