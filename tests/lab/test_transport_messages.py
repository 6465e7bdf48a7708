"""What customers and the owner's phone do arrives as our nouns, in order; what the bot says reaches phones."""

import asyncio
import datetime as dt
import json
import time
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from bot.lab.timeline import PATIENCE
from bot.transports.base import ConnectionState, Content, NotConnected, SendRefused, SendUnconfirmed
from storage.models import Address, Jid, MessageType, Status
from tests.lab.transport_bot import AT_ONCE, TransportBot, get_two_ticks, make_session_schema, now

pytestmark = pytest.mark.lab


@pytest.fixture
async def bot(empty_dsn: str, lab: Lab, owner: Owner) -> AsyncIterator[TransportBot]:
    """Paired and connected."""
    await make_session_schema(empty_dsn)
    bot = TransportBot(empty_dsn, lab)
    await bot.pair(owner)
    yield bot
    await bot.stop()


async def test_a_customer_has_both_addresses_whichever_she_writes_from(
    bot: TransportBot, customer: Customer
) -> None:
    await customer.says("do LID", addressed="lid")
    await customer.says("do número", addressed="phone")
    by_lid, by_phone = await bot.message("do LID"), await bot.message("do número")
    lid, phone = Jid(customer.lid), Jid(customer.phone_jid)
    assert by_lid.chat == by_lid.sender == Address(jid=lid, alt=phone)
    assert by_phone.chat == by_phone.sender == Address(jid=phone, alt=lid)
    assert by_lid.push_name == "Ana"
    assert not by_lid.from_me
    assert not by_lid.to_self
    assert abs(by_lid.sent_at - now()) < dt.timedelta(minutes=1)


async def test_a_lid_without_its_number_gets_it_from_what_was_seen_before(
    bot: TransportBot, customer: Customer
) -> None:
    await customer.says("um")
    await customer.says("dois", with_alt=False)
    assert (await bot.message("dois")).chat.alt == customer.phone_jid


async def test_after_a_restart_the_store_tells_the_number_for_the_next_message(
    bot: TransportBot, empty_dsn: str, lab: Lab, owner: Owner, customer: Customer
) -> None:
    await customer.says("um")
    await bot.message("um")
    await bot.stop()
    again = TransportBot(empty_dsn, lab, jid=Jid(owner.phone_jid))
    again.start()
    await again.reaches(ConnectionState.CONNECTED)
    deadline = time.monotonic() + PATIENCE
    alt = None
    while alt is None and time.monotonic() < deadline:
        await customer.says("oi", with_alt=False)
        alt = (await again.message("oi")).chat.alt
    assert alt == customer.phone_jid
    await again.stop()


async def test_two_hundred_messages_arrive_in_order(bot: TransportBot, customer: Customer) -> None:
    texts = [f"linha {i}" for i in range(200)]
    for text in texts:
        await customer.says(text)
    await bot.message(texts[-1])
    assert [message.text for message in bot.messages] == texts


async def test_a_failing_inbox_is_told_of_and_does_not_stop_later_messages(
    bot: TransportBot, customer: Customer
) -> None:
    bot.break_on = "veneno"
    with capture_logs() as logs:
        await customer.says("veneno")
        await customer.says("oi")
        await bot.message("oi")
    failures = [entry for entry in logs if entry["event"] == "whatsapp_event_failed"]
    assert [(entry["event_type"], str(entry["exc_info"])) for entry in failures] == [
        ("MessageEv", "the inbox is broken")
    ]


async def test_the_owners_phone_is_told_apart_from_customers(
    bot: TransportBot, owner: Owner, customer: Customer
) -> None:
    await owner.says("já respondo", to=customer)
    message = await bot.message("já respondo")
    assert message.from_me
    assert not message.to_self
    assert message.sender_device == 0
    assert message.chat.jid == customer.lid
    assert set(message.sender.jids) == {owner.lid, owner.phone_jid}
    assert message.push_name is None


async def test_the_owner_and_the_bot_talk_in_the_chat_with_oneself(bot: TransportBot, owner: Owner) -> None:
    await owner.says("/status")
    message = await bot.message("/status")
    assert message.from_me
    assert message.to_self
    assert set(message.chat.jids) == {owner.lid, owner.phone_jid}
    await bot.says(owner.phone_jid, "tudo bem")
    heard = await owner.hears("tudo bem")
    assert heard.from_me


async def test_the_bots_own_messages_never_come_back(bot: TransportBot, customer: Customer) -> None:
    await bot.says(customer.lid, "olá")
    await customer.hears("olá")
    await customer.says("oi")
    await bot.message("oi")
    assert [message.text for message in bot.messages] == ["oi"]


async def test_text_goes_out_as_it_is_to_either_address(bot: TransportBot, customer: Customer) -> None:
    text = "olá @5511777770000, *tudo* bem? 😀"
    sent = await bot.says(customer.phone_jid, text)
    heard = await customer.hears(text)
    assert heard.id == sent.external_id
    # Nobody is mentioned: neonize makes that of any "@digits" in a text that it is given as a str.
    assert heard.proto.conversation == text
    assert abs(sent.at - now()) < dt.timedelta(minutes=1)
    await bot.says(customer.lid, "de novo")
    await customer.hears("de novo")


async def test_a_customer_who_wrote_is_not_answered_as_by_a_business_bot(
    bot: TransportBot, lab: Lab, customer: Customer
) -> None:
    await customer.says("oi", addressed="phone")
    await bot.message("oi")
    await bot.says(customer.phone_jid, "olá")
    await customer.hears("olá")
    sent = [stanza.node for stanza in lab.stanzas if stanza.node.tag == "message"]
    assert [node.find("bot") for node in sent] == [None]


async def test_the_send_has_started_before_the_first_await(bot: TransportBot, customer: Customer) -> None:
    await bot.says(customer.lid, "primeiro contato")
    prepared = await bot.transport.prepare(Content(text="sem volta"))
    sending = bot.transport.send(Jid(customer.lid), prepared)
    # One step of the coroutine, without the loop: what runs until its first await.
    waiting = sending.send(None)
    await customer.hears("sem volta")
    sending.close()
    assert waiting is not None


async def test_receipts_tell_delivered_then_read(bot: TransportBot, customer: Customer) -> None:
    sent = await bot.says(customer.lid, "olá")
    heard = await customer.hears("olá")
    await customer.delivered(heard)
    await customer.read(heard)
    delivered, read = await bot.receipt(sent), await bot.receipt(sent)
    assert (delivered.status, read.status) == (Status.DELIVERED, Status.READ)
    assert customer.lid in delivered.chat.jids
    assert abs(read.at - now()) < dt.timedelta(minutes=1)


async def test_what_the_owner_reads_is_no_receipt_of_ours(
    bot: TransportBot, owner: Owner, customer: Customer
) -> None:
    message_id = await customer.says("oi")
    await bot.message("oi")
    await owner.read(message_id, to=customer)
    await customer.says("ei")
    await bot.message("ei")
    assert bot.receipts == []


@pytest.mark.usefixtures("bot")
async def test_the_customer_gets_two_ticks(customer: Customer) -> None:
    await get_two_ticks(customer)


async def test_typing_is_seen_both_ways(bot: TransportBot, customer: Customer) -> None:
    await customer.types()
    await customer.types(stops=True)
    begins, ends = await bot.typing.expect(), await bot.typing.expect()
    assert (begins.typing, ends.typing) == (True, False)
    assert customer.lid in begins.chat.jids
    await bot.transport.set_typing(Jid(customer.lid), True)
    await customer.sees_typing()
    await bot.transport.set_typing(Jid(customer.lid), False)
    await customer.chat_states.expect(lambda state: state.state == "paused")


async def test_edits_revokes_and_reactions_name_their_target(bot: TransportBot, customer: Customer) -> None:
    message_id = await customer.says("um")
    sent = await bot.says(customer.lid, "dois")
    answer = await customer.hears("dois")
    await customer.edits(message_id, "três")
    await customer.reacts(answer, "👍")
    await customer.revokes(message_id)
    await customer.says("por quê?", quoted=answer)
    edit, reaction = await bot.message("três"), await bot.message("👍")
    assert (edit.type, edit.reply_to) == (MessageType.EDIT, message_id)
    assert (reaction.type, reaction.reply_to, reaction.reply_to_me) == (
        MessageType.REACTION,
        sent.external_id,
        True,
    )
    revoke = await bot.message(None)
    assert (revoke.type, revoke.reply_to) == (MessageType.REVOKE, message_id)
    question = await bot.message("por quê?")
    assert (question.reply_to, question.reply_to_me) == (sent.external_id, True)


async def test_an_image_arrives_with_its_caption_and_the_means_to_fetch_it(
    bot: TransportBot, customer: Customer
) -> None:
    await customer.sends_image(b"\x89PNG\r\n\x1a\n" + bytes(100), caption="olha")
    message = await bot.message("olha")
    assert message.type is MessageType.IMAGE
    assert message.raw is not None
    assert json.loads(message.raw)["Message"]["imageMessage"]["mediaKey"]


async def test_a_refusal_keeps_its_code(bot: TransportBot, lab: Lab, customer: Customer) -> None:
    with lab.refuse_sends(463), pytest.raises(SendRefused) as refused:
        await bot.says(customer.lid, "olá")
    assert refused.value.code == 463


async def test_a_number_without_whatsapp_is_refused(bot: TransportBot) -> None:
    with pytest.raises(SendRefused):
        await bot.says("5511000000000@s.whatsapp.net", "olá")


async def test_a_send_cut_off_before_its_acknowledgement_is_unconfirmed(
    bot: TransportBot, lab: Lab, customer: Customer
) -> None:
    await bot.says(customer.lid, "olá")
    with lab.hold_acks():
        prepared = await bot.transport.prepare(Content(text="talvez"))
        sending = asyncio.create_task(bot.transport.send(Jid(customer.lid), prepared))
        await customer.hears("talvez")
        async with lab.outage():
            with pytest.raises(SendUnconfirmed):
                await asyncio.wait_for(sending, PATIENCE)


async def test_a_cancelled_send_blocks_the_next_until_it_is_over(
    bot: TransportBot, lab: Lab, customer: Customer
) -> None:
    await bot.says(customer.lid, "olá")
    with lab.hold_acks():
        sending = asyncio.create_task(bot.transport.send(Jid(customer.lid), Content(text="um")))
        await customer.hears("um")
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        with pytest.raises(NotConnected):
            await bot.transport.send(Jid(customer.lid), Content(text="dois"))
        preparing = asyncio.create_task(bot.transport.prepare(Content(text="dois")))
        done, _ = await asyncio.wait([preparing], timeout=0.2)
        assert not done
    await bot.transport.send(Jid(customer.lid), await preparing)
    await customer.hears("dois")


async def test_a_send_that_never_comes_back_costs_only_its_connection(
    empty_dsn: str, lab: Lab, owner: Owner, customer: Customer
) -> None:
    await make_session_schema(empty_dsn)
    bot = TransportBot(empty_dsn, lab, longest_send=dt.timedelta(seconds=1))
    await bot.pair(owner)
    await bot.says(customer.lid, "olá")
    with lab.hold_acks():
        sending = asyncio.create_task(bot.transport.send(Jid(customer.lid), Content(text="um")))
        await customer.hears("um")
        # whatsmeow sends it again on the next connection, and awaits the second acknowledgement for ever.
        await lab.drop()
        with pytest.raises(SendUnconfirmed):
            await asyncio.wait_for(sending, PATIENCE)
    await bot.reaches(ConnectionState.CONNECTED)
    while not bot.transport.connection.can_send:
        await bot.reaches(ConnectionState.CONNECTED)
    await bot.says(customer.lid, "dois")
    await customer.hears("dois")
    await bot.stop()


async def test_it_stops_at_once_while_a_send_is_on_its_way(
    bot: TransportBot, lab: Lab, customer: Customer
) -> None:
    await bot.says(customer.lid, "olá")
    with lab.hold_acks():
        sending = asyncio.create_task(bot.transport.send(Jid(customer.lid), Content(text="um")))
        await customer.hears("um")
        started = time.monotonic()
        await bot.stop()
        assert time.monotonic() - started < AT_ONCE
        with pytest.raises(SendUnconfirmed):
            await asyncio.wait_for(sending, PATIENCE)
