"""What people change of what was said, through the real client to the store: edits, revokes and reactions."""

from dataclasses import dataclass

import pytest

from bot.lab.directory import Addressing
from bot.lab.groups import Group
from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from storage.models import Action, Author, MessageType
from tests.lab.lab_bot import LabBot

pytestmark = pytest.mark.lab

PRICES = "From 10 to 50."
READING = """
SELECT m.text, m.deleted_at IS NOT NULL AS deleted,
       ARRAY(SELECT r.emoji FROM sidestep.reactions r
              WHERE (r.tenant_id, r.chat_id, r.id) = (m.tenant_id, m.chat_id, m.id) AND r.emoji IS NOT NULL
              ORDER BY r.emoji) AS reactions
  FROM sidestep.message_keys k
  JOIN sidestep.messages m ON (m.tenant_id, m.chat_id, m.id) = (k.tenant_id, k.chat_id, k.id)
 WHERE k.external_id = $1
"""


@dataclass(frozen=True)
class Reading:
    text: str | None
    deleted: bool = False
    reactions: tuple[str, ...] = ()


async def reading(bot: LabBot, external_id: str) -> Reading:
    """How the store shows a message now."""
    (row,) = await bot.database.fetch(READING, external_id)
    return Reading(row["text"], row["deleted"], tuple(row["reactions"]))


async def test_a_customer_changes_what_was_said(lab_bot: LabBot, customer: Customer) -> None:
    question = await customer.says("price?")
    answer = await customer.hears(PRICES)
    await lab_bot.knows(answer.id)
    for change in (
        await customer.reacts(answer, "👍"),
        await customer.edits(question, "the prices?", addressed="phone"),
        await customer.reacts(answer, "❤", addressed="phone"),
    ):
        assert (await lab_bot.decided(change)).action is Action.IGNORED_UNSUPPORTED
    assert await reading(lab_bot, question) == Reading("the prices?")
    assert await reading(lab_bot, answer.id) == Reading(PRICES, reactions=("❤",))
    await lab_bot.decided(await customer.reacts(answer, ""))
    await lab_bot.decided(await customer.revokes(question))
    assert await reading(lab_bot, question) == Reading("the prices?", deleted=True)
    assert await reading(lab_bot, answer.id) == Reading(PRICES)


async def test_the_owner_s_phone_changes_what_the_bot_said_and_takes_nothing_over(
    lab_bot: LabBot, owner: Owner, customer: Customer
) -> None:
    question = await customer.says("price?")
    answer = await owner.hears(PRICES, chat=customer)
    await lab_bot.knows(answer.id)
    for change in (
        await owner.edits(answer.id, "From 20 to 50.", to=customer),
        await owner.reacts(answer, "👍", to=customer),
        await owner.revokes(answer.id, to=customer),
    ):
        assert (await lab_bot.decided(change)).action is Action.HUMAN_SPOKE
    assert await reading(lab_bot, answer.id) == Reading("From 20 to 50.", deleted=True, reactions=("👍",))
    [reply] = [r for story in await lab_bot.why(question) for r in story.replies]
    assert {(c.type, c.author) for c in reply.changes} == {
        (MessageType.EDIT, Author.HUMAN),
        (MessageType.REACTION, Author.HUMAN),
        (MessageType.REVOKE, Author.HUMAN),
    }
    assert (await lab_bot.decided(await customer.says("hello"))).action is Action.KEYWORD_REPLIED


async def test_a_customer_changes_nothing_of_what_others_said(
    lab_bot: LabBot, owner: Owner, customer: Customer
) -> None:
    await customer.says("price?")
    answer = await customer.hears(PRICES)
    await lab_bot.knows(answer.id)
    await lab_bot.decided(await customer.edits(answer.id, "From 1 to 5."))
    await lab_bot.decided(await customer.revokes(answer))
    assert await reading(lab_bot, answer.id) == Reading(PRICES)


async def test_what_overtakes_its_target_is_what_is_answered(lab_bot: LabBot, customer: Customer) -> None:
    await lab_bot.decided(await customer.edits("3A01", "price?"))
    await lab_bot.decided(await customer.revokes("3A02"))
    await customer.says("prize?", id="3A01")
    assert (await lab_bot.decided("3A01")).action is Action.KEYWORD_REPLIED
    await customer.hears(PRICES)
    await customer.says("forget it", id="3A02")
    withdrawn = await lab_bot.decided("3A02")
    assert (withdrawn.action, withdrawn.detail) == (Action.SUPERSEDED, "revoked")
    assert await reading(lab_bot, "3A01") == Reading("price?")
    assert [heard.text for heard in customer.heard] == [PRICES]


async def test_a_reaction_may_come_before_we_know_that_the_answer_is_out(
    lab: Lab, lab_bot: LabBot, customer: Customer
) -> None:
    with lab.hold_acks():
        await customer.says("price?")
        answer = await customer.hears(PRICES)
        await lab_bot.decided(await customer.reacts(answer, "👍"))
    await lab_bot.knows(answer.id)
    assert await reading(lab_bot, answer.id) == Reading(PRICES, reactions=("👍",))


@pytest.fixture
def bia(lab: Lab) -> Customer:
    return lab.customer("+5511888880002", name="Bia")


@pytest.mark.parametrize("addressed", ["lid", "phone"])
async def test_in_a_group_each_key_leads_to_its_message(
    lab: Lab, lab_bot: LabBot, owner: Owner, customer: Customer, bia: Customer, addressed: Addressing
) -> None:
    group: Group = lab.group("Friends", owner, customer, bia, addressed=addressed)
    question = await customer.says("price?", to=group, mentions=[owner])
    answer = await bia.hears(PRICES, chat=group)
    await lab_bot.knows(answer.id)
    chatter = await customer.says("what a day", to=group)
    for change in (
        await bia.reacts(answer, "👍", to=group),
        await customer.reacts(await customer.hears(PRICES, chat=group), "❤", to=group),
        await bia.reacts(await bia.hears("what a day", chat=group), "😮", to=group),
        await customer.edits(question, "the prices?", to=group),
        await bia.edits(chatter, "not mine", to=group),
    ):
        await lab_bot.decided(change)
    assert await reading(lab_bot, question) == Reading("the prices?")
    assert await reading(lab_bot, answer.id) == Reading(PRICES, reactions=("❤", "👍"))
    assert await reading(lab_bot, chatter) == Reading("what a day", reactions=("😮",))
    seen = await owner.hears("what a day", chat=group)
    await lab_bot.decided(await owner.revokes(seen, to=group))
    assert (await reading(lab_bot, chatter)).deleted
    assert not (await reading(lab_bot, question)).deleted
