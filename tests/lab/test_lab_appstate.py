"""What the owner sets on the phone reaches linked devices: the push name, saved contacts, marks on chats."""

import asyncio
from typing import Any

import pytest
from neonize.exc import SendAppStateError, SendPresenceError
from neonize.proto.Neonize_pb2 import MutationInfo, PatchInfo
from neonize.utils import enum
from neonize.utils.jid import build_jid

from bot.lab import protobuf
from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from bot.lab.timeline import PATIENCE
from tests.conftest import until
from tests.lab.bot_client import BotClient
from tests.lab.conftest import Link

pytestmark = pytest.mark.lab


async def is_told_a_name(client: BotClient) -> bool:
    """Without a name of its own a client cannot say that it is there."""
    try:
        await client.api.send_presence(enum.Presence.UNAVAILABLE)
    except SendPresenceError:
        return False
    return True


async def says_its_name(lab: Lab, name: str) -> None:
    await lab.stanzas.expect(
        lambda stanza: stanza.node.tag == "presence" and stanza.node.text("name") == name
    )


def phone_of(customer: Customer) -> Any:
    return build_jid(customer.account.phone.user)


async def saved_name(client: BotClient, customer: Customer) -> str:
    contact = await client.api.contact.get_contact(phone_of(customer))
    return str(contact.FullName)


async def marks(client: BotClient, customer: Customer) -> tuple[bool, bool, bool]:
    """Whether the chat is muted, pinned and archived."""
    chat = await client.api.chat_settings.get_chat_settings(phone_of(customer))
    return chat.MutedUntil > 0, chat.Pinned, chat.Archived


async def test_a_linked_client_learns_the_owners_name(lab: Lab, client: BotClient, owner: Owner) -> None:
    await until(lambda: is_told_a_name(client))
    await says_its_name(lab, "Dona")
    assert lab.unanswered == []


async def test_the_key_is_no_message_and_is_acknowledged(client: BotClient, owner: Owner) -> None:
    await until(lambda: is_told_a_name(client))

    async def acknowledged() -> bool:
        return owner.linked[0].waiting == 0

    await until(acknowledged)
    assert client.messages == []


async def test_a_new_name_reaches_a_client_that_has_the_old_one(
    lab: Lab, client: BotClient, owner: Owner
) -> None:
    await until(lambda: is_told_a_name(client))
    owner.settings.calls_oneself("Dona Benta")
    async with asyncio.timeout(PATIENCE):
        telling = asyncio.create_task(says_its_name(lab, "Dona Benta"))
        while not telling.done():
            assert await is_told_a_name(client)
    await telling


async def test_contacts_and_marks_from_before_the_pairing_come_as_a_snapshot(
    link: Link, owner: Owner, customer: Customer
) -> None:
    owner.settings.saves(customer, "Ana Souza")
    owner.settings.pins(customer)
    owner.settings.mutes(customer)
    client = await link(owner)

    async def all_there() -> bool:
        chat = await marks(client, customer)
        return (await saved_name(client, customer), chat) == ("Ana Souza", (True, True, False))

    await until(all_there)


async def test_contacts_and_marks_that_change_later_come_as_patches(
    client: BotClient, owner: Owner, customer: Customer
) -> None:
    await until(lambda: is_told_a_name(client))
    owner.settings.saves(customer, "Ana")
    owner.settings.saves(customer, "Ana Souza")
    owner.settings.archives(customer)
    owner.settings.pins(customer)
    owner.settings.pins(customer, pinned=False)

    async def all_there() -> bool:
        chat = await marks(client, customer)
        return (await saved_name(client, customer), chat) == ("Ana Souza", (False, False, True))

    await until(all_there)


async def test_what_changes_while_a_client_is_away_waits_for_it(
    lab: Lab, client: BotClient, owner: Owner, customer: Customer
) -> None:
    await until(lambda: is_told_a_name(client))
    async with lab.outage():
        owner.settings.saves(customer, "Ana Souza")
    await client.connected()

    async def is_saved() -> bool:
        return await saved_name(client, customer) == "Ana Souza"

    await until(is_saved)


async def test_a_client_without_the_key_asks_the_phone_for_it(lab: Lab, link: Link) -> None:
    owner = lab.owner("+5511999990002", shares_key=False)
    client = await link(owner)
    # It can write to the phone once the phone has written to it.
    await owner.says("nota")
    await client.message("nota")
    owner.settings.shares_key = True
    # The client hears of a change that it cannot read.
    owner.settings.calls_oneself("Dona Benta")
    await until(lambda: is_told_a_name(client))
    await says_its_name(lab, "Dona Benta")


async def test_a_phone_that_never_shares_the_key_leaves_its_clients_nameless(
    lab: Lab, link: Link, customer: Customer
) -> None:
    client = await link(lab.owner("+5511999990002", shares_key=False))
    await customer.says("oi")
    await client.message("oi")
    assert not await is_told_a_name(client)


async def test_what_a_client_wants_to_set_itself_is_no_silent_success(
    lab: Lab, client: BotClient, customer: Customer
) -> None:
    await until(lambda: is_told_a_name(client))
    pin = MutationInfo(
        Index=["pin_v1", customer.phone_jid],
        Version=5,
        Value=protobuf.SyncActionValue(pinAction=protobuf.PinAction(pinned=True)),
    )
    with pytest.raises(SendAppStateError, match="501"):
        await client.api.send_app_state(PatchInfo(Timestamp=0, Type=PatchInfo.REGULAR_LOW, Mutations=[pin]))
    [question] = lab.unanswered
    assert "w:sync:app:state" in question
