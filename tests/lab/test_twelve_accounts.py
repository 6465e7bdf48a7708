"""Twelve accounts in one process: each has its own number, and none stands in another's way."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from bot.lab.timeline import PATIENCE
from bot.transports.base import ConnectionState, NotConnected
from storage.models import Jid
from tests.lab.transport_bot import TransportBot, make_session_schema

pytestmark = pytest.mark.lab

ACCOUNTS = 12
# A client of neonize on its own (measured: 1 to 2 MB) with room for what it does meanwhile.
MOST_MB_PER_CLIENT = 8


@pytest.fixture
def owners(lab: Lab) -> list[Owner]:
    return [lab.owner(f"+55119999900{n:02}", name=f"Dona {n}") for n in range(ACCOUNTS)]


@pytest.fixture
async def one_thread() -> AsyncIterator[None]:
    """The default executor of a machine with very few cores: who parks a thread there stops everybody."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(narrow := ThreadPoolExecutor(1))
    yield
    loop.set_default_executor(ThreadPoolExecutor())
    narrow.shutdown(wait=False)


@pytest.fixture
async def bots(
    one_thread: None, empty_dsn: str, lab: Lab, owners: list[Owner]
) -> AsyncIterator[list[TransportBot]]:
    """Linked at the same time, as after a move of the whole shop."""
    await make_session_schema(empty_dsn)
    bots = [TransportBot(empty_dsn, lab, account=f"shop-{n}") for n in range(ACCOUNTS)]
    await asyncio.gather(*(bot.pair(owner) for bot, owner in zip(bots, owners, strict=True)))
    yield bots
    await asyncio.gather(*(bot.stop() for bot in bots))


async def everyone_is_answered(bots: list[TransportBot], owners: list[Owner], customer: Customer) -> None:
    async def ask(bot: TransportBot, owner: Owner) -> None:
        question = await customer.says(f"oi, {owner.name}", to=owner)
        message = await bot.message(f"oi, {owner.name}")
        assert message.external_id == question
        await says_when_it_can(bot, message.chat.jid, f"olá, {owner.name}")
        heard = await customer.hears(f"olá, {owner.name}")
        assert heard.sender == owner.number

    await asyncio.gather(*(ask(bot, owner) for bot, owner in zip(bots, owners, strict=True)))


async def says_when_it_can(bot: TransportBot, to: str, text: str) -> None:
    """As the outbox does: a send that meets another number's start has not begun, and is tried again."""
    while True:
        try:
            await bot.says(to, text)
        except NotConnected:
            assert bot.transport.connection.can_send
        else:
            return


@pytest.mark.smoke
async def test_twelve_numbers_live_in_one_process(
    bots: list[TransportBot], owners: list[Owner], lab: Lab, customer: Customer
) -> None:
    await everyone_is_answered(bots, owners, customer)
    assert lab.unanswered == []
    assert lab.refused == []
    async with asyncio.timeout(PATIENCE):
        assert await asyncio.to_thread(lambda: "the one thread is free")


async def test_twelve_numbers_come_back_at_once(
    bots: list[TransportBot], owners: list[Owner], empty_dsn: str, lab: Lab, customer: Customer
) -> None:
    before = resident_mb()
    await asyncio.gather(*(bot.stop() for bot in bots))
    bots[:] = [
        TransportBot(empty_dsn, lab, jid=Jid(owner.phone_jid), account=f"again-{n}")
        for n, owner in enumerate(owners)
    ]
    for bot in bots:
        bot.start()
    await asyncio.gather(*(bot.reaches(ConnectionState.CONNECTED) for bot in bots))
    await everyone_is_answered(bots, owners, customer)
    assert (resident_mb() - before) / ACCOUNTS < MOST_MB_PER_CLIENT
    # One for its life, one for its sends, up to four for its other calls, one that reads its sessions.
    mine = [name for name in thread_names() if name.startswith("whatsapp-again-")]
    assert len(mine) <= 7 * ACCOUNTS, sorted(mine)


async def test_a_number_that_starts_or_stops_leaves_the_others_in_peace(
    bots: list[TransportBot], owners: list[Owner], empty_dsn: str, lab: Lab, customer: Customer
) -> None:
    last, others = owners[-1], bots[:-1]

    async def come_and_go() -> None:
        for _ in range(5):
            await bots[-1].stop()
            bots[-1] = TransportBot(empty_dsn, lab, jid=Jid(last.phone_jid), account="shop-last")
            bots[-1].start()
            await bots[-1].reaches(ConnectionState.CONNECTED)

    coming_and_going = asyncio.create_task(come_and_go())
    while not coming_and_going.done():
        await everyone_is_answered(others, owners[:-1], customer)
    await coming_and_going
    await everyone_is_answered(bots, owners, customer)


def thread_names() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20
