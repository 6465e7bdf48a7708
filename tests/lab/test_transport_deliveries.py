"""What comes twice, or the wrong way round, or all at once: recorded once, decided once.

The order that we promise is the order in which WhatsApp brings it: its clock has whole seconds, so it cannot
tell which of two messages was written first. Each message keeps WhatsApp's time beside it.
"""

import datetime as dt

import pytest

from bot.events import Decided
from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from storage.models import Action, InboundMessage
from tests.conftest import until
from tests.lab.lab_bot import LabBot
from tests.lab.transport_bot import now

pytestmark = pytest.mark.lab


async def texts(bot: LabBot, author: str = "customer") -> list[str]:
    """What is recorded of them, in our order."""
    rows = await bot.database.fetch(
        "SELECT text FROM sidestep.messages WHERE author = $1 ORDER BY chat_id, id", author
    )
    return [row["text"] for row in rows]


def decisions(bot: LabBot) -> list[Decided]:
    return [event for event in bot.told if isinstance(event, Decided)]


async def test_a_stanza_that_comes_twice_is_recorded_and_answered_once(
    lab_bot: LabBot, lab: Lab, owner: Owner, customer: Customer
) -> None:
    with lab.duplicates():
        question = await customer.says("price?")
        await customer.hears("From 10 to 50.")
        await owner.says("hi, it is me", to=customer)
        last = await customer.says("oh")
    await lab_bot.decided(last)
    assert await texts(lab_bot) == ["price?", "oh"]
    assert await texts(lab_bot, "human") == ["hi, it is me"]
    assert [decided.action for decided in decisions(lab_bot)] == [
        Action.KEYWORD_REPLIED,
        Action.PAUSED,
        Action.IGNORED_PAUSED,
    ]
    assert [heard.text for heard in customer.heard].count("From 10 to 50.") == 1
    # It did come twice: the library has thanked for both.
    thanks = [stanza.node for stanza in lab.stanzas if stanza.node.text("id", "") == question]
    assert len([node for node in thanks if node.tag in ("receipt", "ack")]) >= 2, thanks


async def test_a_message_that_its_sender_repeats_is_recorded_and_answered_once(
    lab_bot: LabBot, customer: Customer
) -> None:
    """Encrypted anew under the same id, as after a retry receipt that was not needed; by either address."""
    question = await customer.says("price?")
    await customer.hears("From 10 to 50.")
    await customer.says("price?", id=question)
    await customer.says("price?", id=question, addressed="phone")
    last = await customer.says("bye")
    await customer.hears("Hello!")
    await lab_bot.decided(last)
    heard_ids = [event.external_id for event in lab_bot.heard["shop"] if isinstance(event, InboundMessage)]
    assert heard_ids == [question] * 3 + [last]
    assert await texts(lab_bot) == ["price?", "bye"]
    assert [heard.text for heard in customer.heard] == ["From 10 to 50.", "Hello!"]


async def test_what_whatsapp_brings_again_after_a_reconnect_is_recorded_and_answered_once(
    lab_bot: LabBot, lab: Lab, owner: Owner, customer: Customer
) -> None:
    with lab.loses_acks():
        question = await customer.says("price?")
        await lab_bot.decided(question)
        await customer.hears("From 10 to 50.")
        assert owner.linked[0].waiting > 0
        await lab.drop()
        await lab_bot.connected()
    last = await customer.says("bye")
    await lab_bot.decided(last)
    assert await texts(lab_bot) == ["price?", "bye"]
    assert [heard.text for heard in customer.heard].count("From 10 to 50.") == 1


async def test_what_comes_the_wrong_way_round_is_all_recorded_with_whatsapps_times(
    lab_bot: LabBot, lab: Lab, customer: Customer
) -> None:
    written = [(f"line {i}", now().replace(microsecond=0) - dt.timedelta(seconds=9 - i)) for i in range(5)]
    with lab.reorders():
        for text, at in written:
            await customer.says(text, at=at)

    async def all_recorded() -> bool:
        return len(await texts(lab_bot)) == len(written)

    await until(all_recorded)
    rows = await lab_bot.database.fetch(
        "SELECT text, sent_at FROM sidestep.messages WHERE author = 'customer' ORDER BY id"
    )
    assert [(row["text"], row["sent_at"]) for row in rows] == written[::-1]


async def test_the_owners_word_stops_the_bot_also_when_it_comes_before_the_question(
    lab_bot: LabBot, lab: Lab, owner: Owner, customer: Customer
) -> None:
    with lab.reorders():
        question = await customer.says("price?")
        await owner.says("I have told you", to=customer)
    decided = await lab_bot.decided(question)
    assert decided.action is Action.IGNORED_PAUSED
    assert [heard.text for heard in customer.heard] == ["I have told you"]


async def test_hundreds_that_waited_come_in_order_and_are_each_decided_once(
    dsn: str, lab: Lab, owner: Owner
) -> None:
    customers = [lab.customer(f"+551188888000{i}", name=f"C{i}") for i in range(3)]
    bot = LabBot(dsn, lab, flows={"default": ""})
    await bot.start()
    await bot.pair(owner)
    async with lab.outage():
        for i in range(120):
            for customer in customers:
                await customer.says(f"{customer.name} line {i}")
    await bot.connected()

    async def all_decided() -> bool:
        return len(decisions(bot)) == 360

    await until(all_decided)
    assert await texts(bot) == [f"{customer.name} line {i}" for customer in customers for i in range(120)]
    assert len({decided.message_id for decided in decisions(bot)}) == 360
    await bot.stop()
