"""Groups: the real client and the phones in one understand each other, as keys, members and devices change."""

from typing import Any

import pytest
from neonize.aioze.events import ChatPresenceEv, GroupInfoEv
from neonize.events import UndecryptableMessageEv
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message
from neonize.utils import build_jid

from bot.lab.directory import Addressing
from bot.lab.groups import Group
from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from tests.lab.bot_client import BotClient
from tests.lab.conftest import Link

pytestmark = pytest.mark.lab


@pytest.fixture
def bia(lab: Lab) -> Customer:
    return lab.customer("+5511888880002", name="Bia")


@pytest.fixture(params=["lid", "phone"])
def group(request: pytest.FixtureRequest, lab: Lab, owner: Owner, customer: Customer, bia: Customer) -> Group:
    addressed: Addressing = request.param
    return lab.group("Amigas", owner, customer, bia, addressed=addressed)


async def writes(client: BotClient, group: Group, text: str) -> str:
    sent = await client.api.send_message(build_jid(group.jid.user, "g.us"), Message(conversation=text))
    message_id: str = sent.ID
    return message_id


async def test_what_a_member_writes_reaches_bots_and_phones(
    client: BotClient, owner: Owner, customer: Customer, bia: Customer, group: Group
) -> None:
    await customer.says("oi gente", to=group)
    source = (await client.message("oi gente")).Info.MessageSource
    assert source.IsGroup
    assert not source.IsFromMe
    assert (source.Chat.User, source.Chat.Server) == (group.jid.user, "g.us")
    assert source.Sender.User == group.address(customer.account).user
    assert source.SenderAlt.User == customer.account.other_address(group.server).user
    for person in (bia, owner):
        heard = await person.hears("oi gente", chat=group)
        assert (heard.sender, heard.from_me) == (customer.number, False)


async def test_a_senders_key_comes_once_and_as_an_event_of_its_own(
    client: BotClient, customer: Customer, group: Group
) -> None:
    first = await customer.says("um", to=group)
    second = await customer.says("dois", to=group)
    await client.message("dois")
    events = [
        (event.Info.ID, event.Message.HasField("senderKeyDistributionMessage")) for event in client.messages
    ]
    assert events == [(first, True), (first, False), (second, False)]


async def test_the_bot_writes_to_all_members(
    client: BotClient, owner: Owner, customer: Customer, bia: Customer, group: Group
) -> None:
    for text in ("bom dia", "tudo bem?"):
        await writes(client, group, text)
        for person in (customer, bia):
            assert (await person.hears(text, chat=group)).sender == owner.number
        assert (await owner.hears(text, chat=group)).from_me
    assert not customer.phone.retries


async def test_all_talk_to_each_other(
    client: BotClient, customer: Customer, bia: Customer, group: Group
) -> None:
    for turn in range(10):
        await customer.says(f"ana {turn}", to=group)
        await bia.says(f"bia {turn}", to=group)
        await writes(client, group, f"bot {turn}")
        await customer.hears(f"bia {turn}", chat=group)
        await bia.hears(f"bot {turn}", chat=group)
        await client.message(f"ana {turn}")
        await client.message(f"bia {turn}")


async def test_the_owners_other_devices_write_there_as_the_owner(
    link: Link, owner: Owner, customer: Customer, group: Group
) -> None:
    one, other = await link(owner), await link(owner)
    await owner.says("do telefone", to=group)
    for client in (one, other):
        source = (await client.message("do telefone")).Info.MessageSource
        assert (source.IsFromMe, source.Sender.Device, source.IsGroup) == (True, 0, True)
    await writes(other, group, "do computador")
    source = (await one.message("do computador")).Info.MessageSource
    assert (source.IsFromMe, source.Sender.Device) == (True, 2)
    assert source.Chat.User == group.jid.user
    assert (await customer.hears("do computador", chat=group)).sender == owner.number


async def test_mentions_and_replies_name_people_as_the_group_does(
    client: BotClient, owner: Owner, customer: Customer, group: Group
) -> None:
    await writes(client, group, "de 10 a 50")
    price = await customer.hears("de 10 a 50", chat=group)
    await customer.says("@loja por quê?", to=group, mentions=[owner], quoted=price)
    context = (await client.message("@loja por quê?")).Message.extendedTextMessage.contextInfo
    ours = str(group.address(owner.account))
    assert list(context.mentionedJID) == [ours]
    assert (context.stanzaID, context.participant) == (price.id, ours)
    assert context.quotedMessage.conversation == "de 10 a 50"


async def test_edits_revokes_and_reactions_in_a_group(
    client: BotClient, owner: Owner, customer: Customer, bia: Customer, group: Group
) -> None:
    async def revoke(edit: str) -> Any:
        return await client.messages.expect(
            lambda event: event.Info.Edit == edit and event.Message.HasField("protocolMessage")
        )

    message_id = await customer.says("um", to=group)
    said = await bia.hears("um", chat=group)
    await customer.edits(message_id, "dois", to=group)
    await bia.reacts(said, "👍", to=group)
    await customer.revokes(message_id, to=group)
    await owner.revokes(said, to=group)
    edited = await client.messages.expect(lambda event: event.IsEdit or event.Info.Edit == "1")
    assert edited.Info.MessageSource.Sender.User == group.address(customer.account).user
    # Bia's first message here: her key comes as an event of the same type.
    reaction = await client.messages.expect(
        lambda event: event.Message.HasField("reactionMessage"), what="a reaction"
    )
    key = reaction.Message.reactionMessage.key
    assert (key.ID, key.participant) == (message_id, str(group.address(customer.account)))
    own = await revoke("7")
    assert own.Message.protocolMessage.key.fromMe
    admins = await revoke("8")
    assert admins.Message.protocolMessage.key.participant == str(group.address(customer.account))


async def test_the_bots_edits_revokes_and_reactions_reach_the_group(
    client: BotClient, owner: Owner, customer: Customer, bia: Customer, group: Group
) -> None:
    chat, asker = build_jid(group.jid.user, "g.us"), group.address(customer.account)
    question = await customer.says("quanto custa?", to=group)
    await client.message("quanto custa?")
    sent = await writes(client, group, "de 10 a 50")
    await client.api.edit_message(chat, sent, Message(conversation="de 20 a 60"))
    asked_by = build_jid(asker.user, asker.server)
    await client.api.send_message(chat, await client.api.build_reaction(chat, asked_by, question, "👍"))
    await client.api.revoke_message(chat, build_jid(owner.account.phone.user), sent)
    for person in (customer, bia):
        edit = await person.hears("de 20 a 60", chat=group)
        assert sent == edit.content.protocolMessage.key.ID
        reaction = await person.hears(lambda heard: heard.kind == "reaction", chat=group)
        key = reaction.content.reactionMessage.key
        assert (key.ID, key.fromMe, key.participant) == (question, False, str(asker))
        revoke = await person.hears(lambda heard: heard.content.HasField("protocolMessage"), chat=group)
        told = revoke.content.protocolMessage
        assert (told.type, told.key.ID, told.key.fromMe) == (told.REVOKE, sent, True)


async def test_receipts_and_typing_name_the_member(
    client: BotClient, owner: Owner, customer: Customer, bia: Customer, group: Group
) -> None:
    message_id = await customer.says("oi", to=group)
    receipt = await customer.sees_receipt(message_id)
    assert receipt.sender == owner.number
    sent = await writes(client, group, "olá")
    heard = await bia.hears("olá", chat=group)
    await bia.delivered(heard, to=group)
    await bia.read(heard, to=group)
    for kind in (1, 4):
        told = await client.receipt(kind)
        source = told.MessageSource
        assert (list(told.MessageIDs), source.Chat.User) == ([sent], group.jid.user)
        assert source.Sender.User == group.address(bia.account).user
    await bia.types(to=group)
    state = await client.event(ChatPresenceEv)
    assert state.MessageSource.Sender.User == group.address(bia.account).user


async def test_what_the_owner_read_on_the_phone_is_told_to_the_bot(
    client: BotClient, owner: Owner, customer: Customer, group: Group
) -> None:
    message_id = await customer.says("oi", to=group)
    await owner.read(await owner.hears("oi", chat=group), to=group)
    told = await client.receipts.expect(lambda receipt: list(receipt.MessageIDs) == [message_id])
    assert told.MessageSource.IsFromMe


async def test_a_message_that_does_not_open_is_asked_for_and_comes_again(
    client: BotClient, customer: Customer, group: Group
) -> None:
    await customer.says("um", to=group)
    await client.message("um")
    message_id = await customer.says("dois", to=group, damaged=True)
    undecryptable = await client.event(UndecryptableMessageEv)
    assert message_id == undecryptable.Info.ID
    again = await client.message("dois")
    assert (again.Info.ID, again.Info.MessageSource.Chat.User) == (message_id, group.jid.user)
    await customer.says("três", to=group)
    await client.message("três")


async def test_a_phone_that_lost_its_keys_gets_the_bots_message_again(
    client: BotClient, customer: Customer, bia: Customer, group: Group
) -> None:
    await writes(client, group, "um")
    await customer.hears("um", chat=group)
    customer.phone.forget_sessions()
    sent = await writes(client, group, "dois")
    assert (await customer.hears("dois", chat=group)).id == sent
    assert customer.phone.retries == [sent]
    await bia.hears("dois", chat=group)


async def test_who_joins_hears_what_comes_and_who_leaves_nothing_more(
    lab: Lab, client: BotClient, owner: Owner, customer: Customer, bia: Customer, group: Group
) -> None:
    await customer.says("antes", to=group)
    await client.message("antes")
    carla = lab.customer("+5511888880003", name="Carla")
    group.add(carla, by=owner)
    group.remove(bia, by=owner)
    await client.events.expect(lambda event: bool(getattr(event, "Leave", ())), what="who left")
    await customer.says("depois", to=group)
    await writes(client, group, "bem-vinda")
    await carla.hears("depois", chat=group)
    await carla.hears("bem-vinda", chat=group)
    await customer.hears("bem-vinda", chat=group)
    await client.message("depois")
    assert [heard.text for heard in bia.heard] == ["antes"]
    await carla.says("obrigada", to=group)
    await client.message("obrigada")


async def test_a_sender_that_does_not_know_all_members_is_told_so(
    lab: Lab, client: BotClient, owner: Owner, customer: Customer, group: Group
) -> None:
    await writes(client, group, "um")
    carla = lab.customer("+5511888880003", name="Carla")
    group.add(carla, by=owner, quietly=True)

    def hash_of(message_id: str) -> str:
        sent = (stanza.node for stanza in lab.stanzas if "phash" in stanza.node.attrs)
        return next(node.text("phash") for node in sent if node.text("id") == message_id)

    assert hash_of(await writes(client, group, "dois")) != group.participant_hash()
    await carla.hears("dois", chat=group)  # asked for: its key was not for her
    assert carla.phone.retries
    # Told so, the library asks who is there before its next message, or the one after: it may be at something else.
    while hash_of(await writes(client, group, "três")) != group.participant_hash():
        await carla.hears("três", chat=group)
    asked = len(carla.phone.retries)
    await carla.hears("três", chat=group)
    assert len(carla.phone.retries) == asked


async def test_a_client_asks_for_a_group_and_for_all_of_them(
    lab: Lab, client: BotClient, owner: Owner, customer: Customer, group: Group
) -> None:
    other = lab.group("Sem a loja", customer)
    info = await client.api.get_group_info(build_jid(group.jid.user, "g.us"))
    assert info.GroupName.Name == "Amigas"
    people = {person.JID.User: person.IsAdmin for person in info.Participants}
    assert people[group.address(owner.account).user]
    assert not people[group.address(customer.account).user]
    joined = await client.api.get_joined_groups()
    assert [one.JID.User for one in joined] == [group.jid.user]
    with pytest.raises(Exception, match="not participating"):
        await client.api.get_group_info(build_jid(other.jid.user, "g.us"))


async def test_changes_of_a_group_are_told(
    lab: Lab, client: BotClient, owner: Owner, customer: Customer, group: Group
) -> None:
    group.rename("Família", by=customer)
    renamed = await client.events.expect(
        lambda event: isinstance(event, GroupInfoEv) and event.HasField("Name"), what="a new name"
    )
    assert renamed.Name.Name == "Família"
    group.promote(customer, by=owner)
    promoted = await client.events.expect(lambda event: bool(getattr(event, "Promote", ())))
    assert [one.User for one in promoted.Promote] == [group.address(customer.account).user]


async def test_who_was_removed_cannot_write_any_more(
    client: BotClient, owner: Owner, customer: Customer, group: Group
) -> None:
    await writes(client, group, "um")
    group.remove(owner, by=customer)
    with pytest.raises(Exception, match="403"):
        await writes(client, group, "dois")
    assert [heard.text for heard in customer.heard] == ["um"]
