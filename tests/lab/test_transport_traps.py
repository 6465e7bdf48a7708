"""What neonize does to those who do not know it, each trap sprung; the table is in docs/whatsapp.md.

What could end the process is tried in a process of its own.
"""

import asyncio
import gc
import sys
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from bot.lab.timeline import PATIENCE
from bot.transports.base import ConnectionState, NotConnected
from bot.transports.whatsapp import session
from bot.transports.whatsapp.threads import gate
from storage.models import Jid, MessageType
from tests.conftest import connected, until
from tests.lab.transport_bot import TransportBot, make_session_schema

pytestmark = pytest.mark.lab

PRELUDE = """
import asyncio, os, sys
from pathlib import Path
from bot.lab.trust import CERTIFICATE_VARIABLE, ROOT_VARIABLE, adopt
adopt(Path(os.environ[CERTIFICATE_VARIABLE]), bytes.fromhex(os.environ[ROOT_VARIABLE]))
from bot.transports.base import Content, NotConnected
from bot.transports.whatsapp import library
from bot.transports.whatsapp.link import Link
from bot.transports.whatsapp.session import make_tables, session_store_url
from storage.models import Jid

DSN, PROXY = sys.argv[1], os.environ["SIDESTEP__WHATSAPP__PROXY"]
"""


@pytest.fixture
async def bot(empty_dsn: str, lab: Lab, owner: Owner) -> AsyncIterator[TransportBot]:
    """Paired and connected."""
    await make_session_schema(empty_dsn)
    bot = TransportBot(empty_dsn, lab)
    await bot.pair(owner)
    yield bot
    await bot.stop()


async def in_a_process_of_its_own(lab: Lab, dsn: str, script: str) -> str:
    """What the script prints; fails with its errors where it does not come to its end."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PRELUDE + script, dsn),
        env=lab.child_environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        printed, errors = await asyncio.wait_for(child.communicate(), 60)
    finally:
        if child.returncode is None:
            child.kill()
    assert child.returncode == 0, errors.decode()[:4000]
    return printed.decode()


async def test_what_would_end_the_process_is_refused_before_a_login_and_after_a_stop(
    empty_dsn: str, lab: Lab
) -> None:
    await make_session_schema(empty_dsn)
    script = """
async def refused(link, *more):
    neonize, ana = library.load(), Jid("200000000000001@lid")
    message = neonize.messages.Message(conversation="x")
    calls = [
        lambda: link.other_form(ana), lambda: link.other_form(Jid("5511888880001@s.whatsapp.net")),
        lambda: link.ask_for_lid(Jid("5511888880001@s.whatsapp.net")), lambda: link.describe(Jid("1@g.us")),
        lambda: link.is_logged_in(), lambda: link.be_seen(True), lambda: link.show_typing(None, True),
        lambda: link.acknowledge_deliveries(), lambda: link.unlink(), lambda: link.download(message),
        lambda: link.upload(b"x", neonize.enums.MediaType.MediaImage), *more,
        lambda: link.open_vote(neonize.protocol.Message()),
    ]
    for number, call in enumerate(calls):
        try:
            await asyncio.wait_for(call(), 60)
        except NotConnected:
            continue
        raise AssertionError(f"call {number} was not refused")
    assert not await link.answers(within=1)

async def main():
    await make_tables(DSN)
    library.bind_loop(asyncio.get_running_loop())
    shown = asyncio.Event()
    link = Link(library.load(), name="shop", store_url=session_store_url(DSN), device=None, proxy=PROXY)
    code = lambda: link.pairing_code("+5511999990000")
    await refused(link, code)
    await link.start({}, lambda code: shown.set(), lambda status: None)
    await asyncio.wait_for(shown.wait(), 60)
    await refused(link)
    await link.leave()
    await link.close()
    link.stop_hearing()
    await refused(link, code)
    print("alive")

asyncio.run(main())
"""
    # Go's own words may be printed before.
    assert (await in_a_process_of_its_own(lab, empty_dsn, script)).endswith("alive\n")


async def test_a_number_without_a_session_does_not_end_the_process(
    empty_dsn: str, lab: Lab, owner: Owner
) -> None:
    await make_session_schema(empty_dsn)
    script = """
from datetime import UTC, datetime
from bot.transports.base import PairingCode
from bot.transports.whatsapp.client import WhatsAppTransport

async def main():
    shown = asyncio.Event()
    transport = WhatsAppTransport(
        account="shop", store_dsn=DSN, jid=Jid("5511999990000@s.whatsapp.net"), proxy=PROXY,
        clock=lambda: datetime.now(UTC),
    )
    running = asyncio.create_task(transport.run(lambda event: isinstance(event, PairingCode) and shown.set()))
    await asyncio.wait_for(shown.wait(), 60)
    running.cancel()
    await asyncio.wait([running])
    print("alive")

asyncio.run(main())
"""
    assert (await in_a_process_of_its_own(lab, empty_dsn, script)).endswith("alive\n")


async def test_the_stores_tables_are_made_once_by_however_many(empty_dsn: str, lab: Lab) -> None:
    await make_session_schema(empty_dsn)
    script = """
async def main():
    await asyncio.gather(*(make_tables(DSN) for _ in range(8)))

asyncio.run(main())
"""
    await in_a_process_of_its_own(lab, empty_dsn, script)


async def test_sessions_lie_in_a_schema_of_their_own(bot: TransportBot, empty_dsn: str) -> None:
    async with connected(empty_dsn) as store:
        found = await store.fetch(
            "SELECT DISTINCT schemaname FROM pg_tables WHERE tablename LIKE 'whatsmeow%'"
        )
    assert [row["schemaname"] for row in found] == ["whatsmeow"]


async def test_a_stopped_client_leaves_no_connection_to_the_store(
    empty_dsn: str, lab: Lab, owner: Owner, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_IDLE_SESSION_SECONDS", 1)
    await make_session_schema(empty_dsn)
    bot = TransportBot(empty_dsn, lab)
    await bot.pair(owner)
    await bot.stop()
    async with connected(empty_dsn) as store:

        async def nobody_else_is_there() -> bool:
            others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            return bool(await store.fetchval(others + " AND pid <> pg_backend_pid()") == 0)

        await until(nobody_else_is_there)
        # A client that goes on does not notice that its idle ones were closed.
        again = TransportBot(empty_dsn, lab, jid=Jid(owner.phone_jid))
        again.start()
        await again.reaches(ConnectionState.CONNECTED)
        await until(nobody_else_is_there)
        await customer.says("oi")
        await again.message("oi")
        await again.says(customer.lid, "olá")
        await customer.hears("olá")
        await again.stop()


async def test_a_name_with_commas_is_found_again(empty_dsn: str, lab: Lab) -> None:
    await make_session_schema(empty_dsn)
    bakery = lab.owner("+5511999990000", name="Dona, Pães, Doces e Cia.")
    bot = TransportBot(empty_dsn, lab)
    await bot.pair(bakery)

    async with connected(empty_dsn) as store:

        async def has_its_name() -> bool:
            return bool(await store.fetchval("SELECT push_name LIKE '%,%' FROM whatsmeow.whatsmeow_device"))

        await until(has_its_name)
    await bot.stop()
    again = TransportBot(empty_dsn, lab, jid=Jid(bakery.phone_jid))
    again.start()
    await again.reaches(ConnectionState.CONNECTED)
    assert again.qr_codes == []
    await again.stop()


async def test_what_whatsapp_has_delivered_before_a_stop_is_heard(
    bot: TransportBot, customer: Customer
) -> None:
    texts = [f"linha {i}" for i in range(150)]

    async def write() -> None:
        for text in texts:
            await customer.says(text)

    writing = asyncio.create_task(write())
    for moment in (10, 60):
        await bot.message(texts[moment])
        await bot.transport.suspend()
        await bot.transport.resume()
        await bot.reaches(ConnectionState.CONNECTED)
    await writing
    await bot.message(texts[-1])
    assert [message.text for message in bot.messages] == texts


async def test_what_the_store_holds_up_is_heard_after_the_disconnection(
    empty_dsn: str, lab: Lab, owner: Owner, customer: Customer
) -> None:
    await make_session_schema(empty_dsn)
    bot = TransportBot(empty_dsn, lab)
    await bot.pair(owner)
    await customer.says("oi")
    await bot.message("oi")
    async with connected(empty_dsn) as store, connected(empty_dsn) as looking:

        async def go_waits() -> bool:
            return bool(await looking.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))

        async with store.transaction():
            await store.execute("LOCK TABLE whatsmeow.whatsmeow_sessions IN ACCESS EXCLUSIVE MODE")
            await customer.says("how much is it?")
            await until(go_waits)
            await bot.transport.suspend()
    await bot.message("how much is it?")
    # It comes again, as nobody could acknowledge it, and does not open twice.
    await bot.transport.resume()
    await customer.says("hello?")
    await bot.message("hello?")
    assert [message.text for message in bot.messages] == ["oi", "how much is it?", "hello?"]
    await bot.stop()


async def test_what_a_link_takes_that_cannot_be_stopped_yet_is_heard(
    bot: TransportBot, lab: Lab, owner: Owner, customer: Customer
) -> None:
    (device,) = owner.linked
    with lab.ignore_questions("passive"):
        # It is let in, and not "connected" before the library has its answers.
        await bot.transport.suspend()
        await bot.transport.resume()
        await device.online.wait()
        others = await asyncio.to_thread(gate.change)
        await bot.transport.suspend()
        await customer.says("how much is it?")
        await bot.message("how much is it?")
        gate.leave(others)
    await bot.transport.resume()
    await customer.says("hello?")
    await bot.message("hello?")
    assert [message.text for message in bot.messages] == ["how much is it?", "hello?"]


async def test_a_client_that_is_gone_stops_nobody(bot: TransportBot, customer: Customer) -> None:
    for _ in range(2):
        link = bot.transport._link
        assert link is not None
        client = link._client
        await bot.transport.suspend()
        assert not client._stop_finalizer.alive
        with pytest.raises(NotConnected):
            await asyncio.wait_for(link.other_form(Jid(customer.lid)), PATIENCE)
        del link, client
        await bot.transport.resume()
        await bot.reaches(ConnectionState.CONNECTED)
        await asyncio.to_thread(gc.collect)
        await bot.says(customer.lid, "ainda aqui")
        await customer.hears("ainda aqui")


async def test_what_does_not_open_is_told_of_and_arrives_when_it_comes_again(
    bot: TransportBot, customer: Customer
) -> None:
    with capture_logs() as logs:
        message_id = await customer.says("quanto custa?", damaged=True)
        message = await bot.message("quanto custa?")
    assert (message.external_id, message.type) == (message_id, MessageType.TEXT)
    assert [message.type for message in bot.messages] == [MessageType.TEXT]
    assert bot.transport.dropped["undecryptable"] == 1
    told = [entry for entry in logs if entry["event"] == "whatsapp_message_undecryptable"]
    assert [entry["message_id"] for entry in told] == [message_id]
    [unopened] = bot.unopened
    assert (unopened.external_id, unopened.type, unopened.chat) == (
        message_id,
        MessageType.UNDECRYPTABLE,
        message.chat,
    )
