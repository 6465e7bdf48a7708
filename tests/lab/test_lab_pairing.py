"""Linking the real neonize to an owner's number, and coming back without a new code."""

from pathlib import Path

import pytest
from neonize.aioze.events import DisconnectedEv, LoggedOutEv, StreamReplacedEv

from bot.lab.errors import LabError
from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from tests.lab.bot_client import BotClient
from tests.lab.conftest import Link

pytestmark = pytest.mark.lab


@pytest.mark.smoke
async def test_scanning_the_code_links_the_account(lab: Lab, owner: Owner, tmp_path: Path) -> None:
    client = BotClient(tmp_path / "bot.db", lab.proxy_url)
    await client.connect()
    device = await owner.scan(await client.qr_codes.expect())
    await client.connected()
    assert client.api.me.JID.User == owner.account.phone.user
    assert client.api.me.JID.Device == device.number
    assert owner.linked == [device]
    assert lab.unanswered == []
    assert lab.refused == []
    await client.stop()


async def test_the_camera_may_be_faster_than_the_client_s_word_that_it_has_the_code(
    lab: Lab, owner: Owner, tmp_path: Path
) -> None:
    client = BotClient(tmp_path / "bot.db", lab.proxy_url)
    with lab.slow_network(latency=0.2):
        await client.connect()
        await owner.scan(await client.qr_codes.expect())
    await client.connected()
    await client.stop()


async def test_a_stored_session_resumes_without_a_code(
    lab: Lab, owner: Owner, customer: Customer, tmp_path: Path
) -> None:
    first = BotClient(tmp_path / "bot.db", lab.proxy_url)
    await first.connect()
    await owner.scan(await first.qr_codes.expect())
    await first.connected()
    await first.stop()
    again = BotClient(tmp_path / "bot.db", lab.proxy_url)
    await again.connect()
    await again.connected()
    await customer.says("oi")
    await again.message("oi")
    assert again.qr_codes == []
    await again.stop()


async def test_a_code_of_nobody_is_refused(owner: Owner) -> None:
    with pytest.raises(LabError, match="expired"):
        await owner.scan("https://wa.me/settings/linked_devices#cmVm,AAAA,AAAA,AAAA,6")
    with pytest.raises(LabError, match="not a QR code"):
        await owner.scan("https://example.org")


async def test_unlinking_on_the_phone_logs_the_client_out(client: BotClient, owner: Owner) -> None:
    owner.unlinks()
    await client.event(LoggedOutEv)
    assert owner.linked == []


async def test_a_second_connection_of_the_same_device_replaces_the_first(
    lab: Lab, client: BotClient, customer: Customer, tmp_path: Path
) -> None:
    second = BotClient(tmp_path / "0.db", lab.proxy_url)  # the same store
    await second.connect()
    await second.connected()
    await client.event(StreamReplacedEv)
    await customer.says("oi")
    await second.message("oi")
    assert client.messages == []
    await second.stop()


async def test_one_account_may_have_two_linked_devices(link: Link, owner: Owner, customer: Customer) -> None:
    one, two = await link(owner), await link(owner)
    await customer.says("oi")
    await one.message("oi")
    await two.message("oi")
    assert [device.number for device in owner.linked] == [1, 2]


async def test_a_client_that_was_unlinked_while_away_is_logged_out_at_its_next_login(
    lab: Lab, client: BotClient, owner: Owner
) -> None:
    async with lab.outage():
        await client.event(DisconnectedEv)
        owner.unlinks()
    await client.event(LoggedOutEv)


async def test_a_qr_code_is_renewed_and_only_the_one_shown_links(
    lab: Lab, owner: Owner, tmp_path: Path
) -> None:
    lab.offer_qr_codes(2)  # shown for 20 seconds each, as whatsmeow has it
    client = BotClient(tmp_path / "bot.db", lab.proxy_url)
    await client.connect()
    first = await client.qr_codes.expect()
    second = await client.qr_codes.expect(what="the second QR code")
    with pytest.raises(LabError, match="another one by now"):
        await owner.scan(first)
    await owner.scan(second)
    await client.connected()
    await client.stop()
