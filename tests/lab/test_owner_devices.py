"""The owner's other devices beside the bot: what is written at a desk is the owner's word as on the phone."""

import asyncio

import pytest
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message
from neonize.utils.jid import build_jid

from bot.lab.nodes import Node, Value
from bot.lab.origin import seconds
from bot.lab.people import Customer, Owner
from bot.lab.timeline import PATIENCE
from bot.transports.whatsapp.client import WhatsAppTransport
from storage.models import Action, InboundMessage, Origin
from tests.conftest import until
from tests.lab.conftest import Link
from tests.lab.lab_bot import LabBot

pytestmark = pytest.mark.lab


async def test_a_word_from_the_owners_desk_takes_the_chat_over(
    lab_bot: LabBot, link: Link, owner: Owner, customer: Customer
) -> None:
    desk = await link(owner)
    await customer.says("price?")
    await customer.hears("From 10 to 50.")
    await desk.message("From 10 to 50.")
    chat = build_jid(customer.account.lid.user, "lid")
    written = (await desk.api.send_message(chat, Message(conversation="hi, it is me"))).ID
    assert (await lab_bot.decided(written)).action is Action.PAUSED
    [own] = [event for event in lab_bot.heard["shop"] if isinstance(event, InboundMessage) and event.from_me]
    assert (own.external_id, own.sender_device) == (written, owner.linked[1].number)
    [story] = await lab_bot.why(written)
    assert (story.message.origin, story.message.sender_device) == (Origin.DEVICE, owner.linked[1].number)
    assert (await lab_bot.decided(await customer.says("oh"))).action is Action.IGNORED_PAUSED
    assert [heard.text for heard in customer.heard] == ["From 10 to 50.", "hi, it is me"]


async def test_a_desk_that_is_linked_while_the_bot_runs_shows_its_answers_until_it_is_unlinked(
    lab_bot: LabBot, link: Link, owner: Owner, customer: Customer
) -> None:
    await customer.says("price?")
    await customer.hears("From 10 to 50.")
    desk = await link(owner)
    await customer.says("price, again?")
    answer = await customer.hears("From 10 to 50.")
    assert answer.id == (await desk.message("From 10 to 50.")).Info.ID
    owner.unlinks(owner.linked[1])
    await customer.says("and the price?")
    await customer.hears("From 10 to 50.")
    assert [device.number for device in owner.linked] == [1]
    assert len(customer.phone.retries) == 0


async def test_what_the_owner_writes_takes_the_chat_over_before_it_can_be_read(
    lab_bot: LabBot, owner: Owner, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The bot's client asks for it again; a phone that is off by then says nothing.
    monkeypatch.setattr(owner.phone._sealer, "send_again", lambda receipt: None)
    await owner.says("hi, it is me", to=customer, damaged=True)
    # Until that is stored nothing is sent; how many may ask meanwhile is the machine's doing.
    async with asyncio.timeout(PATIENCE):
        while (await lab_bot.decided(await customer.says("price?"))).action is not Action.IGNORED_PAUSED:
            pass
    assert [heard.text for heard in customer.heard if heard.text != "hi, it is me"] == []


async def test_what_a_customer_writes_is_in_the_store_though_it_never_opens(
    lab_bot: LabBot, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(customer.phone._sealer, "send_again", lambda receipt: None)
    message_id = await customer.says("how much is it?", damaged=True)

    async def is_recorded() -> bool:
        rows = await lab_bot.database.fetch(
            "SELECT type, author FROM sidestep.messages WHERE external_id = $1", message_id
        )
        return [(row["type"], row["author"]) for row in rows] == [("undecryptable", "customer")]

    await until(is_recorded)


@pytest.mark.parametrize("what", ["edit", "reaction", "vote"])
async def test_what_does_not_open_and_is_no_speech_takes_nothing_over_and_leaves_nothing(
    lab_bot: LabBot, owner: Owner, customer: Customer, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(owner.phone._sealer, "send_again", lambda receipt: None)
    await customer.says("price?")
    answer = await customer.hears("From 10 to 50.")
    match what:
        case "edit":
            await owner.edits("3A00", "From 10 to 60.", to=customer, damaged=True)
        case "reaction":
            await owner.reacts(answer, "👍", to=customer, damaged=True)
        case _:
            attrs: dict[str, Value] = {
                "from": owner.account.lid,
                "recipient": customer.account.lid,
                "t": seconds(),
            }
            sealed = Node("enc", {"v": "2", "type": "msg", "decrypt-fail": "hide"}, b"a vote")
            vote = Node("message", {**attrs, "id": "3AVOTE", "type": "poll"}, (sealed,))
            owner.linked[0].deliver(vote, lasting=True)
    transport = lab_bot.transport()
    assert isinstance(transport, WhatsAppTransport)

    async def has_come() -> bool:
        return transport.dropped["undecryptable"] > 0

    await until(has_come)
    assert (await lab_bot.decided(await customer.says("price?"))).action is Action.KEYWORD_REPLIED
    unread = "SELECT external_id FROM sidestep.messages WHERE type = 'undecryptable'"
    assert await lab_bot.database.fetch(unread) == []
