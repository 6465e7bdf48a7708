"""People written down by SQL with numbers in any format: the daemon reads them, and knows whose contacts they are."""

from __future__ import annotations

import pytest

from bot.phonebook import read_numbers
from storage.database import Database
from storage.people import PeopleStore
from tests.integration.path_world import Path
from tests.integration.store_world import NOW, World, said

WRITE = """
INSERT INTO sidestep.people (tenant_id, name, phone, created_at, updated_at) VALUES ($1, 'Ana', $2, $3, $3)
"""
WHO = "SELECT p.name FROM sidestep.contacts c JOIN sidestep.people p USING (tenant_id, person_id)"
NUMBER = "SELECT number FROM sidestep.people"


@pytest.mark.parametrize(
    "phone", ["(11) 98888-0001", "011 98888 0001", "11 8888-0001", "+55 (0)11 98888.0001"]
)
async def test_a_number_without_its_country_is_of_the_owner_s(rollback_db: Database, phone: str) -> None:
    world = await World.open(rollback_db)
    await world.record(said("M1"))
    await world.db.execute(WRITE, world.tenant.tenant_id, phone, NOW)
    assert await world.db.fetchval(WHO) is None
    await read_numbers(PeopleStore(world.db, world.tenant.tenant_id), world.tenant)
    assert await world.db.fetchval(WHO) == "Ana"


async def test_what_is_no_number_is_read_once(rollback_db: Database) -> None:
    world = await World.open(rollback_db)
    people = PeopleStore(world.db, world.tenant.tenant_id)
    await world.db.execute(WRITE, world.tenant.tenant_id, "ask her mother", NOW)
    assert len(await people.unread(10)) == 1
    await read_numbers(people, world.tenant)
    assert (await world.db.fetchval(NUMBER), await people.unread(10)) == ("", [])
    await world.db.execute("UPDATE sidestep.people SET phone = '(11) 98888-0001'")
    await read_numbers(people, world.tenant)
    assert await world.db.fetchval(NUMBER) == "5511988880001"


async def test_a_number_that_was_corrected_while_it_was_read_is_read_again(rollback_db: Database) -> None:
    world = await World.open(rollback_db)
    people = PeopleStore(world.db, world.tenant.tenant_id)
    await world.db.execute(WRITE, world.tenant.tenant_id, "(11) 98888-0002", NOW)
    [written] = await people.unread(10)
    await world.db.execute("UPDATE sidestep.people SET phone = '(11) 98888-0001'")
    await people.set_numbers([(written, "5511988880002")])
    assert await world.db.fetchval(NUMBER) is None


async def test_the_daemon_does_so_by_itself(db: Database) -> None:
    world = await World.open(db)
    await world.record(said("M1"))
    await world.db.execute(WRITE, world.tenant.tenant_id, "(11) 98888-0001", NOW)
    await Path.build(db, world).pipeline.upkeep.read_numbers()
    assert await world.db.fetchval(WHO) == "Ana"
