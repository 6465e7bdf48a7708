"""What may go wrong between a client and WhatsApp, and how the real neonize takes it."""

import asyncio
import socket

import pytest
from neonize.aioze.events import DisconnectedEv
from neonize.events import UndecryptableMessageEv
from neonize.exc import SendMessageError
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message
from neonize.utils.jid import build_jid

from bot.lab.errors import Unheard
from bot.lab.lab import Lab
from bot.lab.network import Pace, slowed
from bot.lab.people import Customer, Owner
from tests.conftest import until
from tests.lab.bot_client import BotClient

pytestmark = pytest.mark.lab


async def acknowledged(owner: Owner) -> None:
    """Come back when the owner's linked client has acknowledged all it was sent, also what came with the pairing."""

    async def nothing_waits() -> bool:
        return owner.linked[0].waiting == 0

    await until(nothing_waits)


async def test_a_cut_connection_comes_back_by_itself(lab: Lab, client: BotClient, customer: Customer) -> None:
    await lab.drop()
    await client.event(DisconnectedEv)
    await client.connected()
    await customer.says("oi")
    await client.message("oi")


async def test_what_was_written_during_an_outage_arrives_after_it_in_order(
    lab: Lab, client: BotClient, owner: Owner, customer: Customer
) -> None:
    await acknowledged(owner)
    async with lab.outage():
        await client.event(DisconnectedEv)
        await customer.says("oi")
        await owner.says("já respondo", to=customer)
        await customer.says("obrigada")
        assert owner.linked[0].waiting == 3
    await client.connected()
    for text in ("oi", "já respondo", "obrigada"):
        await client.message(text)
    assert len(client.messages) == 3


async def test_what_a_client_has_acknowledged_is_not_sent_again(
    lab: Lab, client: BotClient, owner: Owner, customer: Customer
) -> None:
    message_id = await customer.says("oi")
    await customer.sees_receipt(message_id)
    await acknowledged(owner)
    await lab.drop()
    await client.event(DisconnectedEv)
    await client.connected()
    await customer.says("tchau")
    await client.message("tchau")
    assert len(client.messages) == 2


async def test_a_refused_send_fails_with_its_code(lab: Lab, client: BotClient, customer: Customer) -> None:
    chat = build_jid(customer.account.lid.user, "lid")
    with lab.refuse_sends(463, to=customer) as refusal, pytest.raises(SendMessageError, match="463"):
        await client.api.send_message(chat, Message(conversation="oferta"))
    await client.api.send_message(chat, Message(conversation="olá"))
    await customer.hears("olá")
    assert len(refusal.refused) == 1
    assert [heard.text for heard in customer.heard] == ["olá"]


async def test_a_message_may_arrive_long_before_its_acknowledgement(
    lab: Lab, client: BotClient, customer: Customer
) -> None:
    chat = build_jid(customer.account.lid.user, "lid")
    with lab.hold_acks() as held:
        sending = asyncio.ensure_future(client.api.send_message(chat, Message(conversation="olá")))
        heard = await customer.hears("olá")
        assert held.ids == [heard.id]
        assert not sending.done()
    assert heard.id == (await sending).ID


async def test_a_server_that_restarts_is_found_again(lab: Lab, client: BotClient, owner: Owner) -> None:
    lab.close_stream(owner.linked[0], code="503")
    await client.event(DisconnectedEv)
    await client.connected()


async def test_a_phone_without_its_keys_asks_again(client: BotClient, customer: Customer) -> None:
    chat = build_jid(customer.account.lid.user, "lid")
    await customer.says("oi")
    await client.message("oi")
    customer.phone.forget_sessions()
    await client.api.send_message(chat, Message(conversation="olá"))
    heard = await customer.hears("olá")
    assert customer.phone.retries == [heard.id]


@pytest.mark.smoke
async def test_what_does_not_open_is_sent_again(client: BotClient, customer: Customer) -> None:
    await customer.says("oi")
    await client.message("oi")
    message_id = await customer.says("quanto custa?", damaged=True)
    undecryptable = await client.event(UndecryptableMessageEv)
    assert message_id == undecryptable.Info.ID
    assert message_id == (await client.message("quanto custa?")).Info.ID


async def test_what_the_owners_phone_wrote_is_sent_again_too(
    client: BotClient, owner: Owner, customer: Customer
) -> None:
    message_id = await owner.says("já respondo", to=customer, damaged=True)
    assert message_id == (await client.event(UndecryptableMessageEv)).Info.ID
    source = (await client.message("já respondo")).Info.MessageSource
    assert source.IsFromMe
    assert source.Chat.User == customer.account.lid.user


async def test_nobody_else_can_be_reached_through_the_lab(lab: Lab) -> None:
    host, port = lab.proxy_url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 403")
    writer.close()
    await writer.wait_closed()
    assert lab.refused == ["CONNECT example.org:443"]


async def test_waiting_for_what_does_not_come_says_so(customer: Customer) -> None:
    with pytest.raises(Unheard, match="'olá' did not come"):
        await customer.hears("olá", within=0.01)
    await customer.hears_nothing(during=0.01)


async def test_a_slow_line_brings_so_many_bytes_in_a_second_and_no_more() -> None:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    far_reader, far_writer = await asyncio.open_connection(sock=theirs)
    clock, pace = asyncio.get_running_loop().time, Pace(latency=0.1, bytes_per_second=40_000)
    async with slowed(reader, writer, pace) as (slow_reader, slow_writer):
        began = clock()
        far_writer.write(bytes(20_000))
        assert await slow_reader.readexactly(20_000) == bytes(20_000)
        there = clock()
        slow_writer.write(b"ok")
        assert await far_reader.readexactly(2) == b"ok"
        assert (there - began >= 0.6, clock() - there >= 0.1) == (True, True)
    far_writer.close()
    await far_writer.wait_closed()
