"""Who sends a stanza, and how readers are told so; shared by the post office's rooms, which route it."""

import datetime as dt
from dataclasses import dataclass

from bot.lab.directory import Account
from bot.lab.nodes import LID, Jid, Node, Value

# What a sender may say about a message beyond its address, and its readers are told.
_PASSED_ON = ("type", "edit", "category")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The device that sends. `alt`: whether readers are also told the sender's other id, as usually they are."""

    account: Account
    device: int
    alt: bool = True

    def jid(self, server: str) -> Jid:
        return self.account.address(server, self.device)

    def attrs(self, server: str) -> dict[str, Value]:
        """The sender as the reader sees it: under the kind of id that the sender wrote to."""
        return self._named("from", "sender", server)

    def in_group(self, server: str) -> dict[str, Value]:
        """The sender as the members of a group see it, which is from the group."""
        return self._named("participant", "participant", server)

    def _named(self, name: str, alt: str, server: str) -> dict[str, Value]:
        attrs: dict[str, Value] = {name: self.jid(server)}
        if self.alt:
            attrs[f"{alt}_pn" if server == LID else f"{alt}_lid"] = self.account.other_address(server)
        return attrs


def envelope(origin: Origin, stanza: Node, at: dt.datetime | None) -> dict[str, Value]:
    """What every reader of a message is told alike."""
    attrs: dict[str, Value] = {"id": stanza.text("id"), "t": seconds(at), "notify": origin.account.name}
    return attrs | {name: stanza.attrs[name] for name in _PASSED_ON if name in stanza.attrs}


def seconds(at: dt.datetime | None = None) -> str:
    """A time as stanzas have it; without one, now."""
    return str(int((at or dt.datetime.now(dt.UTC)).timestamp()))
