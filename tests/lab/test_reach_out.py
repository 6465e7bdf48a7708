"""A number that WhatsApp lets write to nobody new: the daemon with the real client, and what its owner sees."""

import pytest

from bot.http.health import read_readiness
from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from storage.models import Address, ChatId, Jid, Outgoing, Status
from tests.lab.lab_bot import LabBot

pytestmark = pytest.mark.lab


async def test_a_refused_first_contact_stops_first_contacts_and_no_conversation(
    lab_bot: LabBot, lab: Lab, owner: Owner, customer: Customer
) -> None:
    bia = lab.customer("+5511888880002", name="Bia")
    carla = lab.customer("+5511888880003", name="Carla")
    pipeline = lab_bot.daemon.lines[0].pipeline

    # Who has written is answered; to whom nobody has ever written, a script may try to.
    with lab.refuse_sends(463, to=bia) as refusal:
        for stranger in (bia, carla):
            await pipeline.outbox.send_and_log(
                await chat_with(lab_bot, stranger), Outgoing(text="your cake is ready", fenced=False)
            )
            await lab_bot.moves(Status.FAILED)
        assert len(refusal.refused) == 1
    await owner.hears(lambda heard: "nobody new" in heard.text)
    await customer.says("what is the price?")
    answer = await customer.hears("From 10 to 50.")
    await lab_bot.moves(Status.SENT, external_id=answer.id)
    assert [heard.text for phone in (bia, carla) for heard in phone.heard] == []

    page = (await read_readiness(lab_bot.daemon)).as_json()
    account = page["accounts"]["shop"]
    assert page["ready"]
    assert (account["state"], account["can_send"], account["can_receive"]) == (
        "reach_out_limited",
        True,
        True,
    )
    assert account["next_try"] is not None
    assert "nobody" in account["advice"]
    metrics = lab_bot.daemon.lines[0]._metrics.render().decode().splitlines()
    assert 'sidestep_connection_state{account="shop",state="reach_out_limited"} 1.0' in metrics
    assert 'sidestep_connection_state{account="shop",state="connected"} 0.0' in metrics


async def test_a_customer_whose_answer_was_refused_is_answered_when_they_write_again(
    lab_bot: LabBot, lab: Lab, customer: Customer
) -> None:
    with lab.refuse_sends(463, to=customer):
        refused = await customer.says("what is the price?")
        await lab_bot.moves(Status.FAILED)
    reply = await lab_bot.reply_to(refused)
    assert "463" in (reply.error or "")
    await customer.says("the price, please")
    await customer.hears("From 10 to 50.")


async def test_a_server_in_trouble_gets_the_answer_a_little_later(
    lab_bot: LabBot, lab: Lab, customer: Customer
) -> None:
    with lab.refuse_sends(503, to=customer) as refusal:
        await lab_bot.decided(await customer.says("what is the price?"))
        await refusal.refused.expect()
    answer = await customer.hears("From 10 to 50.")
    await lab_bot.moves(Status.SENT, external_id=answer.id)


async def chat_with(lab_bot: LabBot, customer: Customer) -> ChatId:
    pipeline = lab_bot.daemon.lines[0].pipeline
    address = Address(jid=Jid(customer.phone_jid))
    return await pipeline._stores.messages.identify(pipeline.account, address, lab_bot.daemon._clock.now())
