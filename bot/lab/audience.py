"""Who reads what is sealed once for many: a group, a status's readers, a broadcast list; it delivers nothing."""

from collections.abc import Iterator
from typing import Literal

from bot.lab.directory import SERVERS, Account, Addressing, Device
from bot.lab.nodes import BROADCAST, LID, Jid

STATUS = Jid("status", BROADCAST)
Role = Literal["member", "admin", "superadmin"]

_FULL_MODE: dict[str, str] = {LID: "lid", "s.whatsapp.net": "pn"}


class Audience:
    """Its author is among the members: each other device of one's own gets a copy.

    `addressed`: whether they see each other by LID, as today, or by number.
    """

    def __init__(self, jid: Jid, addressed: Addressing, members: dict[Account, Role]) -> None:
        self.jid, self.server, self.members = jid, SERVERS[addressed], members

    @property
    def addressing_mode(self) -> str:
        return _FULL_MODE[self.server]

    def address(self, account: Account, device: int = 0) -> Jid:
        """How the members see one of them."""
        return account.address(self.server, device)

    def devices(self) -> Iterator[tuple[Account, int, Device]]:
        """Every device in it, in no order that anyone may rely on."""
        for account in self.members:
            for number, device in account.devices.items():
                yield account, number, device
