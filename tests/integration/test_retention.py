"""How long things are kept: by whole months, for one tenant, and nothing that has gone comes again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from storage.archiving import archive
from storage.database import Database
from storage.models import FOR_EVER
from storage.retention import drop_empty_months, forget_messages, forget_payloads
from tests.conftest import connected
from tests.integration import path_world
from tests.integration.path_world import POLICY, Path
from tests.integration.store_world import NOW, SHOP, World, said

JANUARY, FEBRUARY = datetime(2026, 1, 31, 23, tzinfo=UTC), datetime(2026, 2, 1, 1, tzinfo=UTC)


async def three_months(world: World) -> None:
    for at, name in ((JANUARY, "A1"), (FEBRUARY, "A2"), (NOW, "A3")):
        await world.record(said(name, f"of {name}", at=at, raw='{"raw": 1}'), now=at)


@pytest.mark.parametrize("batch", [1000, 1])
async def test_messages_go_by_whole_months(db: Database, monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr("storage.retention._BATCH", batch)
    world = await World.open(db)
    await three_months(world)
    tenant = world.tenant.tenant_id
    assert await forget_messages(db, tenant, JANUARY) == 0
    assert await forget_messages(db, tenant, NOW - timedelta(days=20)) == 1
    assert await world.texts() == ["of A2", "of A3"]
    assert await forget_messages(db, tenant, NOW) == 1
    assert await world.count("decisions") == await world.count("message_payloads") == 1
    assert await world.record_past(said("A1", "of A1", at=JANUARY)) == 0
    assert await world.texts() == ["of A3"]


async def test_events_go_to_the_moment_and_the_messages_stay(db: Database) -> None:
    world = await World.open(db)
    await three_months(world)
    assert await forget_payloads(db, world.tenant.tenant_id, FEBRUARY + timedelta(hours=1)) == 2
    assert await world.count("message_payloads") == 1
    assert await world.texts() == ["of A1", "of A2", "of A3"]


async def test_another_tenant_keeps_its_own(db: Database) -> None:
    shop = await World.open(db)
    cafe = await World.open(db, replace(SHOP, instance_name="cafe", owner="+5511999990009"))
    for world in (shop, cafe):
        await three_months(world)
    await forget_messages(db, shop.tenant.tenant_id, NOW)
    await forget_payloads(db, shop.tenant.tenant_id, NOW + timedelta(days=1))
    of_cafe = "SELECT count(*) FROM sidestep.messages WHERE tenant_id = $1"
    assert await db.fetchval(of_cafe, cafe.tenant.tenant_id) == 3
    assert await world.count("message_payloads") == 3


async def test_the_daemon_keeps_to_it_and_for_ever_by_itself(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await World.open(db)
    await three_months(world)
    await Path.build(db, world).pipeline.upkeep.clean()
    assert await world.count("messages") == 3
    kept = replace(POLICY, retention=timedelta(days=20), raw_retention=timedelta(days=1))
    monkeypatch.setattr(path_world, "POLICY", kept)
    await Path.build(db, world).pipeline.upkeep.clean()
    assert await world.texts() == ["of A2", "of A3"]
    assert await world.count("message_payloads") == 1


@pytest.mark.parametrize(
    ("said_by_tenant", "left"),
    [(None, ["of A2", "of A3"]), (timedelta(days=1), ["of A3"]), (FOR_EVER, ["of A1", "of A2", "of A3"])],
)
async def test_a_tenant_s_own_word_comes_before_that_for_all(
    db: Database, monkeypatch: pytest.MonkeyPatch, said_by_tenant: timedelta | None, left: list[str]
) -> None:
    world = await World.open(db, replace(SHOP, retention=said_by_tenant))
    await three_months(world)
    monkeypatch.setattr(path_world, "POLICY", replace(POLICY, retention=timedelta(days=20)))
    await Path.build(db, world).pipeline.upkeep.clean()
    assert await world.texts() == left


async def test_what_sql_says_is_obeyed(db: Database) -> None:
    world = await World.open(db)
    await three_months(world)
    await db.execute("UPDATE sidestep.tenants SET retention = interval '20 days'")
    await Path.build(db, world).pipeline.upkeep.clean()
    assert await world.texts() == ["of A2", "of A3"]


MONTHS = (
    "SELECT count(*) FROM sidestep.message_months() m WHERE m.first_id < sidestep.id_floor('2026-02-01Z')"
)


async def test_a_month_is_dropped_once_nobody_has_anything_in_it(db: Database) -> None:
    shop = await World.open(db, replace(SHOP, retention=timedelta(days=1)))
    cafe = await World.open(db, replace(SHOP, instance_name="cafe", owner="+5511999990009"))
    for world in (shop, cafe):
        await three_months(world)
    await Path.build(db, shop).pipeline.upkeep.clean()
    assert await db.fetchval(MONTHS) == 1
    await db.execute("UPDATE sidestep.tenants SET retention = interval '1 day' WHERE instance_name = 'cafe'")
    await Path.build(db, cafe).pipeline.upkeep.clean()
    assert await db.fetchval(MONTHS) == 0
    assert await db.fetchval("SELECT to_regclass('sidestep.decisions_202601')") is None
    assert sorted(filter(None, await shop.texts())) == ["of A3", "of A3"]
    # What is told of that month makes it anew, also where it was known to be there.
    assert await shop.record_past(said("A0", "of A0", at=JANUARY)) == 1


async def test_an_archived_month_is_dropped_too(db: Database) -> None:
    world = await World.open(db, replace(SHOP, retention=timedelta(days=20)))
    await three_months(world)
    await archive(db, datetime(2026, 2, 1, 1, tzinfo=UTC))
    assert await db.fetchval("SELECT to_regclass('sidestep_archive.messages_202601')") is not None
    await Path.build(db, world).pipeline.upkeep.clean()
    assert await db.fetchval("SELECT to_regclass('sidestep_archive.messages_202601')") is None
    assert await db.fetchval(MONTHS) == 0


async def test_a_store_that_is_busy_drops_nothing_and_is_not_held_up(db: Database, dsn: str) -> None:
    await World.open(db)
    await db.execute("SELECT sidestep.ensure_months('2025-01-01Z', '2025-01-01Z')")
    async with connected(dsn) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("LOCK TABLE sidestep.messages IN ROW EXCLUSIVE MODE")
        assert await drop_empty_months(db, NOW) == 0
        await transaction.rollback()
    assert await drop_empty_months(db, NOW) == 1
