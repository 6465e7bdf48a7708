"""Text between the real neonize, customers and the owner's phone."""

import datetime as dt

import pytest
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message
from neonize.utils.jid import build_jid

from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from tests.lab.bot_client import BotClient, text_of
from tests.lab.conftest import Link

pytestmark = pytest.mark.lab


def said(text: str) -> Message:
    return Message(conversation=text)


async def test_a_customer_seen_by_lid_carries_her_number_too(client: BotClient, customer: Customer) -> None:
    message_id = await customer.says("oi")
    info = (await client.message("oi")).Info
    source = info.MessageSource
    assert message_id == info.ID
    assert info.Pushname == "Ana"
    assert (source.Chat.User, source.Chat.Server) == (customer.account.lid.user, "lid")
    assert source.Sender.User == customer.account.lid.user
    assert (source.SenderAlt.User, source.SenderAlt.Server) == (customer.account.phone.user, "s.whatsapp.net")
    assert not source.IsFromMe


async def test_the_same_customer_seen_by_number_is_another_chat(
    client: BotClient, customer: Customer
) -> None:
    await customer.says("oi", addressed="phone")
    source = (await client.message("oi")).Info.MessageSource
    assert (source.Chat.User, source.Chat.Server) == (customer.account.phone.user, "s.whatsapp.net")
    assert (source.SenderAlt.User, source.SenderAlt.Server) == (customer.account.lid.user, "lid")


async def test_a_lid_may_come_without_its_number(client: BotClient, customer: Customer) -> None:
    await customer.says("oi", with_alt=False)
    assert (await client.message("oi")).Info.MessageSource.SenderAlt.User == ""


async def test_a_customer_hears_the_answer(client: BotClient, customer: Customer) -> None:
    await customer.says("oi")
    chat = (await client.message("oi")).Info.MessageSource.Chat
    sent = await client.api.send_message(chat, said("olá"))
    heard = await customer.hears("olá")
    assert (heard.id, heard.chat, heard.from_me) == (sent.ID, "+5511999990000", False)


async def test_the_bot_writes_first_and_is_answered(client: BotClient, customer: Customer) -> None:
    await client.api.send_message(build_jid(customer.account.phone.user), said("bom dia"))
    await customer.hears("bom dia")
    await customer.says("bom dia!")
    await client.message("bom dia!")


async def test_both_may_write_first_at_the_same_time(client: BotClient, customer: Customer) -> None:
    await customer.says("oi")
    await client.api.send_message(build_jid(customer.account.lid.user, "lid"), said("bom dia"))
    await client.message("oi")
    await customer.hears("bom dia")
    await customer.says("tudo bem?")
    await client.message("tudo bem?")


async def test_a_long_conversation_ratchets_both_ways(client: BotClient, customer: Customer) -> None:
    chat = build_jid(customer.account.lid.user, "lid")
    for turn in range(25):
        await customer.says(f"pergunta {turn}")
        await client.message(f"pergunta {turn}")
        await client.api.send_message(chat, said(f"resposta {turn}"))
        await customer.hears(f"resposta {turn}")


async def test_a_burst_arrives_complete_and_in_order(client: BotClient, customer: Customer) -> None:
    texts = [f"linha {i}" for i in range(200)]
    for text in texts:
        await customer.says(text)
    await client.message(texts[-1])
    assert [text_of(event) for event in client.messages] == texts


async def test_many_customers_may_outnumber_the_prekeys(lab: Lab, client: BotClient) -> None:
    customers = [lab.customer(f"+55118000{i:05}", name=f"C{i}") for i in range(830)]
    for customer in customers:
        await customer.says(f"oi de {customer.number}")
    for customer in customers:
        await client.message(f"oi de {customer.number}")


async def test_a_repeated_id_reaches_the_handler_again(client: BotClient, customer: Customer) -> None:
    message_id = await customer.says("oi")
    assert await customer.says("oi", id=message_id) == message_id
    first, second = await client.message("oi"), await client.message("oi")
    assert first.Info.ID == second.Info.ID == message_id


async def test_a_message_may_be_old_and_quote_another(client: BotClient, customer: Customer) -> None:
    yesterday = dt.datetime.now(dt.UTC).replace(microsecond=0) - dt.timedelta(days=1)
    chat = build_jid(customer.account.lid.user, "lid")
    await client.api.send_message(chat, said("de 10 a 50"))
    price = await customer.hears("de 10 a 50")
    await customer.says("por quê?", quoted=price, at=yesterday)
    event = await client.message("por quê?")
    assert event.Info.Timestamp == yesterday.timestamp() * 1000
    context = event.Message.extendedTextMessage.contextInfo
    assert (context.stanzaID, context.quotedMessage.conversation) == (price.id, "de 10 a 50")


async def test_edits_revokes_and_reactions_name_their_message(client: BotClient, customer: Customer) -> None:
    message_id = await customer.says("um")
    await client.api.send_message(build_jid(customer.account.lid.user, "lid"), said("dois"))
    answer = await customer.hears("dois")
    await customer.edits(message_id, "três")
    await customer.revokes(message_id)
    await customer.reacts(answer, "👍")
    await client.messages.expect(lambda event: event.Info.Edit == "1" or event.IsEdit)
    revoked = await client.messages.expect(lambda event: event.Info.Edit == "7")
    assert message_id == revoked.Message.protocolMessage.key.ID
    reaction = await client.messages.expect(lambda event: event.Info.Type == "reaction")
    assert answer.id == reaction.Message.reactionMessage.key.ID


@pytest.mark.parametrize("known_by", ["lid", "phone"])
async def test_the_bots_edits_revokes_and_reactions_reach_the_customer(
    client: BotClient, owner: Owner, customer: Customer, known_by: str
) -> None:
    account = customer.account
    chat = build_jid(account.lid.user, "lid") if known_by == "lid" else build_jid(account.phone.user)
    question = await customer.says("quanto custa?")
    sent = await client.api.send_message(chat, said("de 10 a 50"))
    await client.api.edit_message(chat, sent.ID, said("de 20 a 60"))
    await client.api.send_message(chat, await client.api.build_reaction(chat, chat, question, "👍"))
    await client.api.revoke_message(chat, build_jid(owner.account.phone.user), sent.ID)
    for phone, where in ((customer, None), (owner, customer)):
        edit = await phone.hears("de 20 a 60", chat=where)
        assert edit.content.protocolMessage.key.ID == sent.ID
        reaction = await phone.hears(lambda heard: heard.kind == "reaction", chat=where)
        key = reaction.content.reactionMessage.key
        assert (key.ID, key.fromMe, reaction.content.reactionMessage.text) == (question, False, "👍")
        revoke = await phone.hears(lambda heard: heard.content.HasField("protocolMessage"), chat=where)
        told = revoke.content.protocolMessage
        assert (told.type, told.key.ID, told.key.fromMe) == (told.REVOKE, sent.ID, True)


async def test_the_owners_other_device_writes_as_the_account_and_shows_what_the_bot_writes(
    link: Link, owner: Owner, customer: Customer
) -> None:
    bot = await link(owner)
    chat = build_jid(customer.account.lid.user, "lid")
    await bot.api.send_message(chat, said("olá"))
    desk = await link(owner)  # the bot is told of it: it has asked for the owner's devices before
    await desk.api.send_message(chat, said("já respondo"))
    assert (await customer.hears("já respondo")).sender == owner.number
    event = await bot.message("já respondo")
    source = event.Info.MessageSource
    assert (source.IsFromMe, source.Sender.Device) == (True, owner.linked[1].number)
    assert source.Chat.User == customer.account.lid.user
    assert event.Info.DeviceSentMeta.DestinationJID == customer.lid
    await bot.api.send_message(chat, said("de 10 a 50"))
    source = (await desk.message("de 10 a 50")).Info.MessageSource
    assert (source.IsFromMe, source.Sender.Device) == (True, owner.linked[0].number)


async def test_the_owners_phone_writes_as_the_account_itself(
    client: BotClient, owner: Owner, customer: Customer
) -> None:
    await owner.says("já respondo", to=customer)
    await customer.hears("já respondo")
    event = await client.message("já respondo")
    source = event.Info.MessageSource
    assert source.IsFromMe
    assert source.Chat.User == customer.account.lid.user
    assert source.Sender.Device == 0
    assert event.Info.DeviceSentMeta.DestinationJID == customer.lid


async def test_the_owners_phone_shows_what_the_bot_and_customers_write(
    client: BotClient, owner: Owner, customer: Customer
) -> None:
    await customer.says("oi")
    await client.api.send_message(build_jid(customer.account.lid.user, "lid"), said("olá"))
    assert (await owner.hears("oi", chat=customer)).sender == customer.number
    assert (await owner.hears("olá", chat=customer)).from_me


async def test_the_bot_writes_to_its_owner(client: BotClient, owner: Owner) -> None:
    await client.api.send_message(build_jid(owner.account.phone.user), said("pausado"))
    heard = await owner.hears("pausado")
    assert (heard.chat, heard.from_me) == (owner.number, True)


async def test_the_owner_writes_to_oneself(client: BotClient, owner: Owner) -> None:
    await owner.says("/status")
    source = (await client.message("/status")).Info.MessageSource
    assert source.IsFromMe
    assert source.Chat.User in (owner.account.lid.user, owner.account.phone.user)


async def test_two_accounts_live_on_one_lab(lab: Lab, link: Link, customer: Customer) -> None:
    shop, bakery = lab.owner("+5511999990000"), lab.owner("+5511999990002", name="Padaria")
    at_shop, at_bakery = await link(shop), await link(bakery)
    await customer.says("oi loja", to=shop)
    await customer.says("oi padaria", to=bakery)
    await at_shop.message("oi loja")
    await at_bakery.message("oi padaria")
    await at_bakery.api.send_message(build_jid(customer.account.lid.user, "lid"), said("bom dia"))
    assert (await customer.hears("bom dia")).sender == bakery.number
    assert len(at_shop.messages) == len(at_bakery.messages) == 1


async def test_what_the_bot_writes_to_the_owner_is_shown_once(client: BotClient, owner: Owner) -> None:
    """neonize encrypts it for the owner's phone twice: once as the reader's, once as the writer's own."""
    oneself = build_jid(owner.account.lid.user, "lid")
    for text in ("one", "two", "three"):
        await client.api.send_message(oneself, said(text))
        await owner.hears(text)
    assert sorted(heard.text for heard in owner.heard) == ["one", "three", "two"]


async def test_a_sender_that_does_not_know_all_devices_is_told_so(
    lab: Lab, client: BotClient, link: Link
) -> None:
    bakery = lab.owner("+5511999990002", name="Padaria")
    chat = build_jid(bakery.account.lid.user, "lid")
    await client.api.send_message(chat, said("um"))
    desk = await link(bakery)
    await client.api.send_message(chat, said("dois"))
    await client.api.send_message(chat, said("três"))
    await desk.message("três")
    assert [text_of(event) for event in desk.messages] == ["três"]
