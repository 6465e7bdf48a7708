"""The owner's commands for numbers, as processes, against the lab: pair, list, add, unlink, remove."""

import asyncio
import json
import re
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from bot.lab.errors import Unheard
from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from bot.lab.timeline import PATIENCE
from tests.conftest import connected
from tests.lab.machine import Machine

pytestmark = pytest.mark.lab

RECORDED = "SELECT external_id FROM sidestep.messages WHERE direction = 'inbound'"


@pytest.fixture
async def machine(lab: Lab, dsn: str, tmp_path: Path) -> AsyncIterator[Machine]:
    machine = Machine(lab, tmp_path / "machine", dsn)
    yield machine
    await machine.close()


async def test_a_number_is_paired_by_a_code_or_by_the_next(machine: Machine, lab: Lab, owner: Owner) -> None:
    shown: list[dict[str, str]] = []

    async def enter(event: dict[str, str]) -> None:
        shown.append(event)
        if len(shown) == 1:
            lab.expire_pairing()
        else:
            await owner.enters(event["code"])

    done = await machine.pair(enter, "--phone", "55 11 99999-0000")
    assert (done.code, json.loads(done.out.splitlines()[-1])) == (0, {"kind": "paired", "account": "shop"})
    assert len({event["code"] for event in shown}) == len(shown) == 2
    for event in shown:
        assert re.fullmatch(r"\w{4}-\w{4}", event["code"])
        assert 100 < int(event["expires_in"]) <= 160
    other = await machine.do("pair", "--phone", "+5511900000000")
    assert (other.code, other.out) == (1, "")
    assert "another number" in other.err
    listed = await machine.do("account", "list")
    assert re.fullmatch(
        r"shop · tenant shop · linked · \+55…0000 · since \d{4}-\d\d-\d\d \d\d:\d\d UTC\n", listed.out
    )


async def test_why_there_is_no_code_is_told_in_plain_words(machine: Machine, lab: Lab, owner: Owner) -> None:
    wrong = await machine.do("pair", "--phone", "123")
    assert wrong.code == 1
    assert "country code" in wrong.err
    with lab.refuse_codes(429):
        many = await machine.do("pair", "--phone", owner.number)
    assert many.code == 1
    assert "no more codes" in many.err
    nobody = await machine.do("pair", "--phone", "+5511900000000", "--json")
    assert nobody.code == 1
    assert "country code" in json.loads(nobody.out)["reason"]
    assert owner.linked == []


async def test_without_a_network_pairing_says_so_once_and_ctrl_c_ends_it(machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        proxy = f"http://127.0.0.1:{closed.getsockname()[1]}"
    process = await machine.start("pair", SIDESTEP__WHATSAPP__PROXY=proxy)
    assert process.stderr is not None
    told = (await process.stderr.readline()).decode()
    assert told == (
        "WhatsApp cannot be reached: check the network and the proxy. "
        "It is tried again and again, until you press Ctrl+C.\n"
    )
    process.send_signal(signal.SIGINT)
    done = await machine.end(process)
    assert (done.code, done.out, done.err) == (1, "", "shop was not linked.\n")


async def test_nobody_is_waited_for_without_end(machine: Machine, lab: Lab, owner: Owner) -> None:
    shown = []

    async def nobody(event: dict[str, str]) -> None:
        shown.append(event["qr"])
        lab.expire_pairing()

    done = await machine.pair(nobody)
    assert (done.code, len(shown)) == (1, 10)
    last = json.loads(done.out.splitlines()[-1])
    assert last["kind"] == "not_paired"
    assert "nobody has scanned" in last["reason"]
    assert owner.linked == []


async def test_a_daemon_whose_number_is_not_linked_tells_what_to_do(machine: Machine) -> None:
    process = await machine.start("run")
    assert process.stderr is not None
    port = 0
    async with asyncio.timeout(PATIENCE):
        while '"state":"pairing"' not in (line := (await process.stderr.readline()).decode()):
            assert line, "the daemon has ended"
            if '"event":"http_listening"' in line:
                port = json.loads(line)["port"]
    readiness = await asyncio.to_thread(ask, f"http://127.0.0.1:{port}/readyz")
    process.terminate()
    assert (await machine.end(process)).code == 0
    assert readiness["ready"] is False
    shop = readiness["accounts"]["shop"]
    assert shop["state"] == "pairing"
    assert shop["next_try"] is not None
    assert shop["advice"].startswith("not linked: scan the QR code")
    assert "`sidestep pair`" in shop["advice"]


def ask(url: str) -> dict[str, Any]:
    """What a health page says, be it well or not."""
    answer = httpx2.get(url, trust_env=False)
    assert answer.status_code == 503
    told: dict[str, Any] = answer.json()
    return told


async def test_a_second_number_is_added_paired_and_removed_and_is_no_other_account_s(
    machine: Machine, lab: Lab, owner: Owner, customer: Customer
) -> None:
    second = lab.owner("+5511999990002", name="Padaria")
    assert (await machine.scan(owner)).code == 0
    assert (await machine.do("account", "add", "bakery")).code == 0
    asked = await machine.do("pair", "--account", "bakery", "--phone", owner.number)
    assert asked.code == 1
    assert "the account 'shop'" in asked.err
    scanned = await machine.scan(owner, "--account", "bakery")
    assert scanned.code == 1
    assert "taken off" in scanned.err
    assert len(owner.linked) == 1
    assert "bakery · tenant shop · not linked" in (await machine.do("account", "list")).out
    assert (await machine.scan(second, "--account", "bakery")).code == 0
    async with machine.running():
        await customer.says("oi", to=second)
        await customer.hears("Hello!")
    assert "unlink bakery" in (await machine.do("account", "remove", "bakery")).err
    assert (await machine.do("account", "unlink", "bakery")).code == 0
    assert second.linked == []
    assert (await machine.do("account", "remove", "bakery")).code == 0
    assert (await machine.do("account", "list")).out.count("\n") == 1


async def test_a_number_is_unlinked_and_paired_again(machine: Machine, lab: Lab, owner: Owner) -> None:
    await machine.scan(owner)
    async with machine.running():
        held = await machine.do("account", "unlink", "shop")
        assert held.code == 2
        assert "already served" in held.err
    done = await machine.do("account", "unlink", "shop")
    assert (done.code, owner.linked) == (0, [])
    assert "not linked" in (await machine.do("account", "unlink", "shop")).out
    await machine.scan(owner)
    owner.unlinks()
    assert (await machine.do("account", "unlink", "shop")).code == 0
    await machine.scan(owner)
    async with lab.outage():
        refused = await machine.do("account", "unlink", "shop")
        assert refused.code == 1
        assert "--force" in refused.err
        assert " linked " in (await machine.do("account", "list")).out
        forced = await machine.do("account", "unlink", "shop", "--force")
        assert forced.code == 0
        assert "remove the device" in forced.out
    assert len(owner.linked) == 1  # the phone still shows what nobody has any more
    async with connected(machine.dsn or "") as store:
        assert await store.fetchval("SELECT count(*) FROM whatsmeow.whatsmeow_device") == 0


async def test_what_comes_while_a_number_is_unlinked_is_kept(
    machine: Machine, lab: Lab, owner: Owner, customer: Customer
) -> None:
    await machine.scan(owner)
    before = {await customer.says(f"before {n}") for n in range(40)}
    process = await machine.start("account", "unlink", "shop")
    # One at a time, and not without end: a client that is drowned in messages never gets to its question.
    for _ in range(100):
        said = await customer.says("meanwhile")
        with suppress(Unheard):
            await customer.sees_receipt(said, within=1)
        if not owner.linked:
            break
    assert (await machine.end(process)).code == 0
    taken = {
        heard.node.text("id")
        for heard in lab.stanzas
        if heard.node.tag == "receipt" and heard.node.attrs.get("type") in (None, "inactive")
    }
    async with connected(machine.dsn or "") as store:
        recorded = {row["external_id"] for row in await store.fetch(RECORDED)}
    assert before <= recorded
    assert taken <= recorded
