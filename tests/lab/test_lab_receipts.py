"""Receipts and typing, both ways."""

import pytest
from neonize.aioze.events import ChatPresenceEv
from neonize.proto.Neonize_pb2 import ChatPresence, Receipt
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message
from neonize.utils import enum
from neonize.utils.jid import build_jid

from bot.lab.people import Customer, Owner
from tests.lab.bot_client import BotClient

pytestmark = pytest.mark.lab


async def test_the_bot_learns_that_its_message_was_delivered_and_read(
    client: BotClient, customer: Customer
) -> None:
    chat = build_jid(customer.account.lid.user, "lid")
    sent = await client.api.send_message(chat, Message(conversation="olá"))
    heard = await customer.hears("olá")
    await customer.delivered(heard)
    await customer.read(heard)
    delivered = await client.receipt(Receipt.DELIVERED)
    read = await client.receipt(Receipt.READ)
    assert list(delivered.MessageIDs) == list(read.MessageIDs) == [sent.ID]
    assert read.MessageSource.Chat.User == customer.account.lid.user


async def test_one_receipt_may_name_several_messages(client: BotClient, customer: Customer) -> None:
    chat = build_jid(customer.account.lid.user, "lid")
    sent = [
        await client.api.send_message(chat, Message(conversation=text)) for text in ("um", "dois", "três")
    ]
    first, *more = [each.ID for each in sent]
    await customer.read(first, *more)
    assert list((await client.receipt(Receipt.READ)).MessageIDs) == [first, *more]


async def test_a_customer_learns_that_her_message_arrived_and_was_read(
    client: BotClient, customer: Customer
) -> None:
    message_id = await customer.says("oi")
    # Without a push name, a client counts as away: its receipts are "inactive".
    await customer.sees_receipt(message_id, "delivered", "inactive")
    chat = build_jid(customer.account.lid.user, "lid")
    await client.api.mark_read(message_id, chat=chat, sender=chat, receipt=enum.ReceiptType.READ)
    await customer.sees_receipt(message_id, "read")


async def test_the_bot_learns_what_the_owner_read_on_the_phone(
    client: BotClient, owner: Owner, customer: Customer
) -> None:
    message_id = await customer.says("oi")
    await client.message("oi")
    await owner.read(message_id, to=customer)
    receipt = await client.receipt(Receipt.READ_SELF)
    assert list(receipt.MessageIDs) == [message_id]
    assert receipt.MessageSource.IsFromMe
    assert receipt.MessageSource.Chat.User == customer.account.lid.user


async def test_the_bot_sees_a_customer_type(client: BotClient, customer: Customer) -> None:
    await customer.types()
    await customer.types(stops=True)
    composing, paused = await client.event(ChatPresenceEv), await client.event(ChatPresenceEv)
    assert (composing.State, paused.State) == (ChatPresence.COMPOSING, ChatPresence.PAUSED)
    assert composing.MessageSource.Chat.User == customer.account.lid.user


async def test_a_customer_sees_the_bot_type(client: BotClient, customer: Customer) -> None:
    chat = build_jid(customer.account.lid.user, "lid")
    assert not customer.typing
    text = enum.ChatPresenceMedia.CHAT_PRESENCE_MEDIA_TEXT
    await client.api.send_chat_presence(chat, enum.ChatPresence.CHAT_PRESENCE_COMPOSING, text)
    await customer.sees_typing()
    await client.api.send_chat_presence(chat, enum.ChatPresence.CHAT_PRESENCE_PAUSED, text)
    await customer.chat_states.expect(lambda state: state.state == "paused")
    assert customer.typing
