"""Batches: what gathers goes together, in order, and nobody pays for another's trouble."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from storage.batch import Batch, NotInCompany
from storage.errors import StorageError, StoreUnavailable


@dataclass
class Store:
    """Doubles numbers, as soon as it is let; it refuses some in company, some always."""

    calls: list[list[int]] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    away: bool = False
    unwelcome: frozenset[int] = frozenset()
    poison: frozenset[int] = frozenset()
    slow: frozenset[int] = frozenset()
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    async def call(self, items: Sequence[int]) -> list[int | NotInCompany]:
        self.calls.append(list(items))
        await self.open.wait()
        if len(items) == 1 and self.slow.issuperset(items):
            await self.woken.wait()
        if self.away:
            raise StoreUnavailable("away")
        if self.poison.intersection(items):
            raise StorageError(f"one of {sorted(items)}")
        company = len(items) > 1
        return [NotInCompany() if company and i in self.unwelcome else 2 * i for i in items]


@pytest.fixture
async def store() -> Store:
    return Store()


async def asked(batch: Batch[int, int], *items: int) -> list[asyncio.Task[int]]:
    """What so many ask for at once, under way."""
    tasks = [asyncio.create_task(batch.ask(i)) for i in items]
    await asyncio.sleep(0)
    return tasks


async def results(tasks: Sequence[asyncio.Task[int]]) -> list[int | BaseException]:
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_what_gathers_while_a_call_is_under_way_is_the_next(store: Store) -> None:
    batch = Batch(store.call)
    first = await asked(batch, 1)
    await asyncio.sleep(0)
    rest = await asked(batch, 2, 3, 4)
    store.open.set()
    assert await results([*first, *rest]) == [2, 4, 6, 8]
    assert store.calls == [[1], [2, 3, 4]]


async def test_no_call_has_two_of_one_key_and_those_keep_their_order(store: Store) -> None:
    batch = Batch(store.call, key=lambda i: i % 2)
    store.open.set()
    assert await results(await asked(batch, 1, 2, 3, 5, 4)) == [2, 4, 6, 10, 8]
    assert store.calls == [[1, 2], [3, 4], [5]]


async def test_what_fails_in_company_is_tried_alone(store: Store) -> None:
    store.poison = frozenset({2})
    batch = Batch(store.call)
    store.open.set()
    one, two, three = await results(await asked(batch, 1, 2, 3))
    assert (one, three) == (2, 6)
    assert isinstance(two, StorageError)
    assert store.calls[0] == [1, 2, 3]
    assert sorted(store.calls[1:]) == [[1], [2], [3]]


async def test_who_is_not_taken_in_company_keeps_nobody_waiting(store: Store) -> None:
    store.unwelcome = frozenset({2})
    batch = Batch(store.call)
    store.open.set()
    assert await results(await asked(batch, 1, 2, 3)) == [2, 4, 6]
    assert store.calls == [[1, 2, 3], [2]]


async def test_while_one_is_tried_alone_its_key_waits_and_the_others_do_not(store: Store) -> None:
    store.unwelcome = store.slow = frozenset({2})
    batch = Batch(store.call, key=lambda i: i % 10)
    store.open.set()
    one, two = await asked(batch, 1, 2)
    assert await one == 2
    twelve, three = await asked(batch, 12, 3)
    assert await three == 6
    assert store.calls == [[1, 2], [2], [3]]
    store.woken.set()
    assert await results([two, twelve]) == [4, 24]


async def test_a_store_that_is_away_is_not_asked_again_for_each(store: Store) -> None:
    store.away = True
    batch = Batch(store.call)
    store.open.set()
    told = await results(await asked(batch, 1, 2))
    assert [type(each) for each in told] == [StoreUnavailable, StoreUnavailable]
    assert store.calls == [[1, 2]]
    store.away = False
    assert await results(await asked(batch, 1)) == [2]


async def test_whoever_is_cancelled_while_waiting_is_left_out_and_others_are_not(store: Store) -> None:
    batch = Batch(store.call)
    first = await asked(batch, 1)
    await asyncio.sleep(0)
    gone, stays = await asked(batch, 2, 3)
    gone.cancel()
    first[0].cancel()
    await asyncio.sleep(0)
    store.open.set()
    assert await stays == 6
    assert store.calls == [[1], [3]]
