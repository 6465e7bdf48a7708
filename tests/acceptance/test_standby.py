"""Two daemons on one database: one serves, the other stands by and takes over, and no message is handled twice."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from storage.models import Status
from tests.acceptance.conversation import CONFIG, Shop
from tests.acceptance.daemon import DAEMON_CONFIG, daemon
from tests.acceptance.invariants import assert_all_is_well, outbox_by_status, recorded_ids
from tests.acceptance.program import Program, started
from tests.conftest import connected, until

QUICK = f"""{CONFIG}
pace: {{debounce: 0s, typing: false, per_account: null}}
"""
CHATS = 120
OPEN = "SELECT count(*) FROM sidestep.decisions WHERE action_taken IS NULL"


@dataclass
class Process:
    """A daemon, and what the platform has seen of it."""

    program: Program
    sent: list[str] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)
    is_connected: bool = False

    async def read(self) -> None:
        while True:
            line = json.loads(await self.program.read_line())
            if "connected" in line:
                self.is_connected = line["connected"]
            elif "sent" in line:
                self.sent.append(line["chat"])
            else:
                self.told.append(line)

    async def readiness(self) -> dict[str, Any]:
        before = len(self.told)
        self.write({"ready": True})
        await eventually(lambda: len(self.told) > before)
        return self.told[-1]

    def write(self, line: dict[str, Any]) -> None:
        self.program.write(json.dumps(line).encode() + b"\n")


@dataclass
class Platform:
    """Keeps what its customers write until a daemon has recorded it, and gives it to whoever is connected."""

    shop: Shop
    waiting: dict[str, str] = field(default_factory=dict)

    def write(self, *numbers: int) -> None:
        """Each of these customers writes once."""
        self.waiting |= {f"M{n}": f"+55119777700{n:03}" for n in numbers}

    def deliver(self, process: Process) -> None:
        for message_id, chat in self.waiting.items():
            process.write({"id": message_id, "chat": chat, "text": "price"})

    async def forget_recorded(self) -> None:
        recorded = await recorded_ids(self.shop.dsn)
        self.waiting = {i: chat for i, chat in self.waiting.items() if i not in recorded}


@pytest.fixture
def shop(tmp_path: Path, dsn: str) -> Shop:
    made = Shop(folder=tmp_path, dsn=dsn)
    made.configure(QUICK)
    return made


@asynccontextmanager
async def process(shop: Shop) -> AsyncIterator[Process]:
    arguments = (shop.dsn, shop.folder / "config.yaml")
    async with started(*arguments, cwd=shop.folder, module="tests.acceptance.piped") as program:
        made = Process(program)
        reading = asyncio.create_task(made.read())
        try:
            yield made
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


async def eventually(condition: Callable[[], bool]) -> None:
    async def holds() -> bool:
        return condition()

    await until(holds)


async def all_is_answered(shop: Shop) -> None:
    async def at_rest() -> bool:
        async with connected(shop.dsn) as connection:
            is_decided = await connection.fetchval(OPEN) == 0
        statuses = await outbox_by_status(shop.dsn)
        return is_decided and not {Status.QUEUED, Status.SENDING} & set(statuses)

    await until(at_rest)


async def assert_each_was_answered_once(shop: Shop, *processes: Process) -> None:
    await assert_all_is_well(shop.dsn)
    sent = Counter(chat for each in processes for chat in each.sent)
    assert [chat for chat, times in sent.items() if times > 1] == []
    statuses = await outbox_by_status(shop.dsn)
    assert sum(statuses.values()) == CHATS
    # Of these the platform may have one more than it has said: it was killed before it could write down which.
    assert len(sent) + statuses.get(Status.UNKNOWN, 0) >= CHATS


async def test_one_that_is_killed_is_replaced_by_the_one_that_stands_by(shop: Shop) -> None:
    async with process(shop) as first:
        await eventually(lambda: first.is_connected)
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
            await eventually(lambda: second.is_connected)
            await platform.forget_recorded()
            platform.deliver(second)
            await until(lambda: are_recorded(shop))
            await all_is_answered(shop)
            assert first.sent
            assert second.sent
            await assert_each_was_answered_once(shop, first, second)
            assert (await second.readiness())["ready"] is True


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
        await eventually(lambda: other.is_connected)
        serving.program.signal(signal.SIGCONT)
        await serving.program.logged("account_taken_over")
        await eventually(lambda: not serving.is_connected)
        # What it had read by then it has recorded, for the other to answer.
        await platform.forget_recorded()
        platform.deliver(other)
        await until(lambda: are_recorded(shop))
        await all_is_answered(shop)
        await assert_each_was_answered_once(shop, serving, other)
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


async def are_recorded(shop: Shop) -> bool:
    return len(await recorded_ids(shop.dsn)) == CHATS
