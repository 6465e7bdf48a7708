"""Stepping aside with the real library: what the customer's phone, and the owner's, see of it."""

import datetime as dt
from collections.abc import Callable

import pytest
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import ProtocolMessage

from bot.events import TakenBack
from bot.lab.heard import Heard
from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from storage.models import Action, Author, MessageType, Origin, Status
from tests.lab.lab_bot import LabBot

pytestmark = pytest.mark.lab

GREETING = "Hello, thank you for writing to Dona's bakery! We will be with you in a moment."


def takes_back(message_id: str) -> Callable[[Heard], bool]:
    def matches(heard: Heard) -> bool:
        change = heard.content.protocolMessage
        return bool(
            change.type == ProtocolMessage.REVOKE and message_id == change.key.ID and change.key.fromMe
        )

    return matches


async def test_a_command_in_a_customers_chat_is_gone_from_every_phone(
    lab_bot: LabBot, owner: Owner, customer: Customer
) -> None:
    await customer.says("price?")
    await customer.hears("From 10 to 50.")
    command = await owner.says("/pause", to=customer)
    revoke = await customer.hears(takes_back(command))
    assert revoke.sender == owner.number
    await owner.hears(takes_back(command), chat=customer)
    assert (await lab_bot.decided(command)).action is Action.PAUSED
    assert (await lab_bot.decided(await customer.says("price!"))).action is Action.IGNORED_PAUSED
    await lab_bot.told.expect(
        lambda event: isinstance(event, TakenBack) and event.external_id == command,
        within=60,
        what="the revoke",
    )
    [story] = await lab_bot.why(command)
    assert [(c.type, c.author) for c in story.changes] == [(MessageType.REVOKE, Author.BOT)]
    assert story.message.origin is Origin.PHONE


async def test_what_is_commanded_elsewhere_stays_there(
    lab_bot: LabBot, owner: Owner, customer: Customer
) -> None:
    await customer.says("price?")
    await customer.hears("From 10 to 50.")
    await owner.says("/pause Ana")
    await owner.hears(lambda heard: heard.text.startswith("Paused"))
    await owner.says("/status", to=customer)
    await owner.hears(lambda heard: heard.text.startswith("Ana"))
    changes = [heard for heard in owner.heard if heard.content.HasField("protocolMessage")]
    assert {heard.chat for heard in changes} <= {customer.number}


async def test_what_the_owner_wrote_before_a_resume_pauses_no_more_when_it_comes_after_it(
    lab_bot: LabBot, lab: Lab, owner: Owner, customer: Customer
) -> None:
    await customer.says("hello")
    await customer.hears("Hello!")
    now, minute = dt.datetime.now(dt.UTC), dt.timedelta(minutes=1)
    await lab_bot.decided(await owner.says("It is me", to=customer, at=now - 2 * minute))
    with lab.reorders():
        late = await owner.says("from a tunnel", to=customer, at=now - minute)
        resume = await owner.says("/resume", to=customer)
    assert (await lab_bot.decided(resume)).action is Action.RESUMED
    assert (await lab_bot.decided(late)).action is Action.HUMAN_SPOKE
    await customer.says("price?")
    await customer.hears("From 10 to 50.")


async def test_what_says_nothing_to_the_customer_takes_nothing_over(
    lab_bot: LabBot, owner: Owner, customer: Customer
) -> None:
    mine = await owner.says("Welcome", to=customer)
    await lab_bot.decided(await owner.says("/resume", to=customer))
    await customer.says("price?")
    answer = await owner.hears("From 10 to 50.", chat=customer)
    said = [
        await owner.reacts(answer, "👍", to=customer),
        await owner.edits(mine, "Welcome!", to=customer),
        await owner.revokes(mine, to=customer),
        await owner.says("buy milk"),
    ]
    await owner.posts_status("Fresh bread", customer)
    await owner.broadcasts("Fresh bread", customer)
    assert {(await lab_bot.decided(each)).action for each in said} == {Action.HUMAN_SPOKE}
    asked = await customer.says("price, please?")
    assert (await lab_bot.decided(asked)).action is Action.KEYWORD_REPLIED


async def test_a_command_in_reply_to_a_notice_is_about_its_chat(
    lab_bot: LabBot, owner: Owner, customer: Customer
) -> None:
    await customer.says("price?")
    await customer.hears("From 10 to 50.")
    await customer.says("/human")
    notice = await owner.hears(lambda heard: "asks for a person" in heard.text)
    await lab_bot.moves(Status.SENT, external_id=notice.id)  # sooner the bot does not know what it has sent
    resume = await owner.says("/resume", quoted=notice)
    assert (await lab_bot.decided(resume)).action is Action.RESUMED
    assert (await lab_bot.decided(await customer.says("price!"))).action is Action.KEYWORD_REPLIED


async def test_a_greeting_of_the_phone_s_own_is_not_obeyed_and_asked_about(
    lab_bot: LabBot, owner: Owner, customer: Customer
) -> None:
    asked = await customer.says("price?")
    greeting = await owner.says(GREETING, to=customer)
    assert (await lab_bot.decided(greeting)).action is Action.IGNORED_AUTOMATIC
    assert (await lab_bot.decided(asked)).action is Action.KEYWORD_REPLIED
    await customer.hears("From 10 to 50.")
    question = await owner.hears(lambda heard: "/automatic yes" in heard.text)
    assert "Ana" in question.text
    await lab_bot.moves(Status.SENT, external_id=question.id)
    answer = await owner.says("/automatic no", quoted=question)
    assert (await lab_bot.decided(answer)).action is Action.COMMAND_DONE
    assert (await lab_bot.decided(await customer.says("price!"))).action is Action.IGNORED_PAUSED


async def test_a_mistyped_command_is_gone_too_and_the_owner_is_told(
    lab_bot: LabBot, owner: Owner, customer: Customer
) -> None:
    await customer.says("price?")
    await customer.hears("From 10 to 50.")
    slip = await owner.says("/puase", to=customer)
    await customer.hears(takes_back(slip))
    await owner.hears(lambda heard: "/pause?" in heard.text)
    assert (await lab_bot.decided(slip)).action is Action.PAUSED
