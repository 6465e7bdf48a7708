"""Who is on this WhatsApp: accounts, their two ids and their devices; it delivers nothing itself."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

from bot.lab.errors import LabError
from bot.lab.keys import KeyPair
from bot.lab.nodes import LID, PHONE, Jid, Node
from bot.lab.signal import Bundle

Addressing = Literal["lid", "phone"]
SERVERS: dict[Addressing, str] = {"lid": LID, "phone": PHONE}


class Device(Protocol):
    """A phone or a linked device, as the server sees it."""

    def publish(self) -> Bundle:
        """The keys to write to it first; each call uses up a one-time prekey."""

    def deliver(self, stanza: Node, *, lasting: bool) -> None:
        """`lasting` stanzas wait for a device that is away, the others are lost on it."""


# One account is one person: compared by identity, and known by two ids.
@dataclass(slots=True, eq=False, kw_only=True)
class Account:
    """`primary` is the phone's identity key, which also vouches for the linked devices. Device 0 is the phone."""

    phone: Jid
    lid: Jid
    name: str
    about: str = ""
    primary: KeyPair = field(default_factory=KeyPair.generate, repr=False)
    devices: dict[int, Device] = field(default_factory=dict, repr=False)
    _last_device: int = field(default=0, repr=False)

    @property
    def number(self) -> str:
        return f"+{self.phone.user}"

    def address(self, server: str, device: int = 0) -> Jid:
        """The id of the kind that `server` stands for."""
        return (self.lid if server == LID else self.phone).on(device)

    def other_address(self, server: str, device: int = 0) -> Jid:
        return self.address(PHONE if server == LID else LID, device)

    def next_device(self) -> int:
        self._last_device += 1
        return self._last_device


class Directory:
    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}

    def __iter__(self) -> Iterator[Account]:
        return iter(dict.fromkeys(self._accounts.values()))

    def register(self, number: str, lid: str, name: str) -> Account:
        user = number.removeprefix("+")
        if not (number.startswith("+") and user.isascii() and user.isdecimal()):
            raise LabError(f"{number!r} is no phone number: write it with + and the country code, as +5511…")
        if user in self._accounts:
            raise LabError(f"{number} is somebody's already: every account needs a number of its own")
        account = Account(phone=Jid(user, PHONE), lid=Jid(lid, LID), name=name)
        self._accounts[user] = self._accounts[lid] = account
        return account

    def find(self, jid: Jid) -> Account | None:
        account = self._accounts.get(jid.user)
        return account if account and jid.server in (PHONE, LID) else None

    def device(self, jid: Jid) -> Device | None:
        account = self.find(jid)
        return account.devices.get(jid.device) if account else None
