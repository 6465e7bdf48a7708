"""The daemon gets no connection to PostgreSQL, or all that it has are stuck: nothing is lost, and all goes on after."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from storage.models import Action
from tests.acceptance.conversation import Shop
from tests.acceptance.invariants import actions, assert_all_is_well
from tests.acceptance.platform import (
    QUICK,
    Process,
    all_is_answered,
    all_is_recorded,
    assert_each_was_answered_once,
    customer,
    number,
    owner,
    process,
)
from tests.conftest import connected, database_of, in_database, ordinary_user, until

BEFORE, AT_ONCE, MEANWHILE = range(3), range(3, 30), range(30, 33)
EVERYBODY, TAKEN = range(33), AT_ONCE[0]

CLEAN = "/cron/auto-resume"
STUCK = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND wait_event_type = 'Lock' AND state = 'active'
"""
CUT_OFF = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1"
CONNECTIONS = 12  # what `run` has at most, one of them for its leases


def a_shop(folder: Path, dsn: str) -> Shop:
    made = Shop(folder=folder, dsn=dsn)
    made.configure(QUICK)
    return made


def ask(daemon: Process, *customers: int) -> None:
    daemon.hear(*(customer(number(n), f"M{n}") for n in customers))


async def the_day_before(daemon: Process, shop: Shop) -> None:
    await daemon.connects()
    ask(daemon, *BEFORE)
    await all_is_recorded(shop, [f"M{n}" for n in BEFORE])
    await all_is_answered(shop)


async def assert_it_says(daemon: Process, error: str, advice: str) -> None:
    """And its port answers."""
    told = (await daemon.readiness())["database"]
    assert (told["ok"], told["error"]) == (False, error)
    assert advice in told["advice"]
    assert (await daemon.page("/livez")).status_code == 200
    suspended = 'sidestep_connection_state{account="shop",state="suspended"} 1.0'
    assert suspended in (await daemon.page("/metrics")).text


async def assert_nothing_was_lost(daemon: Process, shop: Shop) -> None:
    await all_is_recorded(shop, [f"M{n}" for n in EVERYBODY])
    await all_is_answered(shop)
    await until(daemon.is_ready)
    finished = await daemon.ends(signal.SIGTERM)
    assert (finished.code, "Traceback" in finished.err) == (0, False), finished.err
    await assert_all_is_well(shop.dsn)
    decided = await actions(shop.dsn)
    assert decided.pop("takeover") == [Action.PAUSED]
    # Its answer was made, and may not leave.
    assert decided.pop(f"M{TAKEN}") in ([Action.SUPERSEDED], [Action.KEYWORD_REPLIED])
    assert decided == {f"M{n}": [Action.KEYWORD_REPLIED] for n in EVERYBODY if n != TAKEN}
    assert sorted(daemon.sent) == [number(n) for n in EVERYBODY if n != TAKEN]


async def test_when_all_its_connections_wait_for_a_lock_it_goes_away_and_comes_back(
    dsn: str, tmp_path: Path
) -> None:
    shop = a_shop(tmp_path, dsn)
    async with process(shop) as daemon, connected(dsn) as outsider, connected(dsn) as onlooker:
        await the_day_before(daemon, shop)

        async def are_stuck() -> bool:
            return bool(await onlooker.fetchval(STUCK) >= CONNECTIONS - 1)

        async with outsider.transaction():
            await outsider.execute("LOCK TABLE sidestep.early_receipts IN EXCLUSIVE MODE")
            # The path's own calls come many at a time, and never take them all: these do.
            cleaning = [asyncio.create_task(daemon.page(CLEAN, "POST")) for _ in range(CONNECTIONS)]
            await until(are_stuck)
            ask(daemon, *AT_ONCE)
            daemon.hear(owner(number(TAKEN), "takeover"))
            await daemon.disconnects()
            ask(daemon, *MEANWHILE)
            await assert_it_says(daemon, "busy", "who holds a lock")
        await daemon.connects()
        assert {answer.status_code for answer in await asyncio.gather(*cleaning)} == {200}
        await assert_nothing_was_lost(daemon, shop)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosted:
    """A shop whose daemon comes to the database as an ordinary user, as at a hosting company."""

    shop: Shop
    dsn: str

    async def limit(self, connections: int) -> None:
        """The user may have so many at a time, and loses those that are there."""
        role = urlsplit(self.dsn).username
        async with connected(self.shop.dsn) as server:
            await server.execute(f"ALTER ROLE {role} CONNECTION LIMIT {connections}")
            await server.execute(CUT_OFF, role)

    async def lift(self) -> None:
        async with connected(self.shop.dsn) as server:
            await server.execute(f"ALTER ROLE {urlsplit(self.dsn).username} CONNECTION LIMIT -1")


@pytest.fixture
async def hosted(postgres: str, tmp_path: Path) -> AsyncIterator[Hosted]:
    async with ordinary_user(postgres, owner=True) as dsn:
        yield Hosted(shop=a_shop(tmp_path, in_database(postgres, database_of(dsn))), dsn=dsn)


async def test_when_the_server_takes_nobody_more_it_goes_away_and_comes_back(
    hosted: Hosted,
) -> None:
    shop = hosted.shop
    async with process(shop, dsn=hosted.dsn) as daemon:
        await the_day_before(daemon, shop)
        await hosted.limit(0)
        ask(daemon, *AT_ONCE)
        daemon.hear(owner(number(TAKEN), "takeover"))
        await daemon.disconnects()
        ask(daemon, *MEANWHILE)
        await assert_it_says(daemon, "TooManyConnectionsError", "raise max_connections")
        await hosted.lift()
        await daemon.connects()
        await assert_nothing_was_lost(daemon, shop)


async def test_with_fewer_connections_than_it_wants_it_goes_on(
    hosted: Hosted,
) -> None:
    shop = hosted.shop
    async with process(shop, dsn=hosted.dsn) as daemon:
        await daemon.connects()
        # One for its leases, one for all else.
        await hosted.limit(2)
        ask(daemon, *EVERYBODY)
        await all_is_recorded(shop, [f"M{n}" for n in EVERYBODY])
        await all_is_answered(shop)
        await assert_each_was_answered_once(shop, len(EVERYBODY), daemon)
