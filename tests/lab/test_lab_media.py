"""Files, both ways."""

import io

import pytest
from neonize.utils.jid import build_jid
from PIL import Image

from bot.lab.lab import Lab
from bot.lab.people import Customer
from tests.lab.bot_client import BotClient

pytestmark = pytest.mark.lab


def a_picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "blue").save(file, "PNG")
    return file.getvalue()


async def test_the_bot_opens_a_customers_picture(client: BotClient, customer: Customer) -> None:
    picture = a_picture()
    await customer.sends_image(picture, caption="serve este?")
    event = await client.message("serve este?")
    assert event.Info.Type == "media"
    assert await client.api.download_any(event.Message) == picture


@pytest.mark.parametrize("kind", ["audio", "video", "document", "sticker"])
async def test_the_bot_opens_every_kind_of_file(client: BotClient, customer: Customer, kind: str) -> None:
    data = kind.encode() * 1000
    await customer.sends_media(kind, data)  # type: ignore[arg-type]  # a parameter is a plain str
    event = await client.messages.expect(lambda event: event.Message.HasField(f"{kind}Message"))
    assert await client.api.download_any(event.Message) == data


async def test_a_customer_opens_the_bots_picture(lab: Lab, client: BotClient, customer: Customer) -> None:
    picture = a_picture()
    chat = build_jid(customer.account.lid.user, "lid")
    await client.api.send_image(chat, picture, caption="o cardápio")
    heard = await customer.hears("o cardápio")
    assert heard.kind == "image"
    assert heard.media() == picture
    assert lab.refused == []
