"""Media by URL: fetched from a real web server, uploaded, and decrypted again on the customer's phone."""

import asyncio
import datetime as dt
import io
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from PIL import Image

from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from bot.transports.base import Content, NotConnected, SendRefused, TransportError
from storage.models import Jid, MessageType
from tests.lab.transport_bot import TransportBot, make_session_schema

pytestmark = pytest.mark.lab


def png() -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    header = bytes([0, 0, 0, 1, 0, 0, 0, 1, 8, 2, 0, 0, 0])
    pixels = zlib.compress(b"\x00\xff\x00\x00")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


PDF = b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF\n"


def ogg(seconds: int) -> bytes:
    """As much of a recording as tells what it is and how long it lasts."""
    first = (
        b"OggS\x00\x02" + bytes(20) + b"\x01\x13OpusHead\x01\x01" + (312).to_bytes(2, "little") + bytes(38)
    )
    return first + b"OggS\x00\x04" + (seconds * 48_000 + 312).to_bytes(8, "little") + bytes(30)


def webp() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (512, 512), "green").save(file, "WEBP")
    return file.getvalue()


OGG = ogg(3)
MP4 = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom" + bytes(1000)


@asynccontextmanager
async def serving(
    body: bytes, *, status: str = "200 OK", content_type: str = "text/plain"
) -> AsyncIterator[str]:
    """A web server that answers everything like this; yields its address."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.fixture
async def bot(empty_dsn: str, lab: Lab, owner: Owner) -> AsyncIterator[TransportBot]:
    """Paired and connected."""
    await make_session_schema(empty_dsn)
    bot = TransportBot(empty_dsn, lab)
    await bot.pair(owner)
    yield bot
    await bot.stop()


@pytest.mark.smoke
async def test_an_image_reaches_the_customer_with_its_caption(bot: TransportBot, customer: Customer) -> None:
    async with serving(png()) as server:
        content = Content(text="olha", media_url=f"{server}/foto.png", media_type=MessageType.IMAGE)
        sent = await bot.sends(customer.lid, content)
    heard = await customer.hears("olha")
    assert heard.id == sent.external_id
    assert heard.kind == "image"
    assert heard.media() == png()
    assert heard.proto.imageMessage.mimetype == "image/png"


async def test_a_video_reaches_the_customer_with_its_caption(bot: TransportBot, customer: Customer) -> None:
    async with serving(MP4, content_type="video/mp4") as server:
        await bot.sends(customer.lid, Content(text="veja", media_url=f"{server}/forno.mp4"))
    heard = await customer.hears("veja")
    assert heard.kind == "video"
    assert heard.media() == MP4
    assert heard.proto.videoMessage.mimetype == "video/mp4"


async def test_a_file_goes_out_as_a_document_with_its_name(bot: TransportBot, customer: Customer) -> None:
    async with serving(PDF) as server:
        await bot.sends(customer.lid, Content(text="a tabela", media_url=f"{server}/pre%C3%A7os.pdf?v=2"))
    heard = await customer.hears("a tabela")
    assert heard.kind == "document"
    assert heard.media() == PDF
    assert heard.proto.documentMessage.fileName == "preços.pdf"


async def test_sound_goes_out_as_audio_and_with_a_text_as_a_document(
    bot: TransportBot, customer: Customer
) -> None:
    async with serving(OGG) as server:
        await bot.sends(customer.lid, Content(media_url=f"{server}/voz.ogg"))
        await bot.sends(customer.lid, Content(text="ouça", media_url=f"{server}/voz.ogg"))
    assert (await customer.hears("")).kind == "audio"
    assert (await customer.hears("ouça")).kind == "document"


async def test_what_was_asked_to_be_a_document_is_one(bot: TransportBot, customer: Customer) -> None:
    async with serving(png()) as server:
        content = Content(text="o", media_url=f"{server}/foto.png", media_type=MessageType.DOCUMENT)
        await bot.sends(customer.lid, content)
    assert (await customer.hears("o")).kind == "document"


async def test_a_voice_note_plays_in_the_chat(bot: TransportBot, customer: Customer) -> None:
    async with serving(ogg(7)) as server:
        await bot.sends(customer.lid, Content(media_url=f"{server}/voz.ogg", voice=True))
    heard = await customer.hears()
    assert heard.kind == "voice"
    audio = heard.proto.audioMessage
    assert (audio.seconds, audio.mimetype) == (7, "audio/ogg; codecs=opus")
    assert heard.media() == ogg(7)


async def test_what_is_no_recording_is_shown_as_what_it_is(bot: TransportBot, customer: Customer) -> None:
    async with serving(png()) as server:
        await bot.sends(customer.lid, Content(text="i", media_url=f"{server}/x", voice=True))
        sticker = MessageType.STICKER
        await bot.sends(customer.lid, Content(text="s", media_url=f"{server}/x", media_type=sticker))
    assert (await customer.hears("i")).kind == "image"
    assert (await customer.hears("s")).kind == "image"


async def test_a_sticker_is_one_unless_there_is_a_text_to_read(bot: TransportBot, customer: Customer) -> None:
    async with serving(webp()) as server:
        for text in ("", "leia"):
            content = Content(text=text, media_url=f"{server}/s.webp", media_type=MessageType.STICKER)
            await bot.sends(customer.lid, content)
    heard = await customer.hears("")
    assert (heard.kind, heard.media()) == ("sticker", webp())
    assert not heard.proto.stickerMessage.isAnimated
    assert (await customer.hears("leia")).kind == "image"


async def test_a_document_without_an_ending_gets_one(bot: TransportBot, customer: Customer) -> None:
    async with serving(PDF) as server:
        await bot.sends(customer.lid, Content(text="a", media_url=f"{server}/download?id=7"))
        await bot.sends(customer.lid, Content(text="b", media_url=f"{server}/{'x' * 500}.pdf"))
    assert (await customer.hears("a")).proto.documentMessage.fileName == "download.pdf"
    assert (await customer.hears("b")).proto.documentMessage.fileName == "x" * 100 + ".pdf"


async def test_media_disappear_with_their_chat(bot: TransportBot, customer: Customer) -> None:
    await customer.sets_timer(dt.timedelta(days=1))
    await bot.messages.expect()
    async with serving(png()) as server:
        await bot.sends(customer.lid, Content(text="olha", media_url=f"{server}/foto.png"))
    assert (await customer.hears("olha")).disappears_after == dt.timedelta(days=1)


@pytest.mark.parametrize(("status", "error"), [(413, SendRefused), (503, NotConnected)])
async def test_an_upload_that_whatsapp_does_not_take_sends_nothing(
    lab: Lab, bot: TransportBot, customer: Customer, status: int, error: type[TransportError]
) -> None:
    async with serving(png()) as server:
        content = Content(text="olha", media_url=f"{server}/foto.png")
        with lab.files.failing_uploads(status), pytest.raises(error):
            await bot.sends(customer.lid, content)
        await bot.sends(customer.lid, content)
    await customer.hears("olha")
    assert len([heard for heard in customer.heard if heard.kind == "image"]) == 1


async def test_an_upload_that_breaks_off_may_be_tried_again(
    lab: Lab, bot: TransportBot, customer: Customer
) -> None:
    async with serving(png()) as server:
        content = Content(text="olha", media_url=f"{server}/foto.png")
        with lab.files.dropping_uploads(), pytest.raises(NotConnected):
            await bot.sends(customer.lid, content)
        await bot.sends(customer.lid, content)
    await customer.hears("olha")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/x", "http://", "foto.png"])
async def test_only_web_addresses_are_fetched(bot: TransportBot, url: str) -> None:
    with pytest.raises(SendRefused, match="http"):
        await bot.transport.prepare(Content(media_url=url))


async def test_what_cannot_be_fetched_is_refused_with_a_reason(bot: TransportBot) -> None:
    async with serving(b"gone", status="404 Not Found") as server:
        with pytest.raises(SendRefused, match="404"):
            await bot.transport.prepare(Content(media_url=f"{server}/foto.png"))
    with pytest.raises(SendRefused, match="ConnectError"):
        await bot.transport.prepare(Content(media_url=f"{server}/foto.png"))
    async with serving(b"") as server:
        with pytest.raises(SendRefused, match="empty"):
            await bot.transport.prepare(Content(media_url=f"{server}/foto.png"))


async def test_what_is_too_large_is_refused(bot: TransportBot) -> None:
    async with serving(bytes(64 * 1024 * 1024 + 1)) as server:
        with pytest.raises(SendRefused, match="larger"):
            await bot.transport.prepare(Content(media_url=f"{server}/film.mp4"))


async def test_media_is_not_prepared_without_a_connection(bot: TransportBot) -> None:
    content = Content(media_url="http://127.0.0.1:1/foto.png")
    with pytest.raises(TypeError):
        await bot.transport.send(Jid("1@lid"), content)
    await bot.transport.suspend()
    with pytest.raises(NotConnected):
        await bot.transport.prepare(content)
