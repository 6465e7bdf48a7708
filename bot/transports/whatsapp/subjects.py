"""What groups are called, as far as WhatsApp has told this process; asks nothing itself and holds up nothing.

A message names its group by its id alone. So the subject is looked up when a group is first heard of, and learned
from what WhatsApp tells of changes; it is delivered once the group has been heard of, behind that message. The
look-up also tells both addresses of everyone in it.
"""

from collections.abc import Callable
from typing import Any

from bot.transports.base import Deliver
from bot.transports.whatsapp.content import clean
from bot.transports.whatsapp.ids import People, server_of, to_jid
from bot.transports.whatsapp.link import Handlers
from storage.models import GROUP_SERVER, Address, ChatNamed, Jid

Ask = Callable[[Jid, Callable[[Any], None]], None]
"""Takes a group to be described, and later calls back with neonize's GroupInfo, if WhatsApp answers."""


class Subjects:
    def __init__(self, people: People, ask: Ask) -> None:
        self._people = people
        self._ask = ask
        self._known: dict[Jid, str] = {}
        self._heard_of: set[Jid] = set()
        self._deliver: Deliver | None = None

    def handlers(self, deliver: Deliver) -> Handlers:
        self._deliver = deliver
        return {
            "GroupInfoEv": self._on_changed,
            "JoinedGroupEv": lambda event: self._on_described(event.GroupInfo),
        }

    def heard_of(self, chat: Jid) -> None:
        """After a message of this chat has been delivered."""
        if server_of(chat) != GROUP_SERVER:
            return
        first = chat not in self._heard_of
        self._heard_of.add(chat)
        if chat not in self._known:
            self._ask(chat, self._on_described)
        elif first:
            self._name(chat)

    def _on_changed(self, event: Any) -> None:
        if event.HasField("Name"):
            self._learn(to_jid(event.JID), event.Name.Name)

    def _on_described(self, group: Any) -> None:
        for member in group.Participants:
            lid, phone = to_jid(member.LID), to_jid(member.PhoneNumber)
            if lid is not None and phone is not None:
                self._people.pair(lid, phone)
        self._learn(to_jid(group.JID), group.GroupName.Name)

    def _learn(self, group: Jid | None, subject: Any) -> None:
        name = clean(subject)
        if group is None or name is None or self._known.get(group) == name:
            return
        self._known[group] = name
        if group in self._heard_of:
            self._name(group)

    def _name(self, group: Jid) -> None:
        if self._deliver is not None:
            self._deliver(ChatNamed(chat=Address(jid=group), name=self._known[group]))
