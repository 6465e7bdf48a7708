"""A phone's secrets with other devices: messages sealed for one of them, or for a group, and opened; no routing."""

import os
from collections.abc import Iterable
from typing import Any

from bot.lab import protobuf
from bot.lab.directory import Account
from bot.lab.errors import ProtocolError, SignalError
from bot.lab.nodes import Jid, Node
from bot.lab.senderkeys import SenderKey, SendersKeys
from bot.lab.signal import Bundle, Correspondence, Keyring, Sealed
from bot.lab.wire import PreKeyMessage

_BLOCK = 16
_FROM_END = 20  # within the ciphertext proper of a private message, within the signature of a group's

Reader = tuple[Account, int]  # a person, and which of the devices


class Sessions:
    """One session with each other device, whichever id its owner writes from."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._sessions: dict[Reader, Correspondence] = {}

    def seal(self, account: Account, number: int, message: Any, *, anew: Bundle | None = None) -> Node:
        """The ciphertext for one device; with keys that it has sent, a new session is begun for it."""
        session, device = self._with(account, number), account.devices[number]
        if anew is not None or not session.open_for_writing:
            session.begin(anew or device.publish())
        sealed = session.seal(pad(message.SerializeToString()))
        return Node("enc", {"v": "2", "type": sealed.kind}, sealed.data)

    def open(self, account: Account, number: int, enc: Node) -> Any:
        sealed = Sealed(kind="pkmsg" if enc.text("type") == "pkmsg" else "msg", data=enc.data)
        plain = self._with(account, number).open(sealed)
        return protobuf.Message.FromString(unpad(plain))

    def forget(self) -> None:
        """As after a restore without keys."""
        for session in self._sessions.values():
            session.forget()

    def _with(self, account: Account, number: int) -> Correspondence:
        return self._sessions.setdefault((account, number), Correspondence(self._keyring))


class _Own:
    """One's own key for a group, and who has been told it."""

    def __init__(self) -> None:
        self.key = SenderKey()
        self.told: set[Reader] = set()


class GroupSessions:
    """The sender keys of one phone, group by group."""

    def __init__(self) -> None:
        self._own: dict[Jid, _Own] = {}
        self._others: dict[tuple[Jid, Reader], SendersKeys] = {}

    def key_for(self, group: Jid, readers: Iterable[Reader]) -> tuple[SenderKey, set[Reader]]:
        """One's own key, and which of these readers have to be told it first.

        Who has left must not read on: as soon as one is missing who knows the key, a new one takes its place.
        """
        now = set(readers)
        own = self._own.get(group)
        if own is None or not own.told <= now:
            own = self._own[group] = _Own()
        untold, own.told = now - own.told, now
        return own.key, untold

    def told(self, group: Jid) -> SenderKey:
        """One's own key, for a reader who lacks it. Only where `key_for` has made one."""
        return self._own[group].key

    def learn(self, sender: Account, number: int, told: Any) -> None:
        """From the sender's SenderKeyDistributionMessage, which came in private."""
        group = Jid.parse(told.groupID)
        self._of(group, sender, number).learn(told.axolotlSenderKeyDistributionMessage)

    def open(self, group: Jid, sender: Account, number: int, enc: Node) -> Any:
        return protobuf.Message.FromString(unpad(self._of(group, sender, number).open(enc.data)))

    def forget(self) -> None:
        self._own.clear()
        self._others.clear()

    def _of(self, group: Jid, sender: Account, number: int) -> SendersKeys:
        return self._others.setdefault((group, (sender, number)), SendersKeys())


def telling(group: Jid, key: SenderKey) -> Any:
    """The message that tells a reader the key."""
    told = protobuf.SenderKeyDistributionMessage(
        groupID=str(group), axolotlSenderKeyDistributionMessage=key.distribution()
    )
    return protobuf.Message(senderKeyDistributionMessage=told)


def spoiled(enc: Node) -> Node:
    """One bit of what is protected is turned: what is around it has to stay readable."""
    data = enc.data
    at = len(data) - _FROM_END
    return Node(enc.tag, enc.attrs, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


def pad(plain: bytes) -> bytes:
    """WhatsApp hides the length of a text by up to 16 bytes, each of which says how many they are."""
    size = os.urandom(1)[0] % _BLOCK + 1
    return plain + bytes([size]) * size


def unpad(plain: bytes) -> bytes:
    size = plain[-1] if plain else 0
    if not 0 < size <= _BLOCK or plain[-size:] != bytes([size]) * size:
        raise ProtocolError("a message is not padded as WhatsApp pads it")
    return plain[:-size]


def identity_in(enc: Node) -> bytes | None:
    """Which device a ciphertext claims to be from. None unless it begins a session."""
    if enc.text("type") != "pkmsg":
        return None
    try:
        return PreKeyMessage.parse(enc.data).identity_key
    except ProtocolError as exc:
        raise SignalError(str(exc)) from exc
