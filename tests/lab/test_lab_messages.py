"""Every kind of message that people send, as the real neonize reads it; and what the bot sends, on their phones."""

import datetime as dt
import hashlib
from typing import Any

import pytest
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message
from neonize.utils.jid import build_jid

from bot.lab import messages
from bot.lab.errors import LabError
from bot.lab.messages import Card
from bot.lab.people import Customer, Owner
from tests.lab.bot_client import BotClient

pytestmark = pytest.mark.lab

DAY = dt.timedelta(days=1)


async def showing(client: BotClient, field: str) -> Any:
    return await client.messages.expect(lambda event: event.Message.HasField(field), what=field)


async def test_a_place_on_the_map(client: BotClient, customer: Customer) -> None:
    await customer.sends_location(-23.5614, -46.6559, name="MASP", address="Av. Paulista, 1578")
    event = await showing(client, "locationMessage")
    place = event.Message.locationMessage
    assert (place.name, place.address) == ("MASP", "Av. Paulista, 1578")
    assert place.degreesLatitude == -23.5614
    assert event.Info.Type == "media"
    await customer.shares_live_location(-23.5, -46.6, caption="chegando")
    assert (await showing(client, "liveLocationMessage")).Message.liveLocationMessage.caption == "chegando"


async def test_one_contact_and_several(client: BotClient, customer: Customer) -> None:
    bia, caio = Card(name="Bia", number="+5511888880002"), Card(name="Caio", number="+5511888880003")
    await customer.sends_contact(bia)
    contact = (await showing(client, "contactMessage")).Message.contactMessage
    assert contact.displayName == "Bia"
    assert "waid=5511888880002:+5511888880002" in contact.vcard
    await customer.sends_contact(bia, caio)
    several = (await showing(client, "contactsArrayMessage")).Message.contactsArrayMessage
    assert [card.displayName for card in several.contacts] == ["Bia", "Caio"]
    with pytest.raises(LabError, match="no contact"):
        await customer.sends_contact()


@pytest.mark.parametrize(("selectable", "field"), [(1, "pollCreationMessageV3"), (2, "pollCreationMessage")])
async def test_a_vote_in_ones_own_poll_opens_with_the_polls_secret(
    client: BotClient, customer: Customer, selectable: int, field: str
) -> None:
    poll = await customer.sends_poll("Qual bolo?", "cenoura", "fubá", selectable=selectable)
    event = await showing(client, field)
    assert event.Info.Type == "poll"
    assert [option.optionName for option in getattr(event.Message, field).options] == ["cenoura", "fubá"]
    await customer.votes(poll, "fubá")
    vote = await client.api.decrypt_poll_vote(await showing(client, "pollUpdateMessage"))
    assert list(vote.selectedOptions) == [hashlib.sha256("fubá".encode()).digest()]


async def test_a_customers_vote_in_the_owners_poll(
    client: BotClient, owner: Owner, customer: Customer
) -> None:
    await owner.sends_poll("Qual dia?", "sábado", "domingo", to=customer)
    await showing(client, "pollCreationMessageV3")
    poll = await customer.hears(lambda heard: heard.kind == "poll")
    await customer.votes(poll, "domingo")
    vote = await client.api.decrypt_poll_vote(await showing(client, "pollUpdateMessage"))
    assert list(vote.selectedOptions) == [hashlib.sha256(b"domingo").digest()]


async def test_the_owners_vote_in_a_customers_poll(
    client: BotClient, owner: Owner, customer: Customer
) -> None:
    await customer.sends_poll("Qual dia?", "sábado", "domingo")
    await showing(client, "pollCreationMessageV3")
    await owner.votes(await owner.hears(chat=customer), "sábado", to=customer)
    event = await showing(client, "pollUpdateMessage")
    assert event.Info.MessageSource.IsFromMe
    vote = await client.api.decrypt_poll_vote(event)
    assert list(vote.selectedOptions) == [hashlib.sha256("sábado".encode()).digest()]


async def test_a_voice_note_is_audio_that_says_so(client: BotClient, customer: Customer) -> None:
    await customer.sends_voice(b"OggS" * 100, seconds=7)
    event = await showing(client, "audioMessage")
    audio = event.Message.audioMessage
    assert (audio.PTT, audio.seconds, len(audio.waveform)) == (True, 7, 64)
    assert await client.api.download_any(event.Message) == b"OggS" * 100


async def test_a_document_with_a_caption_comes_in_its_envelope(client: BotClient, customer: Customer) -> None:
    await customer.sends_media("document", b"%PDF-1.4", caption="o pedido", filename="pedido.pdf")
    event = await showing(client, "documentMessage")
    assert event.IsDocumentWithCaption
    assert event.Message.documentMessage.caption == "o pedido"


@pytest.mark.parametrize("envelope", ["viewOnceMessage", "viewOnceMessageV2", "viewOnceMessageV2Extension"])
async def test_what_is_to_be_seen_once(client: BotClient, customer: Customer, envelope: str) -> None:
    picture = messages.media("image", customer.uploads("image", b"png"), caption="só uma vez")
    await customer.sends(messages.view_once(picture, envelope=envelope))
    event = await client.message("só uma vez")
    assert event.IsViewOnce
    assert event.Message.imageMessage.viewOnce


async def test_what_disappears(client: BotClient, customer: Customer) -> None:
    await customer.sets_timer(DAY)
    setting = (await showing(client, "protocolMessage")).Message.protocolMessage
    assert setting.ephemeralExpiration == DAY.total_seconds()
    await customer.says("some amanhã", disappears_after=DAY)
    event = await client.message("some amanhã")
    assert event.IsEphemeral
    assert event.Message.extendedTextMessage.contextInfo.expiration == DAY.total_seconds()


async def test_every_kind_can_quote(client: BotClient, owner: Owner, customer: Customer) -> None:
    await owner.says("onde?", to=customer)
    await customer.sends_location(-23.5, -46.6, quoted=await customer.hears("onde?"))
    context = (await showing(client, "locationMessage")).Message.locationMessage.contextInfo
    assert context.participant == owner.lid
    assert context.quotedMessage.conversation == "onde?"


async def test_taps_on_buttons_and_lists(client: BotClient, customer: Customer) -> None:
    await customer.sends(messages.button_reply("Sim", "yes"))
    assert (await showing(client, "buttonsResponseMessage")).Message.buttonsResponseMessage.selectedButtonID
    await customer.sends(messages.list_reply("Bolo de fubá", "cake-2"))
    assert (await showing(client, "listResponseMessage")).Message.listResponseMessage.title == "Bolo de fubá"


async def test_a_phone_shows_what_the_bot_sends(client: BotClient, customer: Customer) -> None:
    chat = build_jid(customer.account.lid.user, "lid")
    for message in (
        messages.location(-23.5, -46.6, name="aqui"),
        messages.contacts([Card(name="Bia", number="+5511888880002")]),
        messages.poll("Qual?", ["a", "b"]),
        messages.disappearing(messages.text("até logo"), DAY),
        messages.view_once(messages.media("image", customer.uploads("image", b"png"))),
    ):
        await client.api.send_message(chat, Message.FromString(message.SerializeToString()))
    heard = [await customer.hears() for _ in range(5)]
    assert [each.kind for each in heard] == ["location", "contact", "poll", "text", "image"]
    assert [each.disappears_after for each in heard] == [None, None, None, DAY, None]
    assert [each.view_once for each in heard] == [False, False, False, False, True]
    assert heard[4].media() == b"png"
