"""Killed at the named points of a message's path, with the real library: what the phones saw of it."""

import signal

import pytest

from bot.crashpoints import VARIABLE, Point
from bot.lab.people import Customer, Owner
from storage.models import Status
from tests.lab.test_daemon import DaemonProcess, daemon, folder

pytestmark = pytest.mark.lab

__all__ = ["daemon", "folder"]  # fixtures

PRICES = "From 10 to 50."


async def killed_at(daemon: DaemonProcess, point: Point, customer: Customer) -> str:
    """A question, at whose path's point the daemon dies; the question's id."""
    daemon.set(**{VARIABLE: point})
    await daemon.run()
    question = await customer.says("what is the price?")
    code, log = await daemon.ended()
    assert code == -signal.SIGKILL, log
    daemon.set(**{VARIABLE: ""})
    return question


@pytest.mark.parametrize("point", [Point.RECORDED, Point.PROPOSED, Point.DECIDED])
async def test_what_was_recorded_is_answered_once_by_the_next(
    daemon: DaemonProcess, owner: Owner, customer: Customer, point: Point
) -> None:
    await daemon.pair(owner)
    question = await killed_at(daemon, point, customer)
    assert customer.heard == []
    await daemon.run()
    await customer.hears(PRICES)
    await customer.says("hello")
    await customer.hears("Hello!")
    assert [heard.text for heard in customer.heard] == [PRICES, "Hello!"]
    await daemon.end(signal.SIGTERM)
    [reply] = (await daemon.why(question))["replies"]
    assert reply["status"] == Status.SENT


async def test_what_has_left_unrecorded_is_not_repeated_and_its_receipt_settles_it(
    daemon: DaemonProcess, owner: Owner, customer: Customer
) -> None:
    await daemon.pair(owner)
    question = await killed_at(daemon, Point.SENT, customer)
    await daemon.run()
    await customer.delivered(await customer.hears(PRICES))
    await customer.says("hello")
    await customer.hears("Hello!")
    assert [heard.text for heard in customer.heard] == [PRICES, "Hello!"]
    await daemon.end(signal.SIGTERM)
    [reply] = (await daemon.why(question))["replies"]
    assert reply["status"] == Status.DELIVERED


async def test_what_may_have_left_and_has_not_is_unknown(
    daemon: DaemonProcess, owner: Owner, customer: Customer
) -> None:
    await daemon.pair(owner)
    question = await killed_at(daemon, Point.CLAIMED, customer)
    await daemon.run()
    await customer.says("hello")
    await customer.hears("Hello!")
    assert [heard.text for heard in customer.heard] == ["Hello!"]
    await daemon.end(signal.SIGTERM)
    [reply] = (await daemon.why(question))["replies"]
    assert reply["status"] == Status.UNKNOWN
