"""What an owner is shown to link a number, over the transport: pairing codes, QR codes, their ends; and unlinking."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from bot.lab.errors import LabError
from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from bot.lab.timeline import PATIENCE
from bot.transports.base import ConnectionState, NotConnected, PairingFailed
from storage.models import Jid
from tests.lab.transport_bot import TransportBot, make_session_schema

pytestmark = pytest.mark.lab


@pytest.fixture
async def bot(empty_dsn: str, lab: Lab) -> AsyncIterator[TransportBot]:
    """It shows QR codes."""
    await make_session_schema(empty_dsn)
    bot = TransportBot(empty_dsn, lab)
    yield bot
    await bot.stop()


@pytest.fixture
async def phone_bot(empty_dsn: str, lab: Lab, owner: Owner) -> AsyncIterator[TransportBot]:
    """It asks for a code for the owner's number."""
    await make_session_schema(empty_dsn)
    bot = TransportBot(empty_dsn, lab, phone=owner.number)
    yield bot
    await bot.stop()


async def test_a_phone_links_the_account_by_the_code_for_its_number(
    phone_bot: TransportBot, owner: Owner, customer: Customer
) -> None:
    phone_bot.start()
    await owner.enters(await phone_bot.codes.expect(what="a pairing code"))
    pairing = await phone_bot.reaches(ConnectionState.PAIRING)
    assert "enter the code" in str(pairing.connection.advice)
    assert pairing.connection.next_try is not None
    await phone_bot.reaches(ConnectionState.CONNECTED)
    assert phone_bot.qr_codes == []
    await customer.says("oi")
    await phone_bot.message("oi")


async def test_an_expired_code_is_followed_by_a_new_one(
    phone_bot: TransportBot, lab: Lab, owner: Owner
) -> None:
    phone_bot.start()
    first = await phone_bot.codes.expect(what="a pairing code")
    lab.expire_pairing()
    second = await phone_bot.codes.expect(what="another code")
    with pytest.raises(LabError, match="not the code"):
        await owner.enters(first)
    await owner.enters(second)
    await phone_bot.reaches(ConnectionState.CONNECTED)


async def test_an_expired_qr_code_is_followed_by_a_new_one(bot: TransportBot, lab: Lab, owner: Owner) -> None:
    bot.start()
    first = await bot.qr_codes.expect()
    lab.expire_pairing()
    second = await bot.qr_codes.expect(what="another QR code")
    with pytest.raises(LabError, match="expired"):
        await owner.scan(first)
    await owner.scan(second)
    await bot.reaches(ConnectionState.CONNECTED)


@pytest.mark.parametrize(("error", "words"), [(429, "no more codes"), (400, "country code")])
async def test_whatsapp_gives_out_no_code(
    phone_bot: TransportBot, lab: Lab, owner: Owner, error: int, words: str
) -> None:
    with lab.refuse_codes(error):
        phone_bot.start()
        assert phone_bot.running is not None
        with pytest.raises(PairingFailed, match=words):
            await asyncio.wait_for(asyncio.shield(phone_bot.running), PATIENCE)
    assert phone_bot.transport.connection.state is ConnectionState.STOPPED
    assert owner.linked == []


async def test_a_number_is_unlinked_and_can_be_paired_again(
    bot: TransportBot, empty_dsn: str, lab: Lab, owner: Owner
) -> None:
    with pytest.raises(NotConnected):
        await bot.transport.unlink()
    await bot.pair(owner)
    await bot.transport.unlink()
    assert owner.linked == []
    assert bot.running is not None
    await asyncio.wait_for(bot.running, PATIENCE)
    assert bot.transport.connection.state is ConnectionState.LOGGED_OUT
    again = TransportBot(empty_dsn, lab, jid=Jid(owner.phone_jid))
    await again.pair(owner)
    assert len(owner.linked) == 1
    await again.stop()
