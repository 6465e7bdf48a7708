"""Roles: who may command. Pure but for what it remembers of LIDs; it trusts only the transport's word for from_me."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from storage.models import LID_SERVER, PHONE_SERVER, Address, Jid, Role, Tenant


def phone_jid(number: str) -> Jid:
    """The address of an E.164 number."""
    return Jid(f"{number.removeprefix('+')}@{PHONE_SERVER}")


class Roles:
    """The owner and the admins of one tenant, by number, and by LID once an event has named both."""

    def __init__(self, tenant: Tenant) -> None:
        self._configured = phone_jid(tenant.owner)
        self._notified: Jid | None = None
        self._linked: tuple[Jid, ...] = ()
        self._admins: frozenset[Jid] = frozenset()
        self._lids: dict[Jid, Jid] = {}
        self.update(tenant)

    @property
    def admins(self) -> tuple[Jid, ...]:
        """Their phone addresses."""
        return tuple(sorted(self._admins))

    def update(self, tenant: Tenant) -> None:
        """The tenant's numbers as they are now."""
        self._configured = phone_jid(tenant.owner)
        self._notified = phone_jid(tenant.notify.to) if tenant.notify.to else None
        self._admins = frozenset(phone_jid(a) for a in tenant.admins)
        self._lids = {lid: admin for lid, admin in self._lids.items() if admin in self._admins}

    @property
    def owner(self) -> Jid:
        """Where the owner is told things: the linked number itself, whatever the configuration says of it.

        A number that is only configured may be a stranger's.
        """
        return self._linked[0] if self._linked else self._configured

    def is_told(self, jids: Collection[Jid]) -> bool:
        """Whether it is where the owner is told things: the account's own chat, or the number for notices."""
        return self.is_own(jids) or self.notified in jids

    def is_ours(self, jids: Collection[Jid]) -> bool:
        """Whether who is there belongs to the business: the owner, or an admin."""
        return self.is_told(jids) or self.is_admin(jids)

    @property
    def notified(self) -> Jid:
        """Where the owner is told things unasked: the number that was chosen for it, else as `owner`."""
        return self._notified or self.owner

    def link(self, own: tuple[Jid, ...]) -> bool:
        """The account's own addresses, the phone number first; False when the configuration names another owner."""
        self._linked = own
        return self._configured in own

    def is_own(self, jids: Iterable[Jid]) -> bool:
        """Whether a chat with one of these addresses is the owner's chat with themselves."""
        return any(j in (self._linked or (self._configured,)) for j in jids)

    def learn(self, address: Address) -> None:
        """An event named a person by both forms: from here on the LID alone is enough."""
        for admin in self._admins.intersection(address.jids):
            self._lids.update((j, admin) for j in address.jids if j.endswith(f"@{LID_SERVER}"))

    def of(self, sender_jids: Iterable[Jid], *, from_me: bool) -> Role:
        """The role of whoever wrote a message."""
        if from_me:
            return Role.OWNER
        if any(j in self._admins or j in self._lids for j in sender_jids):
            return Role.ADMIN
        return Role.CUSTOMER

    def is_admin(self, jids: Iterable[Jid]) -> bool:
        return self.of(jids, from_me=False) is Role.ADMIN
