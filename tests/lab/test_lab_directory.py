"""The virtual address book: what the real library asks about numbers and people is answered truly."""

import pytest
from neonize.utils.jid import build_jid

from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from tests.lab.bot_client import BotClient

pytestmark = pytest.mark.lab

NOBODY = "5511000000000"


async def test_numbers_with_and_without_whatsapp_are_told_apart(
    lab: Lab, client: BotClient, customer: Customer
) -> None:
    answers = await client.api.is_on_whatsapp(customer.number, f"+{NOBODY}")
    assert [answer.IsIn for answer in answers] == [True, False]
    assert answers[0].JID.User == customer.account.lid.user
    assert lab.unanswered == []


async def test_a_person_has_devices_and_an_about_and_here_no_picture(
    lab: Lab, client: BotClient, owner: Owner, customer: Customer
) -> None:
    customer.account.about = "No trabalho"
    people = [build_jid(each.account.phone.user) for each in (customer, owner)]
    answers = {answer.JID.User: answer.UserInfo for answer in await client.api.get_user_info(*people)}
    ana, dona = (answers[jid.User] for jid in people)
    assert (ana.Status, ana.PictureID) == ("No trabalho", "")
    assert len(ana.Devices) == 1
    assert len(dona.Devices) == 2
    assert lab.unanswered == []


async def test_of_a_number_without_whatsapp_nothing_is_known(lab: Lab, client: BotClient) -> None:
    answers = await client.api.get_user_info(build_jid(NOBODY))
    assert [len(answer.UserInfo.Devices) for answer in answers] == [0]
    assert lab.unanswered == []


async def test_a_number_has_its_lid_and_a_lid_its_number(
    lab: Lab, client: BotClient, customer: Customer
) -> None:
    phone, lid = build_jid(customer.account.phone.user), build_jid(customer.account.lid.user, "lid")
    await client.api.get_user_info(phone)
    assert (await client.api.get_lid_from_pn(phone)).User == customer.account.lid.user
    assert (await client.api.get_pn_from_lid(lid)).User == customer.account.phone.user
    assert lab.unanswered == []
