"""What the lab's WhatsApp does not do by itself, and another might: other orders, and events that do not parse."""

import datetime as dt
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.message import DecodeError

from bot.lab import messages, protobuf
from bot.lab.connection import Connection
from bot.lab.lab import Lab
from bot.lab.linked import LinkedDevice
from bot.lab.nodes import SERVER, Node
from bot.lab.people import Customer, Owner
from bot.lab.sessions import Sessions
from bot.transports.base import ConnectionState
from storage.models import MessageType
from tests.lab.test_transport_states import SHORT
from tests.lab.transport_bot import TransportBot, make_session_schema

pytestmark = pytest.mark.lab


@pytest.fixture
async def bot(empty_dsn: str, lab: Lab, owner: Owner) -> AsyncIterator[TransportBot]:
    """Paired and connected."""
    await make_session_schema(empty_dsn)
    bot = TransportBot(empty_dsn, lab, patience=replace(SHORT, let_in=dt.timedelta(seconds=1)))
    await bot.pair(owner)
    yield bot
    await bot.stop()


async def test_what_has_waited_for_a_restart_is_known_to_be_meant_for_us(
    bot: TransportBot, empty_dsn: str, lab: Lab, owner: Owner, customer: Customer
) -> None:
    group = lab.group("Amigas", owner, customer)
    await customer.says("oi gente", to=group)
    await bot.message("oi gente")
    await bot.stop()
    await customer.says("e você?", to=group, mentions=[owner])
    await owner.says("nota", to=owner)
    again = TransportBot(empty_dsn, lab, jid=bot.transport._people.own[0])
    with lab.slow_network(latency=0.1):  # "connected" comes behind
        again.start()
        assert (await again.message("e você?")).mentions_me
        assert (await again.message("nota")).to_self
    await again.stop()


async def test_a_second_end_of_what_has_waited_makes_no_connection(
    bot: TransportBot, lab: Lab, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach = LinkedDevice.attach

    def attach_and_say_so_again(self: LinkedDevice, connection: Any, courier: Any) -> None:
        attach(self, connection, courier)
        connection.send(Node("ib", {"from": SERVER}, (Node("offline", {"count": "0"}),)))

    await bot.transport.suspend()
    monkeypatch.setattr(LinkedDevice, "attach", attach_and_say_so_again)
    await customer.says("esperei")
    with lab.ignore_questions("passive"):
        await bot.transport.resume()
        await bot.message("esperei")
        async with lab.outage():
            await bot.reaches(ConnectionState.RECONNECTING)
            await bot.states.expect_none(
                lambda change: change.connection.state is ConnectionState.CONNECTED, during=2
            )


@pytest.mark.parametrize("depth", [30, 34, 200])
async def test_quotes_of_quotes_without_end_are_recorded(
    bot: TransportBot, customer: Customer, monkeypatch: pytest.MonkeyPatch, depth: int
) -> None:
    opens = Sessions.open

    def as_well_as_it_can(*details: Any) -> Any:
        try:
            return opens(*details)
        except DecodeError:
            return messages.text("")

    monkeypatch.setattr(Sessions, "open", as_well_as_it_can)
    message = protobuf.Message(conversation="oi")
    for _ in range(depth):
        outer = protobuf.Message()
        outer.extendedTextMessage.text = "oi"
        outer.extendedTextMessage.contextInfo.quotedMessage.CopyFrom(message)
        message = outer
    message_id = await customer.sends(message)
    await customer.says("e agora?")
    await bot.message("e agora?")
    recorded = next(heard for heard in bot.messages if heard.external_id == message_id)
    assert recorded.type is (MessageType.TEXT if depth == 30 else MessageType.UNDECRYPTABLE)
    assert customer.lid in recorded.chat.jids


async def test_the_chat_with_oneself_is_known_though_the_pairing_did_not_tell_our_lid(
    empty_dsn: str, lab: Lab, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = Connection.send

    def send_without_lid(self: Connection, node: Node) -> None:
        if device := node.find("pair-success", "device"):
            success = node.child("pair-success")
            bare = Node("device", {"jid": device.attrs["jid"]})
            parts = tuple(bare if part is device else part for part in success.children)
            node = Node(node.tag, node.attrs, (Node(success.tag, success.attrs, parts),))
        send(self, node)

    monkeypatch.setattr(Connection, "send", send_without_lid)
    await make_session_schema(empty_dsn)
    bot = TransportBot(empty_dsn, lab)
    await bot.pair(owner)
    await owner.says("nota", to=owner)
    assert (await bot.message("nota")).to_self
    await bot.stop()
