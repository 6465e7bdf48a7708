"""PostgreSQL is killed in the middle of conversations and brought back: each message is recorded and answered once."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from storage.embedded import EmbeddedPostgres
from storage.models import Action, Status
from tests.acceptance.conversation import Shop
from tests.acceptance.frozen import kill_server
from tests.acceptance.invariants import actions, assert_all_is_well, outbox_by_status, recorded_ids
from tests.acceptance.platform import (
    QUICK,
    Process,
    all_is_answered,
    all_is_recorded,
    customer,
    eventually,
    number,
    owner,
    process,
)
from tests.conftest import connected, until

CUSTOMERS, TAKEN = range(60), 59
IDS = [f"M{n}" for n in CUSTOMERS]
# Of the server's processes those that do the daemon's work, the busiest first.
BACKENDS = """
SELECT pid FROM pg_stat_activity WHERE application_name = 'sidestep' AND pid <> pg_backend_pid()
 ORDER BY state = 'active' DESC, state_change DESC
"""


@pytest.fixture
async def server(open_folder: Path) -> AsyncIterator[EmbeddedPostgres]:
    """What it has committed outlives it: else a kill would prove nothing."""
    server = EmbeddedPostgres(open_folder)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


@pytest.fixture
def shop(tmp_path: Path, server: EmbeddedPostgres) -> Shop:
    made = Shop(folder=tmp_path, dsn=server.dsn)
    made.configure(QUICK)
    return made


async def kill_backend(server: EmbeddedPostgres) -> None:
    """One is enough: the server then ends all the others, and recovers. Comes back when it has."""
    async with connected(server.dsn) as onlooker:
        os.kill(await onlooker.fetchval(BACKENDS), signal.SIGKILL)
        await eventually(onlooker.is_closed)
    await until(server.answers)


def prices(customers: range) -> list[bytes]:
    return [customer(number(n), f"M{n}") for n in customers]


def has_sent(daemon: Process, messages: int) -> bool:
    return len(daemon.said) >= messages


async def assert_each_had_one_answer(daemon: Process, shop: Shop) -> None:
    await all_is_recorded(shop, IDS)
    await all_is_answered(shop)
    finished = await daemon.ends(signal.SIGTERM)
    assert (finished.code, "Traceback" in finished.err) == (0, False), finished.err
    await assert_all_is_well(shop.dsn)
    assert sorted(await recorded_ids(shop.dsn)) == sorted(IDS)
    decided = await actions(shop.dsn)
    assert decided.pop("takeover") == [Action.PAUSED]
    assert decided.pop(f"M{TAKEN}") in ([Action.SUPERSEDED], [Action.KEYWORD_REPLIED])
    assert decided == {i: [Action.KEYWORD_REPLIED] for i in IDS[:TAKEN]}
    assert sorted(daemon.sent) == [number(n) for n in CUSTOMERS[:TAKEN]]
    assert set(await outbox_by_status(shop.dsn)) <= {Status.SENT, Status.CANCELLED}


async def test_a_server_that_loses_a_process_and_recovers(server: EmbeddedPostgres, shop: Shop) -> None:
    async with process(shop) as daemon:
        await daemon.connects()
        for part in (CUSTOMERS[:20], CUSTOMERS[20:40], CUSTOMERS[40:]):
            # The last one's chat is taken over before anything is committed.
            taken_over = [owner(number(TAKEN), "takeover")] if TAKEN in part else []
            daemon.hear(*prices(part), *taken_over)
            await eventually(partial(has_sent, daemon, part.start + 1))
            await kill_backend(server)
        await assert_each_had_one_answer(daemon, shop)


async def test_a_server_that_is_killed_and_started_again(
    server: EmbeddedPostgres, shop: Shop, open_folder: Path
) -> None:
    async with process(shop) as daemon:
        await daemon.connects()
        daemon.hear(*prices(CUSTOMERS[:30]))
        await eventually(partial(has_sent, daemon, 4))
        kill_server(open_folder)
        daemon.hear(*prices(CUSTOMERS[30:]), owner(number(TAKEN), "takeover"))
        await daemon.disconnects()
        assert (await daemon.readiness())["database"]["ok"] is False
        await server.ended()
        await server.start()
        await daemon.connects()
        await assert_each_had_one_answer(daemon, shop)
