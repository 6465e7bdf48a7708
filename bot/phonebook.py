"""Reads the numbers with which another system has written people down; whose contacts they are follows in the store."""

from __future__ import annotations

from bot.importing.addresses import read_number, region_of
from storage.models import Tenant
from storage.people import PeopleStore

_AT_ONCE = 500


async def read_numbers(people: PeopleStore, tenant: Tenant) -> None:
    """Read what nobody has read yet, in whatever format; one without a country code is of the owner's country."""
    while written := await people.unread(_AT_ONCE):
        region = region_of(tenant.owner)
        await people.set_numbers([(one, read_number(one.phone, region) or "") for one in written])
