"""What `sidestep erase` does: finds out who is meant, asks, has everything of them deleted, and tells what went."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from bot.clock import SystemClock
from bot.commands import store_of
from bot.config import Config
from bot.media.keeper import Swept
from bot.people import Meant, meant, tenant_of
from bot.phonebook import read_numbers
from bot.wiring import keeper_of
from storage.erasing import Erasing, Extent, PersonRefused
from storage.people import PeopleStore
from storage.tenants import TenantStore

_NOTE_EVERY = 100_000

Ask = Callable[[str], bool | None]
"""Asks whoever sits at the terminal; None where nobody does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What went, without saying whose it was. `files` lay outside the database; `left` of them will go later."""

    tenant: str
    erased_at: datetime
    went: Mapping[str, int]
    files: Swept


async def erase(
    config: Config,
    reference: str,
    tenant_name: str | None,
    *,
    ask: Ask | None,
    note: Callable[[str], None],
) -> Receipt | None:
    """Erase a person; None when whoever was asked says no. `ask` None: nobody is to be asked.

    Raises PersonRefused, StorageError and bot.media.places.PlaceError.
    """
    async with store_of(config) as database:
        tenant = await tenant_of(config, TenantStore(database), tenant_name)
        clock = SystemClock()
        erasing = Erasing(database, tenant.tenant_id, clock.now)
        person = await meant(erasing, tenant, reference)
        if ask is not None and not _agreed(ask, person, await erasing.extent(person.people)):
            return None
        keeper = keeper_of(config, database)
        await read_numbers(PeopleStore(database, tenant.tenant_id), tenant)
        went = await erasing.erase(person.people, person.jids, _noting(note))
        return Receipt(
            tenant=tenant.instance_name,
            erased_at=clock.now(),
            went=went,
            files=await keeper.sweep(tenant.tenant_id),
        )


def _agreed(ask: Ask, person: Meant, extent: Extent) -> bool:
    answer = ask(
        f"Erase {person.label}: {extent.alone} messages in chats with them, ours included, and {extent.in_groups} of "
        "theirs in groups, for ever?"
    )
    if answer is None:
        raise PersonRefused("nobody is here to be asked: say --yes")
    return answer


def _noting(note: Callable[[str], None]) -> Callable[[int], None]:
    told = 0

    def progress(messages: int) -> None:
        nonlocal told
        if messages - told >= _NOTE_EVERY:
            told = messages
            note(f"{messages} messages …")

    return progress
