"""The whole daemon, a process of its own with the real neonize, against the lab: the promise of the README."""

import asyncio
import datetime as dt
import json
import os
import shutil
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from bot.lab.timeline import PATIENCE

pytestmark = pytest.mark.lab

CONFIG = """
tenants:
  - {instance_name: shop, owner: "+5511999990000", admins: ["+5511999990001"]}
flows:
  keywords: [{match: [price], answer: "From 10 to 50."}]
  default: "Hello!"
pace: {debounce: 0.1s, typing: false}
answer: {loop_rounds: null, loop_repeats: null, same_answer: never}
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
        self._running = await self._command(*arguments)
        return self._running

    async def _command(self, *arguments: str) -> Process:
        command = (sys.executable, "-m", "bot.lab.host", "--", *arguments, "--config", str(self._config))
        return await asyncio.create_subprocess_exec(
            *command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=self._environment
        )

    def set(self, **variables: str) -> None:
        """Variables of the next start's environment."""
        self._environment |= variables

    def configure(self, **variables: str) -> None:
        """For the next start: `TAKEOVER__GROUPS="true"` and the like, over the configuration file."""
        self.set(**{f"SIDESTEP__{name}": value for name, value in variables.items()})

    async def pair(self, owner: Owner) -> None:
        process = await self.start("pair", "--json")
        assert process.stdout is not None
        assert process.stderr is not None
        self._drain = asyncio.create_task(process.stderr.read())
        event = None
        async with asyncio.timeout(PATIENCE):
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
        async with asyncio.timeout(PATIENCE):
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
        return await self.ended()

    async def ended(self) -> tuple[int, str]:
        """Its exit code and its log, once it has ended by itself."""
        assert self._running is not None
        async with asyncio.timeout(PATIENCE):
            code = await self._running.wait()
            log = (await self._drain).decode()
        self._running = None
        return code, log

    async def why(self, message_id: str) -> dict[str, Any]:
        """What `sidestep why` tells of a message, whether the daemon is running or not."""
        process = await self._command("why", message_id, "--json")
        async with asyncio.timeout(PATIENCE):
            told, complaints = await process.communicate()
        assert process.returncode == 0, complaints.decode()
        story: dict[str, Any] = json.loads(told)
        return story

    async def decides(self, message_id: str) -> str:
        """The decision about a message; waits while the daemon has not made it (a stop leaves it to the next start)."""
        async with asyncio.timeout(PATIENCE):
            while (action := (await self.why(message_id))["action"]) is None:
                pass
        return str(action)

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


@pytest.mark.smoke
async def test_the_bot_answers_steps_aside_and_comes_back(
    daemon: DaemonProcess, lab: Lab, owner: Owner, customer: Customer
) -> None:
    await daemon.pair(owner)
    await daemon.run()

    await customer.says("what is the price?")
    answer = await customer.hears("From 10 to 50.")
    await customer.delivered(answer)
    await customer.read(answer)

    await owner.says("hi, it is me", to=customer)
    await customer.hears("hi, it is me")
    # neonize acknowledges before we have recorded: a kill may only follow what is known to be recorded.
    await owner.says("/status", to=customer)
    before = await owner.hears(lambda heard: "paused" in heard.text.lower())
    await customer.says("oh, and the price?")

    # Killed in the middle of it all: what a restart finds decides.
    await daemon.end(signal.SIGKILL)
    await customer.says("are you there?")
    await daemon.run()
    await owner.says("/status", to=customer)
    status = await owner.hears(lambda heard: "paused" in heard.text.lower() and heard.id != before.id)
    assert "Ana" in status.text

    await owner.says("/resume", to=customer)
    await owner.hears(lambda heard: "again" in heard.text)
    await customer.says("the price, please")
    await customer.hears("From 10 to 50.")
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
    await customer.hears("From 10 to 50.")
    await customer.says("price?", addressed="lid", with_alt=True)
    await customer.hears("From 10 to 50.")
    await owner.says("I am here", to=customer)
    await customer.says("price!", addressed="phone", with_alt=False)
    await customer.says("price!!", addressed="lid", with_alt=False)
    await owner.says("/status", to=customer)
    await owner.hears(lambda heard: "paused" in heard.text.lower())
    answers = [heard for heard in customer.heard if heard.text == "From 10 to 50."]
    assert len(answers) == 2
    code, _ = await daemon.end(signal.SIGTERM)
    assert code == 0
    assert os.environ.get("SIDESTEP__WHATSAPP__PROXY") is None


async def test_in_a_group_the_bot_answers_who_asks_it_and_steps_aside_only_where_configured(
    daemon: DaemonProcess, lab: Lab, owner: Owner, customer: Customer
) -> None:
    bia = lab.customer("+5511888880002", name="Bia")
    group = lab.group("Cake lovers", owner, customer, bia)
    await daemon.pair(owner)
    await daemon.run()
    talk = await customer.says("what was the price again?", to=group)
    await owner.says("somebody said 10", to=group)
    asked = await bia.says("@shop what is the price?", to=group, mentions=[owner])
    answer = await bia.hears("From 10 to 50.", chat=group)
    await customer.hears("From 10 to 50.", chat=group)
    await daemon.end(signal.SIGTERM)
    assert (await daemon.why(talk))["action"] == "ignored_group"
    assert (await daemon.why(asked))["action"] == "keyword_replied"

    daemon.configure(TAKEOVER__GROUPS="true")
    await daemon.run()
    spoke = await owner.says("I am here now", to=group)
    late = await customer.says("really, the price?", to=group, quoted=answer)
    await owner.says("/status")
    await owner.hears(lambda heard: "Cake lovers" in heard.text and "paused" in heard.text.lower())
    assert await daemon.decides(late) == "ignored_paused"
    code, log = await daemon.end(signal.SIGTERM)
    assert (code, "Traceback" in log) == (0, False)
    assert (await daemon.why(spoke))["action"] == "paused"
    assert [heard.text for heard in bia.heard if heard.sender == owner.number].count("From 10 to 50.") == 1
    assert lab.unanswered == []


async def test_what_customers_send_beside_texts_gets_a_sensible_decision(
    daemon: DaemonProcess, lab: Lab, owner: Owner, customer: Customer
) -> None:
    await daemon.pair(owner)
    await daemon.run()

    await customer.sends_image(b"png", caption="what is the price of this?")
    await customer.hears("From 10 to 50.")
    await customer.sends_voice(b"OggS" * 100)
    await customer.hears("Hello!")
    await customer.sends_location(-23.5614, -46.6559, name="MASP")
    await customer.hears("Hello!")

    # None of these asks for anything; what comes after them shows that nothing was said to them.
    sticker = await customer.sends_media("sticker", b"RIFF")
    poll = await customer.sends_poll("Which price?", "10", "50")
    vote = await customer.votes(poll, "10")
    await customer.sets_timer(dt.timedelta(days=1))
    await customer.says("and the price?", disappears_after=dt.timedelta(days=1))
    answer = await customer.hears("From 10 to 50.")
    assert answer.disappears_after == dt.timedelta(days=1)
    assert [heard.text for heard in customer.heard] == [
        "From 10 to 50.",
        "Hello!",
        "Hello!",
        "From 10 to 50.",
    ]

    code, log = await daemon.end(signal.SIGTERM)
    assert (code, "Traceback" in log) == (0, False)
    for message_id in (sticker, poll, vote):
        assert (await daemon.why(message_id))["action"] == "ignored_unsupported"
    assert lab.unanswered == []


async def test_a_number_with_a_past_is_linked_by_one_command_and_served_by_another(
    daemon: DaemonProcess, owner: Owner, customer: Customer
) -> None:
    yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    for n in range(100):
        asked = owner.remembers(f"price {n}?", chat=customer, at=yesterday + dt.timedelta(seconds=n))
    await daemon.pair(owner)
    live = await customer.says("what is the price?")
    await daemon.run()
    await customer.hears("From 10 to 50.")
    assert [heard.text for heard in customer.heard] == ["From 10 to 50."]
    code, log = await daemon.end(signal.SIGTERM)
    assert (code, "Traceback" in log) == (0, False)
    assert (await daemon.why(asked))["action"] == "imported"
    assert (await daemon.why(live))["action"] == "keyword_replied"
