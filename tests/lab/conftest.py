"""The lab for its tests: one WhatsApp a test; neonize is loaded here, before any test module can do it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from bot.lab import prepare

# At import: a test module that imports neonize is collected after this one, and must find it prepared.
prepare()

from bot.lab.lab import Lab  # noqa: E402 - only after prepare()
from bot.lab.people import Customer, Owner  # noqa: E402
from tests.lab.bot_client import BotClient  # noqa: E402
from tests.lab.lab_bot import LabBot  # noqa: E402

Link = Callable[[Owner], Awaitable[BotClient]]


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with Lab() as lab:
        yield lab


@pytest.fixture
def owner(lab: Lab) -> Owner:
    return lab.owner("+5511999990000", name="Dona")


@pytest.fixture
def customer(lab: Lab) -> Customer:
    return lab.customer("+5511888880001", name="Ana")


@pytest.fixture
async def link(lab: Lab, tmp_path: Path) -> AsyncIterator[Link]:
    """Pairs a new client with an owner's phone."""
    clients: list[BotClient] = []

    async def link(owner: Owner) -> BotClient:
        client = BotClient(tmp_path / f"{len(clients)}.db", lab.proxy_url)
        clients.append(client)
        await client.connect()
        await owner.scan(await client.qr_codes.expect(what="a QR code"))
        await client.connected()
        return client

    yield link
    for client in clients:
        await client.stop()


@pytest.fixture
async def client(link: Link, owner: Owner) -> BotClient:
    """A client that is linked to the owner's number and connected."""
    return await link(owner)


@pytest.fixture
async def lab_bot(dsn: str, lab: Lab, owner: Owner) -> AsyncIterator[LabBot]:
    """The whole daemon in this process, linked to the owner's number and connected."""
    bot = LabBot(dsn, lab)
    await bot.start()
    await bot.pair(owner)
    yield bot
    await bot.stop()
