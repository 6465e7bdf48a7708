"""A post follows its lease, and takes a session back that was taken from it, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import cast

import pytest

from bot.clock import VirtualClock
from bot.line import Line
from bot.metrics import Metrics
from bot.post import Post
from bot.transports.base import Connection, ConnectionState
from bot.transports.states import shown
from storage.lease import NONE, Lease
from storage.models import Account, AccountId, TenantId

A_MOMENT = timedelta(seconds=5)


class ALine:
    """As much of a line as its post sees."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.state = ConnectionState.CONNECTED
        self.is_stopped = False

    @property
    def connection(self) -> Connection:
        return shown(self.state, since=self._clock.now())

    async def start(self, group: asyncio.TaskGroup) -> None: ...

    async def stop(self, patience: float | None) -> None:
        self.is_stopped = True


class World:
    def __init__(self, group: asyncio.TaskGroup) -> None:
        account = Account(account_id=AccountId(1), tenant_id=TenantId(1), name="shop")
        self._group = group
        self.clock = VirtualClock()
        self.lease = Lease(account, fence=1)
        self.lines: list[ALine] = []
        self.post = Post(self.lease, self._make, self.clock, Metrics())

    async def _make(self, lease: Lease) -> Line:
        self.lines.append(ALine(self.clock))
        return cast("Line", self.lines[-1])

    async def look(self, after: timedelta = timedelta()) -> None:
        await self.clock.advance(after)
        await self.post.look(self._group)

    async def is_thrown_out(self) -> None:
        """And everybody who has woken up has had the time to look at their lease."""
        self.lines[-1].state = ConnectionState.REPLACED
        await self.look()
        await self.look(after=A_MOMENT)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with asyncio.TaskGroup() as group:
        yield World(group)


async def test_a_session_that_was_taken_while_the_lease_is_ours_is_taken_back(world: World) -> None:
    await world.look()
    world.lines[0].state = ConnectionState.REPLACED
    await world.look()
    await world.look(after=A_MOMENT / 2)
    assert (len(world.lines), world.lines[0].is_stopped) == (1, False)
    await world.look(after=A_MOMENT / 2)
    assert (len(world.lines), world.lines[0].is_stopped) == (2, True)


async def test_who_takes_it_again_is_no_daemon_of_ours_and_keeps_it(world: World) -> None:
    await world.look()
    await world.is_thrown_out()
    await world.is_thrown_out()
    await world.look(after=timedelta(days=1))
    assert len(world.lines) == 2
    assert world.post.connection.state is ConnectionState.REPLACED


async def test_who_has_lost_the_lease_takes_nothing_back_until_it_has_it_again(world: World) -> None:
    await world.look()
    await world.is_thrown_out()
    world.lease.fence = NONE
    world.lines[-1].state = ConnectionState.REPLACED
    await world.look(after=timedelta(days=1))
    assert world.post.connection.state is ConnectionState.STANDBY
    world.lease.fence = 3
    await world.look()
    await world.is_thrown_out()
    assert [line.is_stopped for line in world.lines] == [True, True, True, False]
