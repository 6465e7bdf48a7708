"""The whole daemon, a process of its own with the real neonize, against the lab: the promise of the README."""

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner

pytestmark = pytest.mark.lab

CONFIG = """
tenants:
  - {instance_name: shop, owner: "+5511999990000", admins: ["+5511999990001"]}
flows:
  keywords: [{match: [price], answer: "From 10 to 50."}]
  default: "Hello!"
pace: {debounce: 0.1s, typing: false}
"""


class DaemonProcess:
    """`sidestep` in a child process that takes the lab for WhatsApp; its store outlives it."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._config = folder / "config.yaml"
        self._config.write_text(CONFIG)
        self._environment = {
            **lab.child_environment(),
            "SIDESTEP__DATABASE__DIR": str(folder / "data"),
            "SIDESTEP__HTTP__PORT": "0",
        }
        self._environment.pop("DATABASE_URL", None)
        self._running: Process | None = None

    async def start(self, *arguments: str) -> Process:
        command = (sys.executable, "-m", "bot.lab.host", "--", *arguments, "--config", str(self._config))
        self._running = await asyncio.create_subprocess_exec(
            *command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=self._environment
        )
        return self._running

    async def pair(self, owner: Owner) -> None:
        process = await self.start("pair", "--json")
        assert process.stdout is not None
        assert process.stderr is not None
        self._drain = asyncio.create_task(process.stderr.read())
        event = None
        async with asyncio.timeout(60):
            while line := await process.stdout.readline():
                event = json.loads(line)
                if event["kind"] == "qr":
                    await owner.scan(event["qr"])
            assert await process.wait() == 0, (await self._drain).decode()
        assert event == {"kind": "paired", "account": "shop"}

    async def run(self) -> None:
        """Start it and wait until it is connected; what it says after that is drained."""
        process = await self.start("run")
        assert process.stderr is not None
        lines: list[str] = []
        async with asyncio.timeout(60):
            while line := (await process.stderr.readline()).decode():
                lines.append(line)
                assert '"state":"pairing"' not in line, "a new QR code"
                if '"state":"connected"' in line:
                    break
            else:
                raise AssertionError("the daemon has ended:\n" + "".join(lines))
        self._drain = asyncio.create_task(process.stderr.read())

    async def end(self, number: signal.Signals) -> tuple[int, str]:
        assert self._running is not None
        self._running.send_signal(number)
        async with asyncio.timeout(15):
            code = await self._running.wait()
            log = (await self._drain).decode()
        self._running = None
        return code, log

    async def close(self) -> None:
        if self._running is not None and self._running.returncode is None:
            self._running.kill()
            await self._running.wait()


@pytest.fixture
def folder() -> Iterator[Path]:
    # Where we are root PostgreSQL runs as another account, to which pytest's own folders are closed.
    folder = Path(tempfile.mkdtemp(prefix="sidestep-lab-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def daemon(lab: Lab, folder: Path) -> AsyncIterator[DaemonProcess]:
    daemon = DaemonProcess(lab, folder)
    yield daemon
    await daemon.close()


async def test_the_bot_answers_steps_aside_and_comes_back(
    daemon: DaemonProcess, lab: Lab, owner: Owner, customer: Customer
) -> None:
    await daemon.pair(owner)
    await daemon.run()

    await customer.says("what is the price?")
    answer = await customer.hears("From 10 to 50.", within=20)
    await customer.delivered(answer)
    await customer.read(answer)

    await owner.says("hi, it is me", to=customer)
    await customer.hears("hi, it is me")
    await customer.says("oh, and the price?")

    # Killed in the middle of it all: what a restart finds decides.
    await daemon.end(signal.SIGKILL)
    await customer.says("are you there?")
    await daemon.run()
    await owner.says("/status", to=customer)
    status = await owner.hears(lambda heard: "paused" in heard.text.lower(), within=20)
    assert "Ana" in status.text

    await owner.says("/resume", to=customer)
    await owner.hears(lambda heard: "again" in heard.text, within=20)
    await customer.says("the price, please")
    await customer.hears("From 10 to 50.", within=20)
    assert [heard.text for heard in customer.heard if heard.text == "From 10 to 50."] == [
        "From 10 to 50."
    ] * 2

    code, log = await daemon.end(signal.SIGTERM)
    assert code == 0
    assert "Traceback" not in log
    assert lab.unanswered == []
    assert lab.refused == []


async def test_a_customer_known_by_lid_and_by_number_is_one_chat(
    daemon: DaemonProcess, owner: Owner, customer: Customer
) -> None:
    await daemon.pair(owner)
    await daemon.run()
    await customer.says("price?", addressed="phone", with_alt=False)
    await customer.hears("From 10 to 50.", within=20)
    await customer.says("price?", addressed="lid", with_alt=True)
    await customer.hears("From 10 to 50.", within=20)
    await owner.says("I am here", to=customer)
    await customer.says("price!", addressed="phone", with_alt=False)
    await customer.says("price!!", addressed="lid", with_alt=False)
    await owner.says("/status", to=customer)
    await owner.hears(lambda heard: "paused" in heard.text.lower(), within=20)
    answers = [heard for heard in customer.heard if heard.text == "From 10 to 50."]
    assert len(answers) == 2
    code, _ = await daemon.end(signal.SIGTERM)
    assert code == 0
    assert os.environ.get("SIDESTEP__WHATSAPP__PROXY") is None
