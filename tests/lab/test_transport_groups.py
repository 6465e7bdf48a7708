"""What happens in groups arrives as our nouns, and the whole daemon answers there as the configuration says."""

from collections.abc import AsyncIterator

import pytest

from bot.lab.groups import Group
from bot.lab.heard import Heard
from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from bot.transports.base import ConnectionState, Content
from storage.models import Action, Address, ChatNamed, ExternalId, Jid, MessageType, Quoted, Status
from tests.lab.lab_bot import LabBot
from tests.lab.test_transport_media import png, serving
from tests.lab.transport_bot import TransportBot, make_session_schema

pytestmark = pytest.mark.lab


@pytest.fixture
async def bot(empty_dsn: str, lab: Lab, owner: Owner) -> AsyncIterator[TransportBot]:
    """Paired and connected."""
    await make_session_schema(empty_dsn)
    bot = TransportBot(empty_dsn, lab)
    await bot.pair(owner)
    yield bot
    await bot.stop()


@pytest.fixture
def bia(lab: Lab) -> Customer:
    return lab.customer("+5511888880002", name="Bia")


@pytest.fixture(params=["lid", "phone"])
def group(request: pytest.FixtureRequest, lab: Lab, owner: Owner, customer: Customer, bia: Customer) -> Group:
    return lab.group("Amigas", owner, customer, bia, addressed=request.param)


def asked_for_groups(lab: Lab) -> list[str]:
    """The groups that clients have looked up."""
    queries = (stanza.node for stanza in lab.stanzas if stanza.node.text("xmlns", "") == "w:g2")
    return [str(query.jid("to")) for query in queries]


def quoted_in(heard: Heard) -> tuple[str, str, str]:
    """What a phone shows above this message."""
    ((_, content),) = [pair for pair in heard.proto.ListFields() if pair[0].name != "messageContextInfo"]
    context = content.contextInfo
    return context.stanzaID, context.participant, context.quotedMessage.conversation


async def test_a_members_message_tells_the_group_and_both_addresses_of_the_member(
    bot: TransportBot, customer: Customer, group: Group
) -> None:
    message_id = await customer.says("oi gente", to=group)
    message = await bot.message("oi gente")
    assert message.external_id == message_id
    assert message.is_group
    assert message.chat == Address(jid=Jid(str(group)))
    assert message.sender.jid == str(group.address(customer.account))
    assert set(message.sender.jids) == {customer.lid, customer.phone_jid}
    assert message.push_name == "Ana"
    assert not any((message.from_me, message.to_self, message.mentions_me, message.reply_to_me))
    assert message.sender_device == 0


async def test_a_message_whose_key_got_lost_is_asked_for_and_is_no_repeat(
    bot: TransportBot, owner: Owner, customer: Customer, group: Group
) -> None:
    customer.phone.takes_for_told(group, owner.account)
    message_id = await customer.says("oi gente", to=group)
    message = await bot.messages.expect(lambda message: message.external_id == message_id)
    # Had it been delivered before, as one that cannot be read, the store would take its text for a repeat.
    assert (message.type, message.text) == (MessageType.TEXT, "oi gente")
    assert bot.transport.dropped["undecryptable"] == 1


async def test_the_key_that_comes_with_a_first_message_is_no_message(
    bot: TransportBot, customer: Customer, bia: Customer, group: Group
) -> None:
    first = await customer.says("um", to=group)
    second = await bia.sends_image(b"png", caption="dois", to=group)
    await bot.message("dois")
    assert [message.external_id for message in bot.messages] == [first, second]
    assert bot.messages[1].type is MessageType.IMAGE
    assert bot.transport.dropped["no_content"] == 2


async def test_a_member_is_known_by_both_addresses_although_a_message_tells_only_one(
    bot: TransportBot, customer: Customer, bia: Customer, group: Group
) -> None:
    await customer.says("um", to=group)
    await bot.subjects.expect(what="the group's name")
    # Who is in the group was told with its name, so also this member's other address.
    await bia.says("dois", to=group, with_alt=False)
    assert set((await bot.message("dois")).sender.jids) == {bia.lid, bia.phone_jid}


async def test_mentions_of_us_and_replies_to_us_are_seen(
    bot: TransportBot, owner: Owner, customer: Customer, bia: Customer, group: Group
) -> None:
    await bot.says(str(group), "de 10 a 50")
    price = await customer.hears("de 10 a 50", chat=group)
    await customer.says("@loja oi", to=group, mentions=[owner])
    assert (await bot.message("@loja oi")).mentions_me
    await customer.says("@bia oi", to=group, mentions=[bia])
    hers = await bia.hears("@bia oi", chat=group)
    assert not (await bot.message("@bia oi")).mentions_me
    await customer.says("por quê?", to=group, quoted=price)
    reply = await bot.message("por quê?")
    assert (reply.reply_to, reply.reply_to_me) == (price.id, True)
    await bia.says("oi ana", to=group, quoted=hers)
    other = await bot.message("oi ana")
    assert (other.reply_to, other.reply_to_me) == (hers.id, False)


async def test_what_the_owner_writes_in_a_group_is_the_owners(
    bot: TransportBot, owner: Owner, customer: Customer, group: Group
) -> None:
    await owner.says("já vou", to=group)
    message = await bot.message("já vou")
    assert (message.from_me, message.is_group, message.to_self) == (True, True, False)
    assert message.chat.jid == str(group)
    assert set(message.sender.jids) == {owner.lid, owner.phone_jid}


async def test_edits_revokes_and_reactions_in_a_group_name_their_message(
    bot: TransportBot, owner: Owner, customer: Customer, bia: Customer, group: Group
) -> None:
    sent = await bot.says(str(group), "olá")
    answer = await bia.hears("olá", chat=group)
    message_id = await customer.says("um", to=group)
    said = await bia.hears("um", chat=group)
    await customer.edits(message_id, "dois", to=group)
    await bia.reacts(said, "👍", to=group)
    await bia.reacts(answer, "❤️", to=group)
    await customer.revokes(message_id, to=group)
    await owner.revokes(said, to=group)
    changes = [await bot.messages.expect(lambda message: message.reply_to is not None) for _ in range(5)]
    told = [(each.type, each.text, each.reply_to, each.reply_to_me, each.from_me) for each in changes]
    assert told == [
        (MessageType.EDIT, "dois", message_id, False, False),
        (MessageType.REACTION, "👍", message_id, False, False),
        (MessageType.REACTION, "❤️", sent.external_id, True, False),
        (MessageType.REVOKE, None, message_id, False, False),
        (MessageType.REVOKE, None, message_id, False, True),
    ]


async def test_receipts_and_typing_of_members_are_the_groups(
    bot: TransportBot, bia: Customer, group: Group
) -> None:
    sent = await bot.says(str(group), "olá")
    heard = await bia.hears("olá", chat=group)
    await bia.delivered(heard, to=group)
    await bia.read(heard, to=group)
    for status in (Status.DELIVERED, Status.READ):
        receipt = await bot.receipt(sent)
        assert (receipt.chat, receipt.status) == (Address(jid=Jid(str(group))), status)
    await bia.types(to=group)
    typing = await bot.typing.expect(what="typing")
    assert (typing.chat.jid, typing.typing) == (str(group), True)


async def test_text_and_media_go_to_all_members(
    bot: TransportBot, customer: Customer, bia: Customer, group: Group
) -> None:
    await bot.says(str(group), "olá @5511777770000")
    asked = await customer.says("foto?", to=group)
    quoted = Quoted(external_id=ExternalId(asked), sender=Jid(customer.lid), text="foto?")
    async with serving(png()) as url:
        photo = Content(text="foto", media_url=url, media_type=MessageType.IMAGE, quoted=quoted)
        await bot.sends(str(group), photo)
    for person in (customer, bia):
        await person.hears("olá @5511777770000", chat=group)
        heard = await person.hears("foto", chat=group)
        assert heard.media() == png()
        assert quoted_in(heard) == (asked, customer.lid, "foto?")


async def test_a_group_is_named_behind_its_first_message_and_whenever_it_is_renamed(
    bot: TransportBot, owner: Owner, lab: Lab, customer: Customer, group: Group
) -> None:
    await customer.says("um", to=group)
    first = await bot.subjects.expect(what="a name")
    assert first == ChatNamed(chat=Address(jid=Jid(str(group))), name="Amigas")
    await customer.says("dois", to=group)
    await bot.message("dois")
    group.rename("Família", by=customer)
    assert (await bot.subjects.expect(what="a new name")).name == "Família"
    # Who is taken into a group is told of it: nothing is asked.
    club = lab.group("Clube", customer, lab.customer("+5511888880009"))
    club.add(owner, by=customer)
    await customer.says("bem-vinda", to=club)
    assert (await bot.subjects.expect(what="a name")).name == "Clube"
    assert asked_for_groups(lab) == []
    assert len(bot.subjects) == 3


async def test_a_group_that_the_bot_came_into_unnoticed_is_asked_for(
    bot: TransportBot, lab: Lab, owner: Owner, customer: Customer
) -> None:
    club = lab.group("Clube", customer)
    club.add(owner, by=customer, quietly=True)
    for text in ("um", "dois"):
        await customer.says(text, to=club)
    assert (await bot.subjects.expect(what="a name")).name == "Clube"
    await bot.message("dois")
    assert asked_for_groups(lab) == [str(club)]


async def test_after_a_restart_a_group_goes_on(
    bot: TransportBot, empty_dsn: str, lab: Lab, owner: Owner, customer: Customer, group: Group
) -> None:
    await customer.says("um", to=group)
    await bot.message("um")
    await bot.stop()
    waiting = await customer.says("dois", to=group)
    again = TransportBot(empty_dsn, lab, jid=Jid(owner.phone_jid))
    again.start()
    await again.reaches(ConnectionState.CONNECTED)
    assert (await again.message("dois")).external_id == waiting
    await again.says(str(group), "olá")
    await customer.hears("olá", chat=group)
    assert (await again.subjects.expect(what="a name")).name == "Amigas"
    await again.stop()


async def test_a_mention_is_answered_and_talk_among_members_is_left_alone(
    lab_bot: LabBot, owner: Owner, customer: Customer, bia: Customer, group: Group
) -> None:
    talk = await customer.says("the price?", to=group)
    assert (await lab_bot.decided(talk)).action is Action.IGNORED_GROUP
    asked = await bia.says("@loja the price?", to=group, mentions=[owner])
    answer = await customer.hears("From 10 to 50.", chat=group)
    assert (await lab_bot.decided(asked)).action is Action.KEYWORD_REPLIED
    assert quoted_in(answer) == (asked, bia.lid, "@loja the price?")
    follow = await customer.says("and the price of cakes?", to=group, quoted=answer)
    assert (await lab_bot.decided(follow)).action is Action.KEYWORD_REPLIED
    await bia.hears(lambda heard: heard.id != answer.id and heard.text == answer.text, chat=group)
    (shown,) = await lab_bot.why(asked)
    assert (shown.chat.name, shown.chat.is_group) == ("Amigas", True)


async def test_the_owner_may_talk_in_a_group_without_silencing_the_bot(
    lab_bot: LabBot, owner: Owner, customer: Customer, group: Group
) -> None:
    spoke = await owner.says("hi all", to=group)
    assert (await lab_bot.decided(spoke)).action is Action.HUMAN_SPOKE
    asked = await customer.says("@loja price?", to=group, mentions=[owner])
    assert (await lab_bot.decided(asked)).action is Action.KEYWORD_REPLIED


async def test_where_configured_the_owner_takes_a_group_over(
    dsn: str, lab: Lab, owner: Owner, customer: Customer, group: Group
) -> None:
    bot = LabBot(dsn, lab, takeover={"groups": True})
    await bot.start()
    await bot.pair(owner)
    spoke = await owner.says("hi all", to=group)
    assert (await bot.decided(spoke)).action is Action.PAUSED
    asked = await customer.says("@loja price?", to=group, mentions=[owner])
    assert (await bot.decided(asked)).action is Action.IGNORED_PAUSED
    await bot.stop()
