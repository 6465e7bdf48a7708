"""Indexes of JSON, as `store.index_json` switches them: whole, without holding anybody up, and gone without a trace."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from storage.database import Database
from storage.errors import StoreUnavailable
from storage.indexing import index_json
from storage.messages import MessageStore
from tests.conftest import connected, until
from tests.integration import path_world
from tests.integration.face_world import face, plan
from tests.integration.path_world import POLICY, Path
from tests.integration.store_world import NOW, World, said

# Its own, and one of each month, whatever PostgreSQL calls those that it makes itself.
INDEXES = """
SELECT indexrelid::regclass::text FROM pg_index
 WHERE indexrelid::regclass::text LIKE '%\\_json' OR pg_get_indexdef(indexrelid) LIKE '%jsonb_path_ops%'
"""
WITHOUT = """
SELECT count(*) FROM pg_class c
 WHERE c.oid IN (SELECT unnest(ARRAY[inhparent, inhrelid]) FROM pg_inherits
                  WHERE inhparent IN ('sidestep.messages'::regclass, 'sidestep.message_payloads'::regclass))
   AND NOT EXISTS (SELECT FROM pg_index i
                    WHERE i.indrelid = c.oid AND i.indisvalid AND pg_get_indexdef(i.indexrelid) LIKE '%jsonb_path_ops%')
"""
NEWEST_MONTH = """
SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'sidestep.messages'::regclass ORDER BY 1 DESC LIMIT 1
"""
BUILDERS = "SELECT count(*) FROM pg_stat_progress_create_index WHERE datname = current_database()"
KILL_THEM = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_progress_create_index WHERE datname = current_database()"
)

SEARCHES = (
    "SELECT content FROM messages WHERE metadata @> '{\"order\": 7}'",
    "SELECT id FROM sidestep.message_payloads WHERE raw @> '{\"order\": 7}'",
)


async def are_gone(db: Database) -> bool:
    return await db.fetch(INDEXES) == []


async def are_whole(db: Database) -> bool:
    return int(await db.fetchval(WITHOUT)) == 0


@asynccontextmanager
async def building(db: Database) -> AsyncIterator[asyncio.Task[None]]:
    """A build that waits, for as long as the block lasts, for somebody who is writing."""
    await MessageStore(db).ensure_months(NOW)
    async with connected(db.address.url) as writer, writer.transaction():
        month = await writer.fetchval(NEWEST_MONTH)
        await writer.execute(f"LOCK TABLE {month} IN ROW EXCLUSIVE MODE")
        build = asyncio.create_task(index_json(db, wanted=True))

        async def has_begun() -> bool:
            return bool(await db.fetchval(BUILDERS))

        await until(has_begun)
        yield build


async def test_they_serve_searches_of_every_month(db: Database) -> None:
    world = await World.open(db)
    await world.record(*(said(f"M{n}", raw='{"order": 8}') for n in range(2000)))
    await db.execute("ANALYZE sidestep.messages, sidestep.message_payloads")
    await index_json(db, wanted=True)
    assert await are_whole(db)
    # A month that is made later has its own from the beginning.
    await world.messages.ensure_months(datetime(2031, 5, 5, tzinfo=UTC))
    assert await are_whole(db)
    async with face(db, "store", str(world.tenant.tenant_id)) as connection:
        for search in SEARCHES:
            assert re.search("Index Cond: .*@>", await plan(connection, search)), search


async def test_they_go_without_a_trace_when_nobody_wants_them_any_more(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await World.open(db)
    plain = Path.build(db, world).pipeline.upkeep
    monkeypatch.setattr(path_world, "POLICY", replace(POLICY, index_json=True))
    indexed = Path.build(db, world).pipeline.upkeep
    for _ in range(2):
        await indexed.index()
        assert await are_whole(db)
    for _ in range(2):
        await plain.index()
        assert await are_gone(db)


async def test_who_writes_meanwhile_waits_for_nothing(db: Database) -> None:
    world = await World.open(db)
    async with building(db) as build:
        await world.record(said("M1", raw='{"order": 7}'))
        # Another daemon leaves it to the first.
        await index_json(db, wanted=True)
        assert not build.done()
    await build
    assert await are_whole(db)


@pytest.mark.parametrize("wanted", [True, False])
async def test_a_build_that_is_broken_off_leaves_nothing_behind(db: Database, wanted: bool) -> None:
    await World.open(db)
    async with building(db) as build:
        await db.execute(KILL_THEM)
        with pytest.raises(StoreUnavailable):
            await build
    assert not await are_gone(db)
    assert not await are_whole(db)
    await index_json(db, wanted=wanted)
    assert await (are_whole(db) if wanted else are_gone(db))
