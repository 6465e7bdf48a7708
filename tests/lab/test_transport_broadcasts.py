"""Statuses are no messages of a chat; what goes to a broadcast list is one of the chat with who has sent it."""

from collections.abc import AsyncIterator

import pytest

from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from storage.models import Address, Jid, MessageType
from tests.lab.lab_bot import LabBot
from tests.lab.transport_bot import TransportBot, make_session_schema

pytestmark = pytest.mark.lab


@pytest.fixture
async def bot(empty_dsn: str, lab: Lab, owner: Owner) -> AsyncIterator[TransportBot]:
    """Paired and connected."""
    await make_session_schema(empty_dsn)
    bot = TransportBot(empty_dsn, lab)
    await bot.pair(owner)
    yield bot
    await bot.stop()


async def test_a_customers_status_is_no_message(bot: TransportBot, owner: Owner, customer: Customer) -> None:
    await customer.posts_status("bolo novo", owner)
    await customer.says("oi")
    await bot.message("oi")
    assert [message.text for message in bot.messages] == ["oi"]
    assert bot.transport.dropped["status_update"]
    assert owner.heard[0].chat == "status@broadcast"


async def test_the_owners_status_is_no_takeover(bot: TransportBot, owner: Owner, customer: Customer) -> None:
    await owner.posts_status("fechado amanhã", customer)
    await customer.hears("fechado amanhã")
    await customer.says("oi")
    await bot.message("oi")
    assert [message.text for message in bot.messages] == ["oi"]
    assert bot.transport.dropped["status_update"]


async def test_what_a_customer_sends_to_a_list_is_in_the_chat_with_her(
    bot: TransportBot, lab: Lab, owner: Owner, customer: Customer
) -> None:
    other = lab.customer("+5511888880002", name="Bia")
    message_id = await customer.broadcasts("mudei de endereço", owner, other)
    message = await bot.message("mudei de endereço")
    address = Address(jid=Jid(customer.lid), alt=Jid(customer.phone_jid))
    assert (message.external_id, message.chat, message.sender) == (message_id, address, address)
    assert (message.type, message.is_group, message.from_me) == (MessageType.TEXT, False, False)
    assert (await other.hears("mudei de endereço")).chat == customer.number
    # A second one opens with the key that came with the first.
    await customer.broadcasts("de novo", owner, other)
    assert (await bot.message("de novo")).chat == address


async def test_what_the_owner_sends_to_a_list_takes_nobody_over(
    bot: TransportBot, lab: Lab, owner: Owner, customer: Customer
) -> None:
    await owner.broadcasts("promoção", customer, lab.customer("+5511888880002", name="Bia"))
    await customer.hears("promoção")
    await customer.says("oi")
    await bot.message("oi")
    assert [message.text for message in bot.messages] == ["oi"]
    assert bot.transport.dropped["not_a_chat"]


async def test_a_question_to_a_list_is_answered_in_private(
    lab_bot: LabBot, lab: Lab, owner: Owner, customer: Customer
) -> None:
    other = lab.customer("+5511888880002", name="Bia")
    await customer.posts_status("price?", owner)
    await customer.broadcasts("price?", owner, other)
    answer = await customer.hears("From 10 to 50.")
    assert answer.chat == owner.number
    await customer.hears_nothing("From 10 to 50.", during=0.5)
    assert [heard.text for heard in other.heard] == ["price?"]
