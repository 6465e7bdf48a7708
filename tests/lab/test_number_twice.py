"""A daemon whose second account is linked to its first one's number takes that link back."""

import pytest

from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from bot.transports.base import ConnectionChanged, ConnectionState
from tests.lab.lab_bot import LabBot

pytestmark = pytest.mark.lab


async def test_the_daemon_takes_a_number_that_is_linked_twice_off_the_phone_again(
    lab: Lab, dsn: str, owner: Owner, customer: Customer
) -> None:
    bot = LabBot(dsn, lab, owners={"shop": owner.number, "twin": owner.number})
    await bot.start()
    await bot.pair(owner)
    await owner.scan(await bot.codes["twin"].expect(what="a QR code"))
    await bot.heard["twin"].expect(
        lambda event: (
            isinstance(event, ConnectionChanged) and event.connection.state is ConnectionState.LOGGED_OUT
        ),
        what="the end of the second link",
    )
    assert len(owner.linked) == 1
    await customer.says("oi")
    await customer.hears("Hello!")
    await bot.stop()
