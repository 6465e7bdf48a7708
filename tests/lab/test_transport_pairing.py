"""The transport gets connected and stays so: pairing, resuming, outages, and every way of ending."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator

import pytest

from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from bot.lab.timeline import PATIENCE
from bot.transports.base import ConnectionState, Content, NotConnected
from bot.transports.whatsapp import watch
from storage.models import Jid
from tests.conftest import connected
from tests.lab.transport_bot import AT_ONCE, TransportBot, make_session_schema

pytestmark = pytest.mark.lab


@pytest.fixture
async def bot(empty_dsn: str, lab: Lab) -> AsyncIterator[TransportBot]:
    await make_session_schema(empty_dsn)
    bot = TransportBot(empty_dsn, lab)
    yield bot
    await bot.stop()


@pytest.mark.smoke
async def test_a_phone_links_the_account_by_its_qr_code(bot: TransportBot, owner: Owner) -> None:
    await bot.pair(owner)
    paired = await bot.paired.expect()
    assert (paired.jid, paired.lid) == (owner.phone_jid, owner.lid)
    changes = list(bot.states)
    assert [change.connection.state for change in changes] == [
        ConnectionState.STARTING,
        ConnectionState.PAIRING,
        ConnectionState.CONNECTED,
    ]
    assert changes[-1].own == (owner.phone_jid, owner.lid)
    assert bot.transport.connection.can_send
    assert bot.transport.connection.can_receive


@pytest.mark.smoke
async def test_a_restart_resumes_without_a_code(
    bot: TransportBot, empty_dsn: str, lab: Lab, owner: Owner, customer: Customer
) -> None:
    await bot.pair(owner)
    await bot.stop()
    assert bot.transport.connection.state is ConnectionState.STOPPED
    await customer.says("enquanto isso")
    again = TransportBot(empty_dsn, lab, jid=Jid(owner.phone_jid))
    again.start()
    await again.reaches(ConnectionState.CONNECTED)
    await again.message("enquanto isso")
    assert again.qr_codes == []
    assert again.transport.connection.state is ConnectionState.CONNECTED
    await again.stop()


async def test_a_known_number_without_a_session_is_paired_again(
    bot: TransportBot, empty_dsn: str, lab: Lab, owner: Owner
) -> None:
    known = TransportBot(empty_dsn, lab, jid=Jid(owner.phone_jid))
    await known.pair(owner)
    await known.stop()


async def test_it_stops_at_once_while_it_shows_a_code(bot: TransportBot) -> None:
    bot.start()
    await bot.qr_codes.expect()
    started = time.monotonic()
    await bot.stop()
    assert time.monotonic() - started < AT_ONCE


@pytest.mark.smoke
async def test_a_dropped_connection_comes_back_by_itself(
    bot: TransportBot, lab: Lab, owner: Owner, customer: Customer
) -> None:
    await bot.pair(owner)
    await lab.drop()
    await bot.reaches(ConnectionState.RECONNECTING)
    await bot.reaches(ConnectionState.CONNECTED)
    await customer.says("ainda aí?")
    await bot.message("ainda aí?")


async def test_sends_fail_at_once_during_an_outage_and_messages_are_queued(
    bot: TransportBot, lab: Lab, owner: Owner, customer: Customer
) -> None:
    await bot.pair(owner)
    async with lab.outage():
        await bot.reaches(ConnectionState.RECONNECTING)
        assert not bot.transport.connection.can_send
        with pytest.raises(NotConnected):
            await bot.says(customer.lid, "olá")
        await customer.says("oi?")
    await bot.reaches(ConnectionState.CONNECTED)
    await bot.message("oi?")
    await bot.says(customer.lid, "olá")
    await customer.hears("olá")


async def test_it_starts_during_an_outage_and_connects_after_it(
    bot: TransportBot, empty_dsn: str, lab: Lab, owner: Owner
) -> None:
    await bot.pair(owner)
    await bot.stop()
    again = TransportBot(empty_dsn, lab, jid=Jid(owner.phone_jid))
    async with lab.outage():
        again.start()
        change = await again.reaches(ConnectionState.RECONNECTING)
        assert change.connection.advice is not None
    await again.reaches(ConnectionState.CONNECTED)
    await again.stop()


async def test_what_comes_while_suspended_waits_at_whatsapp(
    bot: TransportBot, owner: Owner, customer: Customer
) -> None:
    await bot.pair(owner)
    await bot.transport.suspend()
    await bot.reaches(ConnectionState.SUSPENDED)
    await customer.says("um")
    await customer.says("dois")
    with pytest.raises(NotConnected):
        await bot.transport.send(Jid(customer.lid), Content(text="olá"))
    assert bot.messages == []
    await bot.transport.resume()
    await bot.reaches(ConnectionState.CONNECTED)
    await bot.message("dois")
    assert [message.text for message in bot.messages] == ["um", "dois"]
    assert bot.qr_codes[1:] == []


async def test_it_ends_when_the_phone_removes_the_device(bot: TransportBot, owner: Owner) -> None:
    await bot.pair(owner)
    owner.unlinks()
    change = await bot.reaches(ConnectionState.LOGGED_OUT)
    assert change.connection.advice is not None
    assert bot.running is not None
    await asyncio.wait_for(bot.running, PATIENCE)
    assert bot.transport.connection.state is ConnectionState.LOGGED_OUT


async def test_it_ends_when_another_program_takes_the_session(
    bot: TransportBot, empty_dsn: str, lab: Lab, owner: Owner, customer: Customer
) -> None:
    await bot.pair(owner)
    other = TransportBot(empty_dsn, lab, jid=Jid(owner.phone_jid))
    other.start()
    await bot.reaches(ConnectionState.REPLACED)
    assert bot.running is not None
    await asyncio.wait_for(bot.running, PATIENCE)
    await customer.says("oi")
    await other.message("oi")
    assert bot.messages == []
    await other.stop()


async def test_after_a_loss_of_its_sessions_customers_are_asked_for_new_keys(
    bot: TransportBot, empty_dsn: str, lab: Lab, owner: Owner, customer: Customer
) -> None:
    """As after a restore. The first request has no keys, and what comes by it does not open either."""
    await bot.pair(owner)
    await customer.says("oi")
    await bot.message("oi")
    await bot.says(customer.lid, "olá")
    await customer.hears("olá")
    await bot.stop()
    async with connected(empty_dsn) as store:
        await store.execute("DELETE FROM whatsmeow.whatsmeow_sessions")
    again = TransportBot(empty_dsn, lab, jid=Jid(owner.phone_jid))
    again.start()
    await again.reaches(ConnectionState.CONNECTED)
    message_id = await customer.says("quanto custa?")
    assert (await again.message("quanto custa?")).external_id == message_id
    receipts = [stanza.node for stanza in lab.stanzas if stanza.node.tag == "receipt"]
    requests = [node for node in receipts if node.text("type", "") == "retry"]
    assert [node.find("keys") is not None for node in requests] == [False, True]
    await again.says(customer.lid, "de 10 a 50")
    await customer.hears("de 10 a 50")
    assert customer.phone.retries == []
    await again.stop()


async def test_it_shows_the_code_again_when_whatsapp_drops_it_while_pairing(
    bot: TransportBot, lab: Lab, owner: Owner
) -> None:
    bot.start()
    first = await bot.qr_codes.expect()
    await lab.drop()
    second = await bot.qr_codes.expect(what="another code")
    assert second != first
    await owner.scan(second)
    await bot.reaches(ConnectionState.CONNECTED)


async def test_a_code_that_nobody_renews_is_replaced_by_a_new_client(
    bot: TransportBot, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_FIRST_QR_SECONDS", 0.5)
    bot.start()
    first = await bot.qr_codes.expect()
    second = await bot.qr_codes.expect(what="another code")
    assert second != first
    monkeypatch.undo()
    await owner.scan(await bot.qr_codes.expect(lambda code: code != second))
    await bot.reaches(ConnectionState.CONNECTED)


async def test_two_accounts_share_one_store_and_one_process(
    empty_dsn: str, lab: Lab, customer: Customer
) -> None:
    await make_session_schema(empty_dsn)
    owners = lab.owner("+5511999990000"), lab.owner("+5511999990002", name="Padaria")
    bots = [TransportBot(empty_dsn, lab, account=name) for name in ("shop", "bakery")]
    for bot in bots:
        bot.start()
    for bot, owner in zip(bots, owners, strict=True):
        await owner.scan(await bot.qr_codes.expect())
        await bot.reaches(ConnectionState.CONNECTED)
    for bot, owner in zip(bots, owners, strict=True):
        await customer.says(f"oi {owner.name}", to=owner)
        await bot.message(f"oi {owner.name}")
    await bots[0].stop()
    await bots[1].says(customer.lid, "ainda aqui")
    await customer.hears("ainda aqui")
    await bots[1].stop()


async def test_the_process_ends_while_a_code_is_shown(empty_dsn: str, lab: Lab) -> None:
    await make_session_schema(empty_dsn)
    script = """
import asyncio, os, sys
from datetime import UTC, datetime
from pathlib import Path
from bot.lab.trust import CERTIFICATE_VARIABLE, ROOT_VARIABLE, adopt
adopt(Path(os.environ[CERTIFICATE_VARIABLE]), bytes.fromhex(os.environ[ROOT_VARIABLE]))
from bot.transports.base import PairingCode
from bot.transports.whatsapp.client import WhatsAppTransport

async def main():
    shown = asyncio.Event()
    transport = WhatsAppTransport(
        account="shop", store_dsn=sys.argv[1], jid=None,
        proxy=os.environ["SIDESTEP__WHATSAPP__PROXY"], clock=lambda: datetime.now(UTC),
    )
    running = asyncio.create_task(transport.run(lambda event: isinstance(event, PairingCode) and shown.set()))
    await shown.wait()
    running.cancel()
    await asyncio.wait([running])

asyncio.run(main())
"""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, empty_dsn, env=lab.child_environment(), stderr=asyncio.subprocess.PIPE
    )
    _, errors = await asyncio.wait_for(child.communicate(), PATIENCE)
    assert child.returncode == 0, errors.decode()
    assert b"Traceback" not in errors
