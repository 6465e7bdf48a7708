"""Who uses the lab wrongly is told so at once, and does no harm with it."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from bot.lab.errors import LabError
from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from tests.conftest import until
from tests.lab.bot_client import BotClient

pytestmark = pytest.mark.lab


async def test_a_session_of_another_whatsapp_is_not_logged_out(tmp_path: Path) -> None:
    """A story that is run on a store of one's own number must not cost its link."""
    store = tmp_path / "bot.db"
    async with Lab() as whatsapp:
        owner = whatsapp.owner("+5511999990000")
        client = BotClient(store, whatsapp.proxy_url)
        await client.connect()
        await owner.scan(await client.qr_codes.expect())
        await client.connected()
        await client.stop()
        lab = await Lab.start()
        lab.owner(owner.number)
        strange = BotClient(store, lab.proxy_url)
        await strange.connect()

        async def was_turned_away() -> bool:
            return bool(lab._proxy.failures)

        await until(was_turned_away)
        await strange.stop()
        with pytest.raises(BaseExceptionGroup) as raised:
            await lab.stop()
        for failure in raised.value.exceptions:  # one for each try of the client
            assert "never linked in this lab" in str(failure)
        again = BotClient(store, whatsapp.proxy_url)
        await again.connect()
        await again.connected()
        await again.stop()


@pytest.mark.parametrize("proxy", ["", "http://192.0.2.1:3128", "http://web.example:80"])
async def test_the_host_goes_nowhere_but_to_a_lab_on_this_machine(lab: Lab, proxy: str) -> None:
    environment = {**lab.child_environment(), "SIDESTEP__WHATSAPP__PROXY": proxy}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bot.lab.host", "--", "--help", stderr=PIPE, stdout=PIPE, env=environment
    )
    _, error = await process.communicate()
    assert process.returncode == 1
    assert "does not lead to a lab on this machine" in error.decode()


@pytest.mark.parametrize(
    "number", ["5511999990001", "11 99999-0001", "+55 11 99999-0001", "", "+", "+55\uff11\uff11"]
)
async def test_a_number_has_a_plus_and_digits(lab: Lab, number: str) -> None:
    with pytest.raises(LabError, match="as \\+5511"):
        lab.owner(number)


async def test_a_number_is_one_persons(lab: Lab, owner: Owner) -> None:
    with pytest.raises(LabError, match="somebody's already"):
        lab.customer(owner.number)


async def test_nobody_writes_to_whom_it_cannot_reach(lab: Lab, owner: Owner, customer: Customer) -> None:
    with pytest.raises(LabError, match="name the person"):
        await customer.says("oi", to=owner.number)  # type: ignore[arg-type] # what a script does
    group = lab.group("Amigas", owner, customer)
    with pytest.raises(LabError, match="no member"):
        await lab.customer("+5511888880002").says("oi", to=group)
    async with Lab() as other:
        with pytest.raises(LabError, match="another lab"):
            await other.customer("+5511888880003").says("oi", to=owner)


async def test_in_a_stopped_lab_nobody_says_anything() -> None:
    async with Lab() as lab:
        lab.owner("+5511999990000")
        customer = lab.customer("+5511888880001")
    with pytest.raises(LabError, match="stopped"):
        await customer.says("oi")
