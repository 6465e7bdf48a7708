"""A lab here, a bot in another process: it can be killed and comes back."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from bot.lab.timeline import PATIENCE

pytestmark = pytest.mark.lab

Start = Callable[[], Awaitable[Process]]


@pytest.fixture
async def start(lab: Lab, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts a bot, always on the same store."""
    started: list[Process] = []

    async def start() -> Process:
        command = (sys.executable, "-m", "tests.lab.echo", str(tmp_path / "bot.db"))
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, env=lab.child_environment())
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def qr_code(process: Process) -> str:
    """neonize prints, too."""
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        while not (line := (await process.stdout.readline()).decode()).startswith("https://wa.me/"):
            assert line, "the bot has ended"
    return line.strip()


async def test_a_killed_bot_answers_later_what_came_meanwhile(
    start: Start, owner: Owner, customer: Customer
) -> None:
    first = await start()
    await owner.scan(await qr_code(first))
    await customer.says("oi")
    await customer.hears("eco: oi")
    first.kill()
    await first.wait()
    await customer.says("ainda aí?")
    await start()
    await customer.hears("eco: ainda aí?")


async def test_without_a_lab_the_host_refuses(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bot.lab.host", "--", "run", stderr=PIPE, env={}
    )
    _, error = await process.communicate()
    assert process.returncode == 1
    assert error.decode() == "no lab to trust: the environment has to come from Lab.child_environment()\n"
