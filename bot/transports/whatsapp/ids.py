"""Who is who on WhatsApp: one person is a phone number and a LID; connects to nothing and keeps nothing for good."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from storage.models import LID_SERVER, PHONE_SERVER, Address, Jid

STATUS_BROADCAST = Jid("status@broadcast")
# The same people under other names: old clients' server, and numbers hosted by Meta.
_SAME_SERVER = {"c.us": PHONE_SERVER, "hosted": PHONE_SERVER, "hosted.lid": LID_SERVER}
_REMEMBERED = 50_000


def to_jid(proto: Any) -> Jid | None:
    """A JID message as our address, without device and agent; None for an empty one."""
    if not proto.User or not proto.Server:
        return None
    return Jid(f"{proto.User}@{_SAME_SERVER.get(proto.Server, proto.Server)}")


def parse_jid(text: str) -> Jid | None:
    """A JID as messages quote it (`user.agent:device@server`) as our address; None if it is none."""
    user, at, server = text.rpartition("@")
    user = user.partition(":")[0].partition(".")[0]
    if not at or not user or not server:
        return None
    return Jid(f"{user}@{_SAME_SERVER.get(server, server)}")


def to_proto(protocol: Any, jid: Jid) -> Any:
    """Our address as neonize's JID; `protocol` is its module of message types."""
    return device_to_proto(protocol, jid)


def device_to_proto(protocol: Any, device: str) -> Any:
    """A device's JID (`user.agent:device@server`) as neonize takes it to resume a session."""
    name, _, server = device.rpartition("@")
    name, _, number = name.partition(":")
    user, _, agent = name.partition(".")
    return protocol.JID(
        User=user,
        RawAgent=int(agent or 0),
        Device=int(number or 0),
        Integrator=0,
        Server=server,
        IsEmpty=False,
    )


def server_of(jid: Jid) -> str:
    return jid.rpartition("@")[2]


def is_person(jid: Jid) -> bool:
    return server_of(jid) in (PHONE_SERVER, LID_SERVER)


class People:
    """The account's own addresses, and the pairs of phone number and LID seen lately.

    An event does not always bring both forms; it is completed from here and only from here, because
    waiting for a look-up would let a later event overtake it.
    """

    def __init__(self, own: Iterable[Jid] = ()) -> None:
        self._own: tuple[Jid, ...] = tuple(own)
        self._other: OrderedDict[Jid, Jid] = OrderedDict()

    @property
    def own(self) -> tuple[Jid, ...]:
        """Phone number, then LID, as far as known."""
        return self._own

    def be(self, phone: Jid | None, lid: Jid | None) -> None:
        """The account turned out to be this one; another number's addresses are forgotten."""
        if phone is None:
            return
        known = self._own if phone in self._own else ()
        self._own = tuple(dict.fromkeys(jid for jid in (phone, lid, *known) if jid is not None))

    def is_me(self, jid: Jid | None) -> bool:
        return jid in self._own

    def is_mine(self, address: Address) -> bool:
        """By either form: the account's LID may not be known yet."""
        return any(self.is_me(jid) for jid in address.jids)

    def address(self, jid: Jid, alt: Jid | None = None) -> Address:
        """The address with its other form: the event's, else the remembered one; both are remembered."""
        if alt is not None and alt != jid and is_person(alt) and is_person(jid):
            self.pair(jid, alt)
        elif self.is_me(jid):
            alt = next((own for own in self._own if own != jid), None)
        else:
            alt = self._other.get(jid)
        return Address(jid=jid, alt=alt)

    def as_sent_to(self, jid: Jid) -> Jid:
        """The LID of a phone number, if known.

        neonize marks what goes to a phone number as a business bot's; on its way WhatsApp makes a LID of it anyway.
        """
        other = self.address(jid).alt
        return other if server_of(jid) == PHONE_SERVER and other is not None else jid

    def pair(self, one: Jid, other: Jid) -> None:
        for key, value in ((one, other), (other, one)):
            self._other[key] = value
            self._other.move_to_end(key)
        while len(self._other) > _REMEMBERED:
            self._other.popitem(last=False)
