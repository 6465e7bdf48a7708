"""An account's WhatsApp session lives once: it leaves one database before it is in the other, and arrives once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from bot.transports.whatsapp.session import make_tables
from storage.accounts import AccountRefused, AccountStore
from storage.database import Database
from storage.errors import NumberTaken
from storage.models import Account, Jid
from storage.tenants import TenantStore
from tests.conftest import fresh_database
from tests.integration.store_world import NOW, SHOP

NUMBER = Jid("5511999990000@s.whatsapp.net")
DEVICE = "5511999990000:7@s.whatsapp.net"
THERE = "there/shop"
OTHER_DEVICE = "5511999990001:2@s.whatsapp.net"

ADD_DEVICE = """
INSERT INTO whatsmeow.whatsmeow_device (jid, lid, registration_id, noise_key, identity_key, signed_pre_key,
       signed_pre_key_id, signed_pre_key_sig, adv_key, adv_details,
       adv_account_sig, adv_account_sig_key, adv_device_sig)
SELECT $1, '9@lid', 4294967295, k, k, k, 1, k || k, k, k, k || k, k, k || k
  FROM (VALUES (decode(repeat('00ff', 16), 'hex'))) v (k)
"""
FILL = """
INSERT INTO whatsmeow.whatsmeow_app_state_version (jid, name, version, hash)
VALUES ($1, 'regular', 9007199254740993, decode(repeat('5c27', 64), 'hex'))
"""
FILL_BELOW = """
INSERT INTO whatsmeow.whatsmeow_app_state_mutation_macs (jid, name, version, index_mac, value_mac)
VALUES ($1, 'regular', 9007199254740993, decode(repeat('00', 32), 'hex'), decode(repeat('5c', 32), 'hex'))
"""
FILL_LOOSE = """
INSERT INTO whatsmeow.whatsmeow_privacy_tokens (our_jid, their_jid, token, timestamp)
VALUES ($1, 'x', '', 1)
"""
FILL_SHARED = "INSERT INTO whatsmeow.whatsmeow_lid_map (lid, pn) VALUES ('1', '2') ON CONFLICT DO NOTHING"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    database: Database
    accounts: AccountStore
    account: Account

    async def rows(self, device: str) -> dict[str, Any]:
        packed = await self.database.fetchval("SELECT sidestep.pack_session($1)", device)
        return {part["table"]: part["rows"] for part in packed if not part["shared"]}

    async def now(self) -> Account:
        return next(each.account for each in await self.accounts.list() if each.account.name == "shop")


async def _place(dsn: str) -> Place:
    await make_tables(dsn)
    database = await Database.open(dsn)
    tenants = TenantStore(database)
    tenant, _ = await tenants.seed(SHOP, NOW)
    [account] = await tenants.accounts(tenant.tenant_id)
    return Place(database=database, accounts=AccountStore(database), account=account)


@pytest.fixture
async def there(postgres: str, template: str) -> AsyncIterator[Place]:
    async with fresh_database(postgres, template) as dsn:
        place = await _place(dsn)
        yield place
        await place.database.close()


@pytest.fixture
async def here(dsn: str) -> AsyncIterator[Place]:
    """Its shop is linked; a device of somebody else has a session, too."""
    place = await _place(dsn)
    for device in (DEVICE, OTHER_DEVICE):
        for statement in (ADD_DEVICE, FILL, FILL_BELOW, FILL_LOOSE):
            await place.database.execute(statement, device)
    await place.database.execute(FILL_SHARED)
    await TenantStore(place.database).set_paired(place.account, NUMBER, Jid("9@lid"), NOW)
    yield Place(database=place.database, accounts=place.accounts, account=await place.now())
    await place.database.close()


async def test_a_session_moves_whole_and_alone(here: Place, there: Place) -> None:
    before, others = await here.rows(DEVICE), await here.rows(OTHER_DEVICE)
    assert len(before) == 4
    await there.database.execute(FILL_SHARED)
    await there.accounts.arrive(there.account, await here.accounts.depart(here.account, THERE))
    await here.accounts.forget(here.account)
    assert await there.rows(DEVICE) == before
    assert (await here.rows(DEVICE), await here.rows(OTHER_DEVICE)) == ({}, others)
    assert await there.rows(OTHER_DEVICE) == {}
    arrived, left = await there.now(), await here.now()
    assert (arrived.jid, arrived.lid, left.jid) == (NUMBER, "9@lid", None)
    assert [each.has_session for each in await there.accounts.list()] == [True]


async def test_a_move_that_breaks_off_before_the_arrival_is_repeated(here: Place, there: Place) -> None:
    before = await here.rows(DEVICE)
    first = await here.accounts.depart(here.account, THERE)
    departing = await here.now()
    assert departing.is_departing
    assert await here.rows(DEVICE) == {}
    assert await here.accounts.depart(departing, THERE) == first
    await there.accounts.arrive(there.account, await here.accounts.depart(departing, THERE))
    assert await there.rows(DEVICE) == before


async def test_a_move_that_breaks_off_after_the_arrival_does_not_turn_the_session_back(
    here: Place, there: Place
) -> None:
    await there.accounts.arrive(there.account, await here.accounts.depart(here.account, THERE))
    # The daemon over there goes on: its session is newer than what left.
    await there.database.execute("UPDATE whatsmeow.whatsmeow_device SET push_name = 'newer'")
    await there.accounts.arrive(await there.now(), await here.accounts.depart(await here.now(), THERE))
    [device] = (await there.rows(DEVICE))["whatsmeow_device"]
    assert device["push_name"] == "newer"


async def test_there_is_no_room_for_a_number_twice(here: Place, there: Place) -> None:
    with pytest.raises(AccountRefused, match="session of this number"):
        await here.accounts.require_room(there.account, NUMBER)
    await there.accounts.require_room(there.account, NUMBER)
    departure = await here.accounts.depart(here.account, THERE)
    await TenantStore(there.database).set_paired(there.account, Jid("7@s.whatsapp.net"), None, NOW)
    with pytest.raises(AccountRefused, match="linked already"):
        await there.accounts.arrive(await there.now(), departure)
    assert await there.rows(DEVICE) == {}
    assert (await here.now()).is_departing


async def test_what_is_not_linked_does_not_depart(there: Place) -> None:
    with pytest.raises(AccountRefused, match="not linked"):
        await there.accounts.depart(there.account, THERE)


async def test_two_accounts_cannot_have_one_number(here: Place) -> None:
    twin = await here.accounts.add(here.account.tenant_id, "twin", NOW)
    with pytest.raises(NumberTaken, match="'shop'"):
        await TenantStore(here.database).set_paired(twin, NUMBER, None, NOW)
    await here.accounts.forget(here.account)
    await TenantStore(here.database).set_paired(twin, NUMBER, None, NOW)


async def test_a_removed_account_comes_back_as_it_was(here: Place) -> None:
    added = await here.accounts.add(here.account.tenant_id, "second", NOW)
    with pytest.raises(AccountRefused, match="already"):
        await here.accounts.add(here.account.tenant_id, "second", NOW)
    await here.accounts.remove(added, NOW)
    assert [each.account.name for each in await here.accounts.list()] == ["shop"]
    assert await here.accounts.add(here.account.tenant_id, "second", NOW) == added
