"""Groups: who is in them, what they are called, and how the server describes that; it delivers nothing itself."""

import datetime as dt
import itertools
from collections.abc import Callable, Iterable
from typing import Protocol

from bot.lab.audience import Audience, Role
from bot.lab.devicelist import participant_hash
from bot.lab.directory import Account, Addressing
from bot.lab.errors import LabError
from bot.lab.nodes import BROADCAST, GROUP, LID, Jid, Node, Value

Announce = Callable[["Group", Account, Node, Iterable[Account]], None]
"""Tells accounts that somebody has changed a group, and how."""

_FIRST_ID = 120363000000000001
_FIRST_LIST = 1700000000  # lists are called by the second in which they were made


class Member(Protocol):
    """Anyone in a story who has an account."""

    @property
    def account(self) -> Account: ...


class Group(Audience):
    """One group. `addressed`: whether its members see each other by LID, as in today's groups, or by number.

    Who changes it, `by`, is a member; it takes no admin, as in a group that is not locked. The phones in it
    and the bots learn of each change by a notification, unless it is made `quietly`, as if that had been lost.
    """

    def __init__(
        self, jid: Jid, subject: str, addressed: Addressing, creator: Account, announce: Announce
    ) -> None:
        super().__init__(jid, addressed, {creator: "superadmin"})
        self.subject, self.creator = subject, creator
        self._created_at = self._named_at = _now()
        self._named_by = creator
        self._announce = announce

    def __str__(self) -> str:
        return str(self.jid)

    def add(self, *people: Member, by: Member, quietly: bool = False) -> None:
        """Who is added is told of the whole group, the others of whom was added."""
        before, added = list(self.members), [person.account for person in people]
        self.members |= dict.fromkeys(added, "member")
        if not quietly:
            self._announce(self, by.account, self._listing("add", added), before)
            self._announce(self, by.account, self._created("invite"), added)

    def remove(self, *people: Member, by: Member, quietly: bool = False) -> None:
        """Who is removed is told, too."""
        told, gone = list(self.members), [person.account for person in people]
        for account in gone:
            del self.members[account]
        if not quietly:
            self._announce(self, by.account, self._listing("remove", gone), told)

    def promote(self, person: Member, *, by: Member) -> None:
        self._change_role(person, "admin", "promote", by)

    def demote(self, person: Member, *, by: Member) -> None:
        self._change_role(person, "member", "demote", by)

    def rename(self, subject: str, *, by: Member) -> None:
        self.subject, self._named_at, self._named_by = subject, _now(), by.account
        self._announce(self, by.account, Node("subject", self._naming()), self.members)

    def is_admin(self, account: Account) -> bool:
        return self.members.get(account, "member") != "member"

    def open(self, members: Iterable[Account]) -> None:
        """The creation itself: everyone in it is told."""
        self.members |= dict.fromkeys((each for each in members if each is not self.creator), "member")
        self._announce(self, self.creator, self._created(None), self.members)

    def describe(self) -> Node:
        """As the server answers who asks for it."""
        attrs: dict[str, Value] = {
            "id": self.jid.user,
            "creation": self._created_at,
            "creator": self.address(self.creator),
            "addressing_mode": self.addressing_mode,
            "size": str(len(self.members)),
            **self._naming(),
        }
        people = tuple(self._participant(account) for account in self.members)
        return Node("group", attrs, people)

    def participant_hash(self) -> str:
        return participant_hash(self.address(account, number) for account, number, _ in self.devices())

    def _naming(self) -> dict[str, Value]:
        return {"subject": self.subject, "s_t": self._named_at, "s_o": self.address(self._named_by)}

    def _created(self, reason: str | None) -> Node:
        return Node("create", {"reason": reason} if reason else {"type": "new"}, (self.describe(),))

    def _change_role(self, person: Member, role: Role, verb: str, by: Member) -> None:
        if person.account not in self.members:
            raise LabError(f"{person.account.name} is not in {self.subject}")
        self.members[person.account] = role
        self._announce(self, by.account, self._listing(verb, [person.account]), self.members)

    def _listing(self, verb: str, accounts: Iterable[Account]) -> Node:
        return Node(verb, {}, tuple(self._participant(account) for account in accounts))

    def _participant(self, account: Account) -> Node:
        name = "phone_number" if self.server == LID else "lid"
        attrs: dict[str, Value] = {"jid": self.address(account), name: account.other_address(self.server)}
        if self.is_admin(account):
            attrs["type"] = self.members[account]
        return Node("participant", attrs)


class Groups:
    """All groups, by their id; and whom each person's statuses and broadcast lists reach."""

    def __init__(self) -> None:
        self._groups: dict[str, Group] = {}
        self._ids, self._list_ids = itertools.count(_FIRST_ID), itertools.count(_FIRST_LIST)
        self._audiences: dict[tuple[Account, Jid], Audience] = {}

    def create(
        self, subject: str, addressed: Addressing, accounts: Iterable[Account], announce: Announce
    ) -> Group:
        """The first of the accounts makes it, and is told as all others are."""
        creator, *others = accounts
        jid = Jid(str(next(self._ids)), GROUP)
        group = self._groups[jid.user] = Group(jid, subject, addressed, creator, announce)
        group.open(others)
        return group

    def find(self, jid: Jid) -> Group | None:
        return self._groups.get(jid.user) if jid.server == GROUP else None

    def gather(self, author: Account, readers: Iterable[Account], *, jid: Jid | None = None) -> Audience:
        """An audience that only its author can name: without a `jid`, that of a new broadcast list."""
        jid = jid or Jid(str(next(self._list_ids)), BROADCAST)
        audience = Audience(jid, "lid", dict.fromkeys((author, *readers), "member"))
        self._audiences[author, jid] = audience
        return audience

    def audience(self, author: Account | None, jid: Jid) -> Audience | None:
        """Whom what this author sends there reaches; None where the author is not a member."""
        if author is None:
            return None
        found = self.find(jid) or self._audiences.get((author, jid))
        return found if found and author in found.members else None

    def of(self, account: Account) -> list[Group]:
        return [group for group in self._groups.values() if account in group.members]


def _now() -> str:
    return str(int(dt.datetime.now(dt.UTC).timestamp()))
