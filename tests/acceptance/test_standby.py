"""Two daemons on one database: one serves, the other stands by and takes over, and no message is handled twice."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.acceptance.conversation import Shop
from tests.acceptance.daemon import DAEMON_CONFIG, daemon
from tests.acceptance.platform import (
    QUICK,
    Platform,
    all_is_answered,
    all_is_recorded,
    assert_each_was_answered_once,
    eventually,
    process,
)
from tests.acceptance.program import started
from tests.conftest import until

CHATS = 120
IDS = [f"M{n}" for n in range(CHATS)]


@pytest.fixture
def shop(tmp_path: Path, dsn: str) -> Shop:
    made = Shop(folder=tmp_path, dsn=dsn)
    made.configure(QUICK)
    return made


async def test_one_that_is_killed_is_replaced_by_the_one_that_stands_by(shop: Shop) -> None:
    async with process(shop) as first:
        await first.connects()
        async with process(shop) as second:
            await second.program.logged("account_stands_by")
            told = (await second.readiness())["accounts"]["shop"]
            assert (told["state"], told["can_send"]) == ("standby", False)
            assert f"process {first.program.pid} " in told["advice"]

            platform = Platform(shop)
            platform.write(*range(CHATS // 2))
            platform.deliver(first)
            await eventually(lambda: len(first.sent) >= CHATS // 6)
            first.program.signal(signal.SIGKILL)
            platform.write(*range(CHATS // 2, CHATS))
            await second.connects()
            await platform.forget_recorded()
            platform.deliver(second)
            await all_is_recorded(shop, IDS)
            await all_is_answered(shop)
            assert first.sent
            assert second.sent
            await assert_each_was_answered_once(shop, CHATS, first, second)
            await until(second.is_ready)


async def test_one_that_was_frozen_finds_itself_replaced_and_stands_by(shop: Shop) -> None:
    async with process(shop) as first, process(shop) as second:
        await eventually(lambda: first.is_connected or second.is_connected)
        serving, other = (first, second) if first.is_connected else (second, first)
        platform = Platform(shop)
        platform.write(*range(CHATS))
        platform.deliver(serving)
        await eventually(lambda: len(serving.sent) >= CHATS // 6)
        serving.program.signal(signal.SIGSTOP)
        # Its session lives: this is the time that is up, by the database's clock.
        await other.connects()
        serving.program.signal(signal.SIGCONT)
        await serving.program.logged("account_taken_over")
        await serving.disconnects()
        # What it had read by then it has recorded, for the other to answer.
        await platform.forget_recorded()
        platform.deliver(other)
        await all_is_recorded(shop, IDS)
        await all_is_answered(shop)
        await assert_each_was_answered_once(shop, CHATS, serving, other)
        assert (await serving.readiness())["accounts"]["shop"]["state"] == "standby"


async def test_a_second_run_stands_by_and_says_so_until_the_first_is_stopped(shop: Shop) -> None:
    shop.configure(DAEMON_CONFIG)
    place = {"DATABASE_URL": shop.dsn}
    async with (
        daemon(shop.folder, **place) as first,
        started("run", cwd=shop.folder, variables=place) as second,
    ):
        told = await second.logged("account_stands_by")
        assert f"process {first.program.pid} " in told["holder"]
        first.program.signal(signal.SIGTERM)
        assert (await first.program.finished()).code == 0
        await second.logged("account_taken_up")
        second.signal(signal.SIGTERM)
        assert (await second.finished()).code == 0
