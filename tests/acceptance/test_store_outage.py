"""PostgreSQL goes away under a running daemon and comes back: nothing is lost, and each is answered once."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from bot.clock import SystemClock
from bot.config import Config, load
from bot.events import Decided, Event, Events, Said
from bot.simulation import CUSTOMER, Line, Simulation, simulated
from bot.transports.base import ConnectionState
from bot.wiring import AccountInUse
from storage.database import Database
from storage.embedded import EmbeddedPostgres
from storage.lease import Leases
from storage.migrate import migrate
from storage.models import Action, ExternalId
from tests.acceptance.conversation import CONFIG
from tests.acceptance.frozen import frozen
from tests.acceptance.invariants import assert_all_is_well, recorded_ids
from tests.conftest import connected, until

OTHER, THIRD = "+5511988880002", "+5511988880003"

# A real clock ticks here: nobody has to look human.
QUICK = f"""{CONFIG}
pace: {{debounce: 0.2s, typing: false}}
"""


# The daemon waits for two seconds; how much later it may be here is the machine's doing.
LATE_SECONDS = 10.0

LOCK_CHATS = "SELECT FROM sidestep.chat_state FOR UPDATE"
BREAK_ALL = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname IS NOT NULL AND pid <> pg_backend_pid()
"""
TIME_IS_UP = "UPDATE sidestep.leases SET expires_at = '-infinity'"


@dataclass
class Heard:
    """What the daemon told, as it told it."""

    decided: dict[str, list[Action]] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def tell(self, event: Event) -> None:
        if isinstance(event, Decided):
            self.decided.setdefault(str(event.external_id), []).append(event.action)
        elif isinstance(event, Said):
            self.said.append(event.due.to.partition("@")[0])


@dataclass
class World:
    """A daemon over a PostgreSQL that can be switched off."""

    server: EmbeddedPostgres
    database: Database
    config: Config
    simulation: Simulation
    heard: Heard

    def arrive(self, text: str, message_id: str, chat: str = CUSTOMER, who: str = "customer") -> None:
        """Somebody writes, and nobody waits until it is recorded."""
        line = Line(who=who, text=text, external_id=ExternalId(message_id), chat=chat)
        self.simulation.transport.arrive(self.simulation.message(line))

    @property
    def state(self) -> ConnectionState:
        return self.simulation.transport.connection.state


@pytest.fixture
async def world(tmp_path: Path, open_folder: Path) -> AsyncIterator[World]:
    server = EmbeddedPostgres(open_folder, durable=False)
    heard, events = Heard(), Events()
    events.listen(heard.tell)
    config = configuration(tmp_path)
    async with stopped_in_the_end(server):
        database = await Database.open(await server.start())
        try:
            await migrate(database)
            async with simulated(config, database, SystemClock(), events) as simulation:
                yield World(server, database, config, simulation, heard)
        finally:
            await database.close()


@asynccontextmanager
async def stopped_in_the_end(server: EmbeddedPostgres) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await server.stop()


def configuration(folder: Path) -> Config:
    file = folder / "config.yaml"
    file.write_text(QUICK, encoding="utf-8")
    return load(file, environ={}, dotenv=folder / "none")


async def eventually(condition: Callable[[], bool]) -> None:
    async def holds() -> bool:
        return condition()

    await until(holds)


async def test_while_the_store_is_away_the_platform_keeps_what_arrives(world: World) -> None:
    world.arrive("price", "before")
    await eventually(lambda: len(world.heard.said) == 1)
    await world.server.stop()
    lost_at = time.monotonic()
    # Acknowledged before we know of the outage: held in memory.
    world.arrive("price", "at once")
    world.arrive("price", "theirs", chat=THIRD)
    world.arrive("I am here", "takeover", chat=THIRD, who="owner")
    await eventually(lambda: world.state is ConnectionState.SUSPENDED)
    assert 1.0 < time.monotonic() - lost_at < LATE_SECONDS
    assert not (await world.simulation.daemon.database()).ok
    # Now the platform itself keeps it.
    world.arrive("price", "meanwhile", chat=OTHER)
    assert len(world.simulation.daemon.lines[0].pipeline.inbox) == 3
    assert world.heard.said == [CUSTOMER.removeprefix("+")]

    await world.server.start()
    await eventually(lambda: world.state is ConnectionState.CONNECTED)
    await eventually(lambda: len(world.heard.said) == 3)
    await eventually(lambda: len(world.heard.decided) == 5)
    await world.simulation.daemon.scheduler.run_due()
    assert (await world.simulation.daemon.database()).ok
    assert sorted(world.heard.said) == sorted(c.removeprefix("+") for c in (CUSTOMER, CUSTOMER, OTHER))
    assert world.heard.decided == {
        "before": [Action.KEYWORD_REPLIED],
        "at once": [Action.KEYWORD_REPLIED],
        "theirs": [Action.SUPERSEDED],
        "takeover": [Action.PAUSED],
        "meanwhile": [Action.KEYWORD_REPLIED],
    }
    assert sorted(await recorded_ids(world.server.dsn)) == sorted({*world.heard.decided} - {"takeover"})
    await assert_all_is_well(world.server.dsn)


async def test_a_short_absence_disconnects_nobody(world: World) -> None:
    # As after a restart, but that a slow machine cannot make it a long one.
    async with connected(world.server.dsn) as outsider:
        world.arrive("price", "Q")
        assert await outsider.fetchval(BREAK_ALL) > 0
    await eventually(lambda: len(world.heard.said) == 1)
    assert world.state is ConnectionState.CONNECTED
    await assert_all_is_well(world.server.dsn)


async def test_a_store_that_hangs_is_as_one_that_is_away(world: World, open_folder: Path) -> None:
    world.arrive("price", "before")
    await eventually(lambda: len(world.heard.said) == 1)
    with frozen(open_folder):
        hangs_since = time.monotonic()
        world.arrive("price", "at once")
        await eventually(lambda: world.state is ConnectionState.SUSPENDED)
        assert 1.0 < time.monotonic() - hangs_since < LATE_SECONDS
        assert not (await world.simulation.daemon.database()).ok
        world.arrive("price", "meanwhile", chat=OTHER)
        assert len(world.simulation.daemon.lines[0].pipeline.inbox) == 1
    await recovered(world, ["before", "at once", "meanwhile"])


async def test_a_chat_that_an_outsider_locks_is_told_and_waited_for(world: World) -> None:
    world.arrive("price", "before")
    await eventually(lambda: len(world.heard.decided) == 1)
    async with connected(world.server.dsn) as outsider, outsider.transaction():
        await outsider.execute(LOCK_CHATS)
        locked_at = time.monotonic()
        world.arrive("price", "at once")
        await eventually(lambda: world.state is ConnectionState.SUSPENDED)
        assert 1.0 < time.monotonic() - locked_at < LATE_SECONDS
        told = (await world.simulation.daemon.database()).error
        assert told in ("unwritable", "LockNotAvailableError")
        # The wait for the lock has an end, and the batch is tried again.
        await eventually(lambda: world.simulation.daemon.lines[0].pipeline.store_trouble is not None)
        world.arrive("price", "meanwhile", chat=OTHER)
    await recovered(world, ["before", "at once", "meanwhile"])


async def recovered(world: World, ids: Sequence[str]) -> None:
    """Connected again, and each of these prices was told once."""
    await eventually(lambda: world.state is ConnectionState.CONNECTED)
    await eventually(lambda: len(world.heard.said) == len(world.heard.decided) == len(ids))
    await world.simulation.daemon.scheduler.run_due()
    assert (await world.simulation.daemon.database()).ok
    assert world.heard.decided == {one: [Action.KEYWORD_REPLIED] for one in ids}
    assert len(world.heard.said) == len(ids)
    assert sorted(await recorded_ids(world.server.dsn)) == sorted(ids)
    await assert_all_is_well(world.server.dsn)


async def test_an_account_stays_ours_across_an_outage(world: World) -> None:
    await world.server.stop()
    await eventually(lambda: world.state is ConnectionState.SUSPENDED)
    await world.server.start()
    await eventually(lambda: world.state is ConnectionState.CONNECTED)
    with pytest.raises(AccountInUse):
        async with simulated(world.config, world.database, SystemClock(), Events()):
            pass


async def test_an_account_that_another_daemon_has_taken_is_left_to_it(world: World) -> None:
    daemon = world.simulation.daemon
    other = Leases(world.database, [daemon.lines[0].pipeline.account], timedelta(hours=1))

    async def taken() -> bool:
        # As when our connection breaks and the database stays: we may renew it just before.
        await world.database.execute(TIME_IS_UP)
        await other.keep()
        return other.each[0].is_ours

    await until(taken)
    await eventually(lambda: world.state is ConnectionState.STOPPED)
    await eventually(lambda: daemon.accounts()[0].connection.state is ConnectionState.STANDBY)
    assert (await daemon.database()).ok
    world.arrive("price", "Q")
    await other.release()
    await eventually(lambda: world.state is ConnectionState.CONNECTED)
    world.arrive("price", "Q")
    await eventually(lambda: len(world.heard.said) == 1)
    await assert_all_is_well(world.server.dsn)
