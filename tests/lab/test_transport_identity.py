"""One person, two addresses: whatever form an event comes in, it ends in one contact and one chat."""

import itertools
from collections.abc import Sequence

import pytest

from bot.lab.directory import Addressing
from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from storage.models import Action
from tests.lab.lab_bot import LabBot

Form = tuple[Addressing, bool]
"""How an event shows a person: by which address, and whether with the other one."""

LID: Form = ("lid", False)
PHONE: Form = ("phone", False)
LID_AND_PHONE: Form = ("lid", True)
PHONE_AND_LID: Form = ("phone", True)

STORIES: Sequence[Sequence[Form]] = [
    *itertools.permutations([LID, PHONE, LID_AND_PHONE, PHONE_AND_LID]),
    [LID, LID, PHONE, PHONE, LID_AND_PHONE, LID, PHONE],
    [PHONE, LID, PHONE_AND_LID, PHONE, LID],
]

CHATS = """
SELECT c.chat_id, s.is_paused, count(DISTINCT m.id) AS messages, count(DISTINCT t.thread_id) AS active_threads
  FROM sidestep.contacts p
  JOIN sidestep.chats c ON c.tenant_id = p.tenant_id AND c.contact_id = p.contact_id
  JOIN sidestep.chat_state s ON s.tenant_id = c.tenant_id AND s.chat_id = c.chat_id
  LEFT JOIN sidestep.messages m ON m.tenant_id = c.tenant_id AND m.chat_id = c.chat_id AND m.author <> 'bot'
  LEFT JOIN sidestep.threads t ON t.tenant_id = c.tenant_id AND t.chat_id = c.chat_id AND t.status = 'active'
 WHERE p.jid = $1 OR p.lid = $2
 GROUP BY 1, 2
"""


async def says(customer: Customer, text: str, form: Form, message_id: str | None = None) -> str:
    addressed, with_alt = form
    return await customer.says(text, addressed=addressed, with_alt=with_alt, id=message_id)


async def the_chat(bot: LabBot, customer: Customer) -> tuple[bool, int]:
    """Whether the one chat of this person is paused, and how many messages that are not the bot's it holds."""
    contacts = await bot.database.fetch(
        "SELECT jid, lid FROM sidestep.contacts WHERE jid = $1 OR lid = $2", customer.phone_jid, customer.lid
    )
    assert [tuple(contact) for contact in contacts] == [(customer.phone_jid, customer.lid)]
    (chat,) = await bot.database.fetch(CHATS, customer.phone_jid, customer.lid)
    assert chat["active_threads"] == 1
    return chat["is_paused"], chat["messages"]


async def test_every_story_of_addresses_ends_in_one_contact_and_one_chat(lab: Lab, lab_bot: LabBot) -> None:
    for number, story in enumerate(STORIES):
        customer = lab.customer(f"+55118888{number:05}")
        for i, form in enumerate(story):
            message_id = await says(customer, f"hello {i}", form)
            assert (await lab_bot.decided(message_id)).action is Action.KEYWORD_REPLIED
            await customer.hears("Hello!")
        assert await the_chat(lab_bot, customer) == (False, len(story))


@pytest.mark.parametrize("owners", [LID, PHONE])
@pytest.mark.parametrize("joint", [LID_AND_PHONE, PHONE_AND_LID])
async def test_a_takeover_in_either_thread_silences_the_person(
    lab_bot: LabBot, owner: Owner, customer: Customer, owners: Form, joint: Form
) -> None:
    for form in (LID, PHONE):
        await lab_bot.decided(await says(customer, "hello", form))
    addressed, with_alt = owners
    await lab_bot.decided(await owner.says("it is me", to=customer, addressed=addressed, with_alt=with_alt))
    for form in (joint, PHONE, LID):
        message_id = await says(customer, "and now?", form)
        assert (await lab_bot.decided(message_id)).action is Action.IGNORED_PAUSED
    assert await the_chat(lab_bot, customer) == (True, 6)


@pytest.mark.parametrize("first", [LID, PHONE, LID_AND_PHONE])
@pytest.mark.parametrize("again", [LID_AND_PHONE, PHONE_AND_LID])
async def test_a_message_that_comes_again_by_the_other_address_is_recorded_once(
    lab_bot: LabBot, customer: Customer, first: Form, again: Form
) -> None:
    same = await says(customer, "hello", first)
    # What arrives while the library seals an answer to the same person can undo a step of their session.
    await customer.hears("Hello!")
    await says(customer, "hello", again, message_id=same)
    await lab_bot.decided(await says(customer, "price?", LID_AND_PHONE))
    await customer.hears("From 10 to 50.")
    assert await the_chat(lab_bot, customer) == (False, 2)
    assert [heard.text for heard in customer.heard] == ["Hello!", "From 10 to 50."]


@pytest.mark.parametrize(("customers", "owners"), [(PHONE, LID), (LID, PHONE)])
async def test_a_takeover_by_the_one_address_silences_the_other_as_soon_as_whatsapp_knows_both(
    lab_bot: LabBot, owner: Owner, customer: Customer, customers: Form, owners: Form
) -> None:
    await says(customer, "hello", customers)
    # To answer her WhatsApp's own client has had to learn both.
    await customer.hears("Hello!")
    addressed, with_alt = owners
    await owner.says("it is me", to=customer, addressed=addressed, with_alt=with_alt)
    while (await lab_bot.decided(await says(customer, "?", customers))).action is not Action.IGNORED_PAUSED:
        assert len(customer.heard) < 5, (
            "the bot does not find out that this is the person the owner writes to"
        )
    is_paused, _ = await the_chat(lab_bot, customer)
    assert is_paused
