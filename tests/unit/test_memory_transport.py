"""The platform in memory hands out files as the real one does."""

import asyncio

import pytest

from bot.transports.base import MediaExpired, MediaTooLarge, Medium, NotConnected
from bot.transports.memory import MemoryTransport

PHOTO = Medium(data=b"png", mimetype="image/png")


async def test_files_are_had_while_connected_and_within_the_size() -> None:
    transport = MemoryTransport()
    transport.files["raw"] = PHOTO
    with pytest.raises(NotConnected):
        await transport.download("raw", most_bytes=3)
    connected = asyncio.Event()
    running = asyncio.create_task(transport.run(lambda event: connected.set()))
    await connected.wait()
    assert await transport.download("raw", most_bytes=3) == PHOTO
    with pytest.raises(MediaTooLarge, match="3 bytes"):
        await transport.download("raw", most_bytes=2)
    with pytest.raises(MediaExpired):
        await transport.download("another", most_bytes=3)
    running.cancel()
    await asyncio.wait([running])
