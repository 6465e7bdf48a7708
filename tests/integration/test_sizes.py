"""What the store tells of itself."""

from __future__ import annotations

import pytest

from storage.database import Database
from storage.migrate import migrate
from storage.reading.sizes import StatementsUnknown, index_use, slow_statements, table_sizes
from tests.conftest import ordinary_user
from tests.integration.store_world import World, said


async def test_months_are_told_as_one_table(db: Database) -> None:
    world = await World.open(db)
    await world.record(said("1"))
    sizes = {size.name: size for size in await table_sizes(db)}
    assert sizes["messages"].months >= 2
    assert sizes["messages"].table_bytes > 0
    assert sizes["messages"].index_bytes > 0
    assert sizes["tenants"].months == 0
    assert not any(name[-6:].isdigit() for name in sizes)
    used = {index.name: index for index in await index_use(db)}
    assert used["messages_words"].table_name == "messages"
    assert used["messages_pkey"].is_unique
    assert not any(index.table_name[-6:].isdigit() for index in used.values())


async def test_a_server_that_does_not_count_statements_is_told_as_such(postgres: str) -> None:
    async with ordinary_user(postgres, owner=True) as dsn:
        database = await Database.open(dsn, max_size=1)
        try:
            await migrate(database)
            with pytest.raises(StatementsUnknown, match="shared_preload_libraries") as refused:
                await slow_statements(database)
            assert "secret" not in str(refused.value)
        finally:
            await database.close()
