"""Two daemons with the real library on one database: one serves the number, the other takes it over."""

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from tests.acceptance.invariants import assert_all_is_well
from tests.acceptance.program import Program
from tests.lab.machine import Machine

pytestmark = pytest.mark.lab

CONFIG = """
tenants:
  - {instance_name: shop, owner: "+5511999990000"}
flows:
  keywords:
    - {match: [price], answer: "From 10 to 50."}
    - {match: [hours], answer: "From 7 to 19."}
    - {match: [where], answer: "In Rua Augusta."}
  default: "Hello!"
pace: {debounce: 0s, typing: false}
"""

# Seven seconds for an answer about the price.
SLOWLY = CONFIG.replace("typing: false", "typing: true, chars_per_second: 2")


@pytest.fixture
async def machine(lab: Lab, dsn: str, owner: Owner, tmp_path: Path) -> AsyncIterator[Machine]:
    """The number is linked, and nobody serves it yet."""
    machine = Machine(lab, tmp_path / "here", dsn)
    machine.configure(CONFIG)
    assert (await machine.scan(owner)).code == 0
    yield machine
    await machine.close()


@asynccontextmanager
async def running(machine: Machine) -> AsyncIterator[Program]:
    program = Program(await machine.start("run"))
    try:
        yield program
    finally:
        program.signal(signal.SIGCONT)
        await program.ensure_end()


@asynccontextmanager
async def two(machine: Machine) -> AsyncIterator[tuple[Program, Program]]:
    """The first serves, the second stands by."""
    async with running(machine) as first:
        await first.logged("connection_changed", state="connected")
        async with running(machine) as second:
            await second.logged("account_stands_by")
            yield first, second


async def assert_well_ended(machine: Machine, *programs: Program) -> None:
    for program in programs:
        program.signal(signal.SIGTERM)
        finished = await program.finished()
        assert (finished.code, "Traceback" in finished.err) == (0, False), finished.err
    assert machine.dsn is not None
    await assert_all_is_well(machine.dsn)


def told(customer: Customer) -> list[str | None]:
    return [heard.text for heard in customer.heard]


async def test_one_that_is_killed_is_replaced_and_what_came_in_between_is_answered_once(
    machine: Machine, owner: Owner, customer: Customer
) -> None:
    async with two(machine) as (first, second):
        await customer.says("the price?")
        await customer.hears("From 10 to 50.")
        first.signal(signal.SIGKILL)
        await customer.says("and the hours?")
        await customer.hears("From 7 to 19.")
        await second.logged("connection_changed", state="connected")
        await customer.says("and where?")
        await customer.hears("In Rua Augusta.")
        await assert_well_ended(machine, second)
    assert told(customer) == ["From 10 to 50.", "From 7 to 19.", "In Rua Augusta."]
    assert len(owner.linked) == 1


@pytest.mark.parametrize("lost", [False, True], ids=["connected", "cut_off"])
async def test_one_that_was_frozen_wakes_up_stands_by_and_sends_nothing(
    machine: Machine, lab: Lab, owner: Owner, customer: Customer, lost: bool
) -> None:
    async with two(machine) as (first, second):
        await customer.says("the price?")
        await customer.hears("From 10 to 50.")
        first.signal(signal.SIGSTOP)
        await customer.says("and the hours?")
        if lost:
            await lab.drop()
        await customer.hears("From 7 to 19.")
        first.signal(signal.SIGCONT)
        await first.logged("account_stands_by")
        await customer.says("and where?")
        await customer.hears("In Rua Augusta.")
        await assert_well_ended(machine, second, first)
    assert told(customer) == ["From 10 to 50.", "From 7 to 19.", "In Rua Augusta."]
    assert len(owner.linked) == 1


async def test_one_that_was_frozen_while_it_typed_does_not_send_what_it_typed(
    machine: Machine, customer: Customer
) -> None:
    machine.configure(SLOWLY)
    async with two(machine) as (first, second):
        await customer.says("the price?")
        await customer.chat_states.expect(lambda state: state.state == "composing", what="typing")
        first.signal(signal.SIGSTOP)
        await customer.hears("From 10 to 50.")
        first.signal(signal.SIGCONT)
        await first.logged("account_stands_by")
        await customer.says("and where?")
        await customer.hears("In Rua Augusta.")
        await assert_well_ended(machine, second, first)
    assert told(customer) == ["From 10 to 50.", "In Rua Augusta."]
