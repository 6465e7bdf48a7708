"""What becomes of our messages: whatever receipts come, and in whatever order, the store shows the truth."""

import datetime as dt

import pytest

from bot.events import StatusMoved
from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from storage.models import Status
from tests.conftest import until
from tests.lab.lab_bot import LabBot
from tests.lab.transport_bot import now

pytestmark = pytest.mark.lab

SENT, DELIVERED, READ = Status.SENT, Status.DELIVERED, Status.READ


def statuses(bot: LabBot) -> list[Status]:
    """All that was told of our messages so far."""
    return [event.status for event in bot.told if isinstance(event, StatusMoved)]


async def answered(bot: LabBot, customer: Customer) -> tuple[str, str]:
    """The ids of a question and of its answer, which is on the customer's phone and known to be sent."""
    question = await customer.says("price?")
    answer = await customer.hears("From 10 to 50.")
    await bot.moves(SENT, external_id=answer.id)
    return question, answer.id


async def test_an_answer_is_shown_as_sent_then_delivered_then_read(
    lab_bot: LabBot, customer: Customer
) -> None:
    question, answer = await answered(lab_bot, customer)
    await customer.delivered(answer)
    await customer.read(answer)
    await lab_bot.moves(READ, external_id=answer)
    assert statuses(lab_bot) == [SENT, DELIVERED, READ]
    shown = await lab_bot.reply_to(question)
    assert (shown.status, shown.external_id) == (READ, answer)
    assert shown.sent_at is not None
    assert shown.delivered_at is not None
    assert shown.read_at is not None


async def test_repeated_receipts_are_told_once(lab_bot: LabBot, customer: Customer) -> None:
    _, answer = await answered(lab_bot, customer)
    for _ in range(3):
        await customer.delivered(answer)
    await customer.read(answer)
    await customer.read(answer)
    await lab_bot.moves(READ, external_id=answer)
    _, second = await answered(lab_bot, customer)
    await customer.delivered(second)
    await lab_bot.moves(DELIVERED, external_id=second)
    assert statuses(lab_bot) == [SENT, DELIVERED, READ, SENT, DELIVERED]


async def test_read_before_delivered_stays_read(lab_bot: LabBot, customer: Customer) -> None:
    question, answer = await answered(lab_bot, customer)
    await customer.read(answer)
    await customer.delivered(answer)
    _, second = await answered(lab_bot, customer)
    await customer.delivered(second)
    await lab_bot.moves(DELIVERED, external_id=second)
    assert statuses(lab_bot) == [SENT, READ, SENT, DELIVERED]
    assert (await lab_bot.reply_to(question)).status is READ


async def test_a_late_receipt_has_its_own_time(lab_bot: LabBot, customer: Customer) -> None:
    question, answer = await answered(lab_bot, customer)
    at = (now() + dt.timedelta(hours=7)).replace(microsecond=0)
    await customer.gives_receipt("read", answer, at=at)
    await lab_bot.moves(READ, external_id=answer)
    assert (await lab_bot.reply_to(question)).read_at == at


async def test_one_receipt_moves_all_the_messages_that_it_names(lab_bot: LabBot, customer: Customer) -> None:
    answers = [(await answered(lab_bot, customer))[1] for _ in range(3)]
    await customer.read(answers[0], *answers[1:])
    for answer in answers:
        await lab_bot.moves(READ, external_id=answer)


@pytest.mark.parametrize("addressed", ["lid", "phone"])
async def test_a_receipt_finds_its_message_by_either_address(
    lab_bot: LabBot, customer: Customer, addressed: str
) -> None:
    _, answer = await answered(lab_bot, customer)
    await customer.gives_receipt("read", answer, addressed="phone" if addressed == "phone" else "lid")
    await lab_bot.moves(READ, external_id=answer)


async def test_what_was_played_was_read(lab_bot: LabBot, customer: Customer) -> None:
    _, answer = await answered(lab_bot, customer)
    await customer.played(answer)
    await lab_bot.moves(READ, external_id=answer)


async def test_receipts_before_the_acknowledgement_wait_for_it(
    lab_bot: LabBot, lab: Lab, customer: Customer
) -> None:
    await answered(lab_bot, customer)
    with lab.hold_acks():
        question = await customer.says("price?")
        answer = await customer.hears("From 10 to 50.")
        await customer.delivered(answer)
        await customer.read(answer)
        await customer.says("obrigada", id="3A0000000000000000000001")
        # What comes after them is recorded, so they were: as early ones, which change nothing yet.
        await until_recorded(lab_bot, "3A0000000000000000000001")
        assert statuses(lab_bot) == [SENT]
    await lab_bot.moves(READ, external_id=answer.id)
    assert statuses(lab_bot)[:3] == [SENT, SENT, READ]
    shown = await lab_bot.reply_to(question)
    assert (shown.status, shown.delivered_at is not None) == (READ, True)


async def until_recorded(bot: LabBot, message_id: str) -> None:
    async def recorded() -> bool:
        keys = "SELECT count(*) FROM sidestep.message_keys WHERE external_id = $1"
        return bool(await bot.database.fetchval(keys, message_id))

    await until(recorded)


async def test_receipts_for_what_we_never_sent_change_nothing(lab_bot: LabBot, customer: Customer) -> None:
    _, answer = await answered(lab_bot, customer)
    await customer.gives_receipt("read", "3EB0FFFFFFFFFFFFFFFFFF")
    await customer.gives_receipt("delivered", "3EB0FFFFFFFFFFFFFFFFFF", answer)
    await lab_bot.moves(DELIVERED, external_id=answer)
    assert statuses(lab_bot) == [SENT, DELIVERED]


@pytest.mark.parametrize("kind", ["inactive", "read-self", "peer_msg"])
async def test_a_receipt_that_says_nothing_of_the_customer_changes_nothing(
    lab_bot: LabBot, customer: Customer, kind: str
) -> None:
    _, answer = await answered(lab_bot, customer)
    await customer.gives_receipt(kind, answer)
    await customer.delivered(answer)
    await lab_bot.moves(DELIVERED, external_id=answer)
    await answered(lab_bot, customer)
    assert statuses(lab_bot) == [SENT, DELIVERED, SENT]


@pytest.mark.parametrize("kind", ["server-error", "a-kind-of-tomorrow"])
async def test_a_receipt_that_the_library_cannot_pass_on_costs_only_its_connection(
    lab_bot: LabBot, customer: Customer, kind: str
) -> None:
    """neonize's Go gives up at a receipt whose kind it does not know; a phone that misses our media sends one."""
    _, answer = await answered(lab_bot, customer)
    await customer.gives_receipt(kind, answer)
    await lab_bot.connected()
    await customer.delivered(answer)
    await lab_bot.moves(DELIVERED, external_id=answer)
    await answered(lab_bot, customer)
    assert statuses(lab_bot) == [SENT, DELIVERED, SENT]


async def test_what_the_owner_reads_says_nothing_of_the_customer(
    lab_bot: LabBot, owner: Owner, customer: Customer
) -> None:
    question, answer = await answered(lab_bot, customer)
    await owner.read(question, to=customer)
    await owner.delivered(answer, to=customer)
    await answered(lab_bot, customer)
    assert statuses(lab_bot) == [SENT, SENT]


async def test_a_send_without_acknowledgement_is_unknown_until_a_receipt_comes(
    dsn: str, lab: Lab, owner: Owner, customer: Customer
) -> None:
    bot = LabBot(dsn, lab, longest_send=dt.timedelta(seconds=1))
    await bot.start()
    await bot.pair(owner)
    await answered(bot, customer)
    with lab.hold_acks():
        question = await customer.says("price?")
        answer = await customer.hears("From 10 to 50.")
        await bot.moves(Status.UNKNOWN)
    shown = await bot.reply_to(question)
    assert (shown.status, shown.external_id) == (Status.UNKNOWN, None)
    await bot.connected()
    await customer.delivered(answer)
    await bot.moves(DELIVERED)
    shown = await bot.reply_to(question)
    assert (shown.status, shown.external_id, shown.inferred) == (DELIVERED, answer.id, True)
    assert [heard.id for heard in customer.heard].count(answer.id) == 1
    await bot.stop()


async def test_receipts_of_an_outage_come_after_it(lab_bot: LabBot, lab: Lab, customer: Customer) -> None:
    question, answer = await answered(lab_bot, customer)
    async with lab.outage():
        await customer.delivered(answer)
        await customer.read(answer)
    await lab_bot.moves(READ, external_id=answer)
    shown = await lab_bot.reply_to(question)
    assert (shown.status, shown.delivered_at is not None) == (READ, True)


async def test_receipts_that_whatsapp_brings_twice_and_the_wrong_way_round(
    lab_bot: LabBot, lab: Lab, customer: Customer
) -> None:
    question, answer = await answered(lab_bot, customer)
    with lab.duplicates(), lab.reorders():
        await customer.delivered(answer)
        await customer.read(answer)
    await lab_bot.moves(READ, external_id=answer)
    await answered(lab_bot, customer)
    assert (await lab_bot.reply_to(question)).status is READ
    assert statuses(lab_bot) == [SENT, READ, SENT]
