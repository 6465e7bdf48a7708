"""Every kind of message, from a phone through the real neonize to our nouns; and what is no message at all."""

import datetime as dt
import json
from collections.abc import AsyncIterator

import pytest

from bot.lab import messages, protobuf
from bot.lab.directory import Addressing
from bot.lab.lab import Lab
from bot.lab.messages import Card
from bot.lab.nodes import Jid, Node, Value
from bot.lab.origin import seconds
from bot.lab.people import Customer, Owner
from storage.models import Action, InboundMessage, MessageType
from tests.lab.lab_bot import LabBot
from tests.lab.transport_bot import TransportBot, make_session_schema

pytestmark = pytest.mark.lab

DAY = dt.timedelta(days=1)
DAY_SECONDS = 86_400


@pytest.fixture
async def bot(empty_dsn: str, lab: Lab, owner: Owner) -> AsyncIterator[TransportBot]:
    """Paired and connected."""
    await make_session_schema(empty_dsn)
    bot = TransportBot(empty_dsn, lab)
    await bot.pair(owner)
    yield bot
    await bot.stop()


async def arrived(bot: TransportBot, kind: MessageType) -> InboundMessage:
    return await bot.messages.expect(lambda message: message.type is kind, what=kind)


def content(message: InboundMessage, field: str) -> dict[str, object]:
    """One kind's part of what was kept of the event."""
    part: dict[str, object] = json.loads(message.raw or "{}")["Message"][field]
    return part


async def test_places_and_contacts_have_words(bot: TransportBot, customer: Customer) -> None:
    await customer.sends_location(-23.5614, -46.6559, name="MASP", address="Av. Paulista, 1578")
    place = await arrived(bot, MessageType.LOCATION)
    assert place.text == "MASP\nAv. Paulista, 1578"
    assert content(place, "locationMessage")["degreesLatitude"] == -23.5614
    await customer.shares_live_location(-23.5, -46.6)
    assert (await arrived(bot, MessageType.LOCATION)).text == "-23.500000, -46.600000"
    await customer.sends_contact(Card(name="Bia", number="+5511888880002"))
    contact = await arrived(bot, MessageType.CONTACT)
    assert contact.text == "Bia"
    assert "waid=5511888880002" in str(content(contact, "contactMessage")["vcard"])


async def test_a_poll_and_the_votes_in_it(bot: TransportBot, owner: Owner, customer: Customer) -> None:
    poll = await customer.sends_poll("Qual bolo?", "cenoura", "fubá", selectable=2)
    assert (await arrived(bot, MessageType.POLL)).text == "Qual bolo?\n- cenoura\n- fubá"
    await customer.votes(poll, "fubá", "cenoura")
    vote = await arrived(bot, MessageType.POLL)
    assert (vote.text, vote.reply_to) == ("fubá, cenoura", poll)
    await customer.votes(poll)
    assert (await arrived(bot, MessageType.POLL)).metadata == {"voted": []}
    await owner.votes(
        await owner.hears(lambda heard: heard.kind == "poll", chat=customer), "fubá", to=customer
    )
    owners = await arrived(bot, MessageType.POLL)
    assert (owners.text, owners.from_me) == ("fubá", True)


async def test_the_owners_vote_leaves_the_bot_in_the_chat_and_a_poll_of_the_owners_takes_it_over(
    lab_bot: LabBot, owner: Owner, customer: Customer
) -> None:
    await customer.sends_poll("Which cake?", "carrot", "corn")
    asked = await owner.hears(lambda heard: heard.kind == "poll", chat=customer)
    vote = await owner.votes(asked, "corn", to=customer)
    assert (await lab_bot.decided(vote)).action is Action.HUMAN_SPOKE
    await customer.says("price?")
    await customer.hears("From 10 to 50.")
    poll = await owner.sends_poll("Which day?", "Saturday", "Sunday", to=customer)
    assert (await lab_bot.decided(poll)).action is Action.PAUSED


async def test_what_the_owner_says_in_a_way_that_we_cannot_read_takes_the_chat_over(
    lab_bot: LabBot, owner: Owner, customer: Customer
) -> None:
    await lab_bot.decided(await owner.sends(protobuf.Message(), to=customer))
    await lab_bot.decided(await customer.says("price?"))
    await customer.hears("From 10 to 50.")
    order = protobuf.Message()
    order.orderMessage.message = "your order"
    assert (await lab_bot.decided(await owner.sends(order, to=customer))).action is Action.PAUSED
    assert (await lab_bot.decided(await customer.says("price?"))).action is Action.IGNORED_PAUSED


async def test_a_customers_vote_in_the_owners_poll(
    bot: TransportBot, owner: Owner, customer: Customer
) -> None:
    poll = await owner.sends_poll("Qual dia?", "sábado", "domingo", to=customer)
    assert (await arrived(bot, MessageType.POLL)).from_me
    await customer.votes(await customer.hears(), "domingo")
    vote = await arrived(bot, MessageType.POLL)
    assert (vote.text, vote.reply_to, vote.from_me) == ("domingo", poll, False)


async def test_a_vote_that_cannot_be_read_is_a_vote_all_the_same(
    bot: TransportBot, customer: Customer
) -> None:
    poll = await customer.sends_poll("Qual?", "a", "b")
    await arrived(bot, MessageType.POLL)
    message = customer.phone.sent(poll)
    key = protobuf.MessageKey(remoteJID=customer.lid, fromMe=True, ID=poll)
    vote = messages.vote(["a"], key=key, secret=bytes(32), creator=customer.lid, voter=customer.lid)
    assert message.messageContextInfo.messageSecret != bytes(32)
    await customer.sends(vote)
    unread = await arrived(bot, MessageType.POLL)
    assert (unread.text, unread.reply_to, unread.metadata) == (None, poll, {"voted": None})
    # Go aborts the process over such an IV: what comes after it shows that it lives.
    vote.pollUpdateMessage.vote.encIV = bytes(11)
    await customer.sends(vote)
    assert (await arrived(bot, MessageType.POLL)).text is None
    await customer.says("ainda aí?")
    await bot.message("ainda aí?")


async def test_voice_and_files_are_told_apart(bot: TransportBot, customer: Customer) -> None:
    await customer.sends_voice(b"OggS" * 100)
    assert (await arrived(bot, MessageType.AUDIO)).metadata == {"voice": True}
    await customer.sends_media("audio", b"ID3" * 100, mimetype="audio/mpeg")
    assert (await arrived(bot, MessageType.AUDIO)).metadata == {}
    await customer.sends_media("document", b"%PDF-1.4", caption="o pedido", filename="pedido.pdf")
    document = await arrived(bot, MessageType.DOCUMENT)
    assert document.text == "o pedido"
    assert content(document, "documentMessage")["fileName"] == "pedido.pdf"
    await customer.sends_media("video", b"mp4" * 100, caption="o bolo girando")
    assert (await arrived(bot, MessageType.VIDEO)).text == "o bolo girando"
    await customer.sends_media("sticker", b"RIFF" * 100)
    assert (await arrived(bot, MessageType.STICKER)).text is None


@pytest.mark.parametrize("envelope", ["viewOnceMessage", "viewOnceMessageV2"])
async def test_what_is_to_be_seen_once_is_marked(
    bot: TransportBot, customer: Customer, envelope: str
) -> None:
    picture = messages.media("image", customer.uploads("image", b"png"), caption="só uma vez")
    await customer.sends(messages.view_once(picture, envelope=envelope))
    seen = await bot.message("só uma vez")
    assert (seen.type, seen.metadata) == (MessageType.IMAGE, {"view_once": True})


async def test_what_whatsapp_keeps_from_linked_devices_is_recorded(
    bot: TransportBot, owner: Owner, customer: Customer
) -> None:
    attrs: dict[str, Value] = {
        "from": customer.account.lid,
        "id": "3AVIEWONCE",
        "t": "1700000000",
        "type": "media",
    }
    owner.linked[0].deliver(
        Node("message", {**attrs, "notify": "Ana"}, (Node("unavailable", {"type": "view_once"}),)),
        lasting=True,
    )
    hidden = await bot.unopened.expect()
    assert (hidden.external_id, hidden.metadata) == ("3AVIEWONCE", {"unavailable": True})
    assert hidden.chat.jid == customer.lid


async def test_what_the_owner_sends_to_be_seen_once_takes_the_chat_over(
    lab_bot: LabBot, owner: Owner, customer: Customer
) -> None:
    await customer.says("what is the price?")
    await customer.hears("From 10 to 50.")
    attrs: dict[str, Value] = {
        "from": owner.account.lid,
        "recipient": customer.account.lid,
        "id": "3AVIEWONCE",
        "t": seconds(),
        "type": "media",
    }
    owner.linked[0].deliver(
        Node("message", attrs, (Node("unavailable", {"type": "view_once"}),)),
        lasting=True,
    )
    assert (await lab_bot.decided("3AVIEWONCE")).action is Action.PAUSED
    late = await customer.says("and the price of that?")
    assert (await lab_bot.decided(late)).action is Action.IGNORED_PAUSED


async def test_answers_disappear_as_the_chat_wants(bot: TransportBot, customer: Customer) -> None:
    await customer.sets_timer(DAY)
    setting = await arrived(bot, MessageType.SYSTEM)
    assert setting.metadata == {"expires_in": DAY_SECONDS}
    await bot.says(customer.lid, "olá")
    assert (await customer.hears("olá")).disappears_after == DAY
    await customer.says("e amanhã?", disappears_after=DAY * 7)
    assert (await bot.message("e amanhã?")).metadata == {"expires_in": DAY_SECONDS * 7}
    await bot.says(customer.phone_jid, "também")
    assert (await customer.hears("também")).disappears_after == DAY * 7
    await customer.says("desliguei")
    await bot.message("desliguei")
    await bot.says(customer.lid, "certo")
    assert (await customer.hears("certo")).disappears_after is None


async def test_taps_on_buttons_and_lists_are_words(bot: TransportBot, customer: Customer) -> None:
    await customer.sends(messages.button_reply("Sim", "yes"))
    assert (await bot.message("Sim")).type is MessageType.TEXT
    await customer.sends(messages.list_reply("Bolo de fubá", "cake-2"))
    assert (await bot.message("Bolo de fubá")).type is MessageType.TEXT


@pytest.mark.parametrize("missed", [False, True])
async def test_a_call_is_noticed_and_harms_nothing(
    bot: TransportBot, owner: Owner, customer: Customer, missed: bool
) -> None:
    caller = customer.account.lid
    parts = [Node("offer", {"call-id": "C1", "call-creator": caller}, (Node("audio", {"rate": "16000"}),))]
    if missed:
        parts.append(Node("terminate", {"call-id": "C1", "call-creator": caller, "reason": "timeout"}))
    for part in parts:
        attrs: dict[str, Value] = {
            "from": caller,
            "id": "CALL1",
            "t": "1700000000",
            "notify": "Ana",
            "platform": "android",
        }
        owner.linked[0].deliver(Node("call", attrs, (part,)), lasting=False)
    await customer.says("não atende?")
    await bot.message("não atende?")
    assert bot.transport.dropped["call"] == 1


async def test_a_channels_post_harms_nothing(bot: TransportBot, owner: Owner, customer: Customer) -> None:
    post = messages.text("novidades").SerializeToString()
    attrs: dict[str, Value] = {
        "from": Jid("120363000000000009", "newsletter"),
        "id": "3ANEWS",
        "server_id": "101",
    }
    owner.linked[0].deliver(
        Node("message", {**attrs, "t": "1700000000", "type": "text"}, (Node("plaintext", {}, post),)),
        lasting=True,
    )
    await customer.says("depois")
    await bot.message("depois")
    assert bot.transport.dropped["not_a_chat"] == 1


async def test_a_vote_is_read_under_either_address(
    bot: TransportBot, owner: Owner, customer: Customer
) -> None:
    await owner.sends_poll("Qual dia?", "sábado", "domingo", to=customer)
    await arrived(bot, MessageType.POLL)
    poll = await customer.hears()
    ways: tuple[tuple[str, Addressing], ...] = (("domingo", "phone"), ("sábado", "lid"))
    for option, addressed in ways:
        await customer.votes(poll, option, addressed=addressed)
        vote = await arrived(bot, MessageType.POLL)
        assert (vote.text, vote.reply_to) == (option, poll.id)


async def test_a_vote_in_a_group_is_read(
    lab: Lab, bot: TransportBot, owner: Owner, customer: Customer
) -> None:
    bia = lab.customer("+5511888880002", name="Bia")
    group = lab.group("Vizinhos", owner, customer, bia)
    poll = await customer.sends_poll("Qual dia?", "sábado", "domingo", to=group)
    asked = await arrived(bot, MessageType.POLL)
    assert (asked.text, asked.is_group) == ("Qual dia?\n- sábado\n- domingo", True)
    await bia.votes(await bia.hears(chat=group), "domingo", to=group)
    vote = await arrived(bot, MessageType.POLL)
    assert (vote.text, vote.reply_to, vote.sender.jid) == ("domingo", poll, bia.lid)


async def test_answers_disappear_in_a_group_too(
    lab: Lab, bot: TransportBot, owner: Owner, customer: Customer
) -> None:
    group = lab.group("Vizinhos", owner, customer)
    await customer.says("oi", to=group, disappears_after=DAY)
    await bot.message("oi")
    await bot.says(str(group.jid), "olá")
    assert (await customer.hears("olá", chat=group)).disappears_after == DAY
