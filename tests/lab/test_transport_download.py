"""The files of received messages, fetched by the real neonize out of what was kept of the event."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from bot.lab.lab import Lab
from bot.lab.media import MediaKind
from bot.lab.people import Customer, Owner
from bot.lab.timeline import PATIENCE
from bot.transports.base import (
    ConnectionState,
    MediaDamaged,
    MediaExpired,
    MediaTooLarge,
    Medium,
    NotConnected,
)
from storage.models import InboundMessage, Jid
from tests.lab.transport_bot import TransportBot, make_session_schema

pytestmark = pytest.mark.lab

MEGABYTE = 1 << 20


@pytest.fixture
async def bot(empty_dsn: str, lab: Lab, owner: Owner) -> AsyncIterator[TransportBot]:
    """Paired and connected."""
    await make_session_schema(empty_dsn)
    bot = TransportBot(empty_dsn, lab)
    await bot.pair(owner)
    yield bot
    await bot.stop()


async def kept(bot: TransportBot) -> str:
    """What is recorded of the next message."""
    message: InboundMessage = await bot.messages.expect()
    assert message.raw is not None
    return message.raw


def pictures(lab: Lab) -> list[str]:
    """Which of them were asked for."""
    return [path for path in lab.files.downloads if path.startswith("/v/image/")]


async def fetched(bot: TransportBot, raw: str, most_bytes: int = MEGABYTE) -> Medium:
    return await bot.transport.download(raw, most_bytes=most_bytes)


@pytest.mark.parametrize("kind", ["image", "video", "audio", "document", "sticker"])
async def test_every_kind_of_file_is_fetched(bot: TransportBot, customer: Customer, kind: MediaKind) -> None:
    data = kind.encode() * 1000
    await customer.sends_media(kind, data, caption="olha", mimetype="a/b", filename="preços.pdf")
    medium = await fetched(bot, await kept(bot))
    name = "preços.pdf" if kind == "document" else None
    assert medium == Medium(data=data, mimetype="a/b", name=name)


async def test_a_voice_note_to_be_heard_once_is_fetched_too(bot: TransportBot, customer: Customer) -> None:
    await customer.sends_voice(b"OggS" * 1000, view_once=True)
    assert (await fetched(bot, await kept(bot))).data == b"OggS" * 1000


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_what_whatsapp_keeps_no_longer_has_expired(
    lab: Lab, bot: TransportBot, customer: Customer, status: int
) -> None:
    await customer.sends_image(b"png")
    raw = await kept(bot)
    with lab.files.failing_downloads(status), pytest.raises(MediaExpired):
        await fetched(bot, raw)
    assert len(pictures(lab)) == 1, "what is gone is not asked for again"


async def test_a_file_that_is_not_what_was_sent_is_damaged(
    lab: Lab, bot: TransportBot, customer: Customer
) -> None:
    await customer.sends_image(b"png")
    raw = await kept(bot)
    with lab.files.damaging_downloads(), pytest.raises(MediaDamaged, match=r"hash|hmac"):
        await fetched(bot, raw)
    assert (await fetched(bot, raw)).data == b"png"


async def test_the_wrong_key_and_the_wrong_file_are_damage(bot: TransportBot, customer: Customer) -> None:
    await customer.sends_image(b"png")
    event = json.loads(await kept(bot))
    for field in ("mediaKey", "fileSHA256"):
        spoilt = json.loads(json.dumps(event))
        spoilt["Message"]["imageMessage"][field] = "A" * 43 + "="
        with pytest.raises(MediaDamaged):
            await fetched(bot, json.dumps(spoilt))


async def test_what_is_too_large_is_not_even_asked_for(
    lab: Lab, bot: TransportBot, customer: Customer
) -> None:
    await customer.sends_image(bytes(2000))
    raw = await kept(bot)
    with pytest.raises(MediaTooLarge, match="2000 bytes"):
        await fetched(bot, raw, 1999)
    assert pictures(lab) == []
    assert len((await fetched(bot, raw, 2000)).data) == 2000


async def test_a_sender_cannot_lie_about_the_size(bot: TransportBot, customer: Customer) -> None:
    await customer.sends_media("document", bytes(2000), fields={"fileLength": 10})
    with pytest.raises(MediaTooLarge, match="2000 bytes"):
        await fetched(bot, await kept(bot), 1999)


async def test_a_slow_file_holds_up_nothing(lab: Lab, bot: TransportBot, customer: Customer) -> None:
    await customer.sends_image(b"png" * 1000)
    raw = await kept(bot)
    with lab.files.holding_downloads():
        downloads = [asyncio.create_task(fetched(bot, raw)) for _ in range(5)]
        await asyncio.wait_for(lab.files.asked.wait(), PATIENCE)
        await customer.says("e aí?")
        await bot.message("e aí?")
        await bot.says(customer.lid, "já vejo")
        await customer.hears("já vejo")
        await bot.transport.set_typing(Jid(customer.lid), True)
        await customer.sees_typing()
        assert not any(download.done() for download in downloads)
    assert [(await download).data for download in downloads] == [b"png" * 1000] * 5


async def test_nothing_is_fetched_without_a_connection(bot: TransportBot, customer: Customer) -> None:
    await customer.sends_image(b"png")
    raw = await kept(bot)
    await bot.transport.suspend()
    with pytest.raises(NotConnected):
        await fetched(bot, raw)
    await bot.transport.resume()
    await bot.reaches(ConnectionState.CONNECTED)
    assert (await fetched(bot, raw)).data == b"png"
