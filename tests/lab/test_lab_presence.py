"""Who is online and who types, both ways; the bot is online only while it types, so that the owner's phone rings."""

import datetime as dt
from collections.abc import AsyncIterator

import pytest
from neonize.aioze.events import ChatPresenceEv, PresenceEv
from neonize.proto.Neonize_pb2 import ChatPresence
from neonize.utils import enum
from neonize.utils.jid import build_jid

from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from storage.models import Jid, Status
from tests.conftest import until
from tests.lab.bot_client import BotClient
from tests.lab.lab_bot import LabBot
from tests.lab.test_lab_appstate import is_told_a_name
from tests.lab.transport_bot import TransportBot, get_two_ticks, make_session_schema, now

pytestmark = pytest.mark.lab


@pytest.fixture
async def transport(empty_dsn: str, lab: Lab, owner: Owner) -> AsyncIterator[TransportBot]:
    """Paired, and it has told its name."""
    await make_session_schema(empty_dsn)
    bot = TransportBot(empty_dsn, lab)
    await bot.pair(owner)
    await says_it_is(lab, "unavailable")
    yield bot
    await bot.stop()


async def says_it_is(lab: Lab, kind: str) -> None:
    await lab.stanzas.expect(
        lambda stanza: stanza.node.tag == "presence" and stanza.node.text("type") == kind
    )


async def test_a_client_that_watches_a_customer_sees_her_come_and_go(
    client: BotClient, customer: Customer
) -> None:
    await until(lambda: is_told_a_name(client))
    await client.api.send_presence(enum.Presence.AVAILABLE)
    await client.api.subscribe_presence(build_jid(customer.account.lid.user, "lid"))
    unknown = await client.event(PresenceEv)
    customer.opens_whatsapp()
    comes = await client.event(PresenceEv)
    customer.leaves_whatsapp()
    goes = await client.event(PresenceEv)
    assert [each.Unavailable for each in (unknown, comes, goes)] == [True, False, True]
    assert comes.From.User == customer.account.lid.user
    assert abs(dt.datetime.fromtimestamp(goes.LastSeen, dt.UTC) - now()) < dt.timedelta(minutes=1)


async def test_who_has_closed_whatsapp_is_told_of_nobody(customer: Customer, lab: Lab) -> None:
    other = lab.customer("+5511888880002", name="Ben")
    customer.watches(other)
    await customer.sees_offline(other)
    customer.leaves_whatsapp()
    other.opens_whatsapp()
    assert len(customer.presences) == 1


async def test_a_customer_who_records_is_typing(transport: TransportBot, customer: Customer) -> None:
    await customer.types(recording=True)
    await customer.types(stops=True, addressed="phone")
    begins, ends = await transport.typing.expect(), await transport.typing.expect()
    assert (begins.typing, ends.typing) == (True, False)
    assert customer.phone_jid in ends.chat.jids


async def test_a_client_is_told_what_is_recorded(client: BotClient, customer: Customer) -> None:
    await customer.types(recording=True)
    event = await client.event(ChatPresenceEv)
    assert (event.State, event.Media) == (ChatPresence.COMPOSING, ChatPresence.AUDIO)


async def test_the_bot_is_online_only_while_it_types(
    transport: TransportBot, owner: Owner, customer: Customer
) -> None:
    customer.watches(owner)
    await customer.sees_offline(owner)
    await transport.transport.set_typing(Jid(customer.lid), True)
    await customer.sees_online(owner)
    await customer.sees_typing()
    await transport.transport.set_typing(Jid(customer.lid), False)
    seen = await customer.sees_offline(owner)
    assert seen.last_seen is not None


async def test_the_bot_stays_online_until_it_types_to_nobody(
    transport: TransportBot, lab: Lab, owner: Owner, customer: Customer
) -> None:
    other = lab.customer("+5511888880002", name="Ben")
    customer.watches(owner)
    await customer.sees_offline(owner)
    await transport.transport.set_typing(Jid(customer.lid), True)
    await transport.transport.set_typing(Jid(other.lid), True)
    await customer.sees_online(owner)
    await transport.transport.set_typing(Jid(customer.lid), False)
    await transport.says(other.lid, "olá")
    await other.hears("olá")
    await customer.sees_offline(owner)
    assert [seen.online for seen in customer.presences] == [False, True, False]


async def test_an_answer_leaves_the_bot_offline_and_the_owners_phone_ringing(
    dsn: str, lab: Lab, owner: Owner, customer: Customer
) -> None:
    bot = LabBot(dsn, lab, pace={"debounce": "0s", "typing": True, "max_typing": "0.1s"})
    await bot.start()
    await bot.pair(owner)
    await says_it_is(lab, "unavailable")
    customer.watches(owner)
    await customer.sees_offline(owner)
    await customer.says("price?")
    answer = await customer.hears("From 10 to 50.")
    await bot.moves(Status.SENT, external_id=answer.id)
    await customer.sees_typing()
    await customer.sees_online(owner)
    await customer.sees_offline(owner)
    message_id = await customer.says("obrigada")
    await owner.phone.rang.expect(lambda heard: heard.id == message_id)
    await bot.stop()


async def test_a_client_that_stays_online_silences_the_owners_phone(
    client: BotClient, lab: Lab, owner: Owner, customer: Customer
) -> None:
    """Why the bot does not."""
    await until(lambda: is_told_a_name(client))
    await client.api.send_presence(enum.Presence.AVAILABLE)
    await says_it_is(lab, "available")
    message_id = await customer.says("oi")
    await owner.hears("oi", chat=customer)
    assert message_id not in [heard.id for heard in owner.phone.rang]


async def test_a_name_that_comes_late_is_told_without_waiting_for_an_answer(empty_dsn: str, lab: Lab) -> None:
    owner = lab.owner("+5511999990002", name="Tia", shares_key=False)
    await make_session_schema(empty_dsn)
    bot = TransportBot(empty_dsn, lab)
    await bot.pair(owner)
    owner.settings.gives_key_to(owner.linked[0])
    stanza = await lab.stanzas.expect(lambda stanza: stanza.node.tag == "presence")
    assert (stanza.node.text("type"), stanza.node.text("name")) == ("available", "Tia")
    await says_it_is(lab, "unavailable")
    await bot.stop()


async def test_without_a_name_messages_ticks_and_typing_work_all_the_same(empty_dsn: str, lab: Lab) -> None:
    owner = lab.owner("+5511999990002", shares_key=False)
    customer = lab.customer("+5511888880002")
    await make_session_schema(empty_dsn)
    bot = TransportBot(empty_dsn, lab)
    await bot.pair(owner)
    customer.watches(owner)
    await get_two_ticks(customer)
    await bot.transport.set_typing(Jid(customer.lid), True)
    await customer.sees_typing()
    await bot.says(customer.lid, "olá")
    await customer.hears("olá")
    assert [seen.online for seen in customer.presences] == [False]
    await bot.stop()
