"""Who is meant on the command line: whose tenant, and which person, by number, LID or name; changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from bot.config import Config
from bot.importing.addresses import phone_jid, region_of, variants, whatsapp_jid
from storage.erasing import Erasing, Person, PersonRefused
from storage.models import GROUP_SERVER, PHONE_SERVER, Jid, Tenant
from storage.tenants import TenantStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Meant:
    """One person: their contacts, several where they are not known to be one, and all their addresses."""

    people: tuple[Person, ...]
    jids: tuple[Jid, ...]

    @property
    def label(self) -> str:
        """What to call them when the user is asked."""
        if not self.people:
            return _shown(self.jids[0])
        person = self.people[0]
        shown = f"+{person.phone}" if person.phone else _shown(self.jids[0])
        return f"{person.name} ({shown})" if person.name else shown


async def tenant_of(config: Config, tenants: TenantStore, name: str | None) -> Tenant:
    """The tenant of this name, or the only one of the configuration. Raises PersonRefused."""
    names = [tenant.instance_name for tenant in config.tenants]
    if name is None and len(names) > 1:
        raise PersonRefused(f"there are several tenants: say --tenant, one of {', '.join(names)}")
    tenant = await tenants.find(name or names[0])
    if tenant is None:
        raise PersonRefused(f"the database has no tenant {name or names[0]!r}")
    return tenant


async def meant(erasing: Erasing, tenant: Tenant, reference: str) -> Meant:
    """Who has this number, LID or address, also if nobody is known by it; else who has this name.

    Raises PersonRefused.
    """
    jid = _address(reference, tenant)
    if jid is None:
        return await _called(erasing, reference)
    if jid.endswith(f"@{GROUP_SERVER}"):
        raise PersonRefused("that is a group: name a person, by number, LID or name")
    user, _, server = jid.partition("@")
    jids = [phone_jid(digits) for digits in variants(user)] if server == PHONE_SERVER else [jid]
    return await _with_all_addresses(erasing, await erasing.addresses_of_one(jids))


async def _called(erasing: Erasing, name: str) -> Meant:
    people = await erasing.people_called(name.strip())
    if not people:
        raise PersonRefused("nobody is called that: name them by their number, with its country code")
    jids = [jid for person in people for jid in (person.jid, person.lid) if jid]
    if len(people) > 1:
        shown = ", ".join(_shown(person.jid or person.lid) for person in people)
        raise PersonRefused(f"{len(people)} people are called that: {shown}; name one of them so")
    return await _with_all_addresses(erasing, await erasing.addresses_of_one(jids))


async def _with_all_addresses(erasing: Erasing, jids: list[Jid]) -> Meant:
    people = await erasing.people_at(jids)
    known = [jid for person in people for jid in (person.jid, person.lid) if jid]
    return Meant(people=tuple(people), jids=tuple(dict.fromkeys([*jids, *known])))


def _address(reference: str, tenant: Tenant) -> Jid | None:
    region = region_of(tenant.owner)
    if (jid := whatsapp_jid(reference, region)) is not None:
        return jid
    user, at, server = reference.strip().partition("@")
    return Jid(f"{user}@{server}") if at and user and server else None


def _shown(jid: Jid | None) -> str:
    user, _, server = (jid or Jid("")).partition("@")
    return f"+{user}" if server == PHONE_SERVER else str(jid)
