"""The daemon of the soak: its store, its configuration, its process; it is started, stopped, killed and watched."""

import asyncio
import json
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bot.lab.lab import Lab
from bot.lab.linked import LinkedDevice
from bot.lab.people import Owner
from tests.conftest import connected
from tests.lab.bot_client import BotClient

TENANTS, NUMBERS_EACH, DESK_EVERY = 4, 3, 4
RESUME_AFTER = 20.0
CONFIG = """
tenants:
{tenants}
flows:
  keywords: [{{match: [price], answer: "From 10 to 50."}}]
  default: "Hello! Somebody will be with you soon."
pace: {{debounce: 0.4s, max_debounce: 2s, typing: true, chars_per_second: 2000, max_typing: 0.1s,
        per_chat: null, per_account: null, daily: null}}
answer: {{loop_rounds: null, loop_repeats: null, same_answer: never}}
takeover: {{learn_automatic: false}} # these owners say the same to each new customer, and at once
http: {{port: 0}}
log: {{format: json}}
"""
TENANT = '  - {{instance_name: shop-{n}, owner: "{owner}", auto_resume_after: 20s}}'
ADD_ACCOUNT = """
INSERT INTO sidestep.accounts (tenant_id, name, created_at)
SELECT tenant_id, $2, now() FROM sidestep.tenants WHERE instance_name = $1
"""
# Said by Go or by Python where nobody had foreseen it.
_ALARMS = ("Traceback", "panic:", "fatal error:", "never retrieved", "was never awaited", "SIGSEGV")
_ERRORS = ("error", "critical")
# A send that was refused with 463 leaves a number connected that writes to nobody new for a while.
_UP = {"connected", "reach_out_limited"}


class ShopFailed(Exception):
    """The daemon did not do what it was told."""


@dataclass(slots=True)
class Life:
    """One run of the daemon, from its start to its end; times are of time.monotonic."""

    process: Process
    began: float
    states: dict[str, str] = field(default_factory=dict)
    links: int = 0  # clients of the library that were started, for all accounts
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    ended: float | None = None


class Shop:
    """`problems` are the lines of the log that should not be there; `devices` are the daemon's.

    Some owners also write at a desk: `desks`, by their numbers, are linked to them beside the daemon.
    """

    def __init__(self, lab: Lab, dsn: str, folder: Path) -> None:
        self.dsn = dsn
        self.devices: dict[str, LinkedDevice] = {}  # by the account's name
        self.desks: dict[str, BotClient] = {}
        self.lives: list[Life] = []
        self.problems: list[str] = []
        self.warnings: dict[str, int] = {}
        self.kills: list[float] = []
        self.owners: dict[str, Owner] = {}  # by the account's name
        for tenant in range(TENANTS):
            for number in range(NUMBERS_EACH):
                name = f"shop-{tenant}" if number == 0 else f"shop-{tenant}-{number}"
                self.owners[name] = lab.owner(f"+551199990{tenant}{number:02}0", name=f"Dona {name}")
        self._lab, self._folder = lab, folder
        self._config = folder / "config.yaml"
        tenants = (TENANT.format(n=n, owner=self.owners[f"shop-{n}"].number) for n in range(TENANTS))
        self._config.write_text(CONFIG.format(tenants="\n".join(tenants)))
        self._log = (folder / "daemon.log").open("ab")
        self._environment = {**lab.child_environment(), "DATABASE_URL": dsn, "NEONIZE_BOT_TAG": "off"}
        self._reading: asyncio.Task[None] | None = None

    @property
    def life(self) -> Life:
        return self.lives[-1]

    @property
    def is_up(self) -> bool:
        return bool(self.lives) and self.life.ended is None

    async def open(self) -> None:
        """Links all numbers and starts the daemon."""
        for name, owner in self.owners.items():
            if name.count("-") == 2:
                async with connected(self.dsn) as connection:
                    await connection.execute(ADD_ACCOUNT, name.rpartition("-")[0], name)
            await self._pair(name, owner)
        for owner in list(self.owners.values())[::DESK_EVERY]:
            await self._open_desk(owner)
        await self.start()

    async def _open_desk(self, owner: Owner) -> None:
        desk = self.desks[owner.number] = BotClient(self._folder / f"{owner.number}.db", self._lab.proxy_url)
        await desk.connect()
        await owner.scan(await desk.qr_codes.expect(within=30, what="a QR code"))
        await desk.connected()

    async def _pair(self, name: str, owner: Owner) -> None:
        process = await self._spawn("pair", "--json", "--account", name, stdout=PIPE, stderr=self._log)
        assert process.stdout is not None
        async with asyncio.timeout(60):
            while line := await process.stdout.readline():
                event = json.loads(line)
                if event["kind"] == "qr":
                    self.devices[name] = await owner.scan(event["qr"])
            if await process.wait() != 0:
                raise ShopFailed(f"{name} was not linked; see {self._log.name}")

    async def start(self) -> None:
        process = await self._spawn("run", stdout=DEVNULL, stderr=PIPE)
        self.lives.append(Life(process=process, began=time.monotonic()))
        self._reading = asyncio.create_task(self._read(self.life))

    async def wait_until_connected(self, within: float) -> None:
        async with asyncio.timeout(within):
            while len(self.life.states) < len(self.owners) or not _UP.issuperset(self.life.states.values()):
                self.life.moved.clear()
                await self.life.moved.wait()

    async def end(self, number: signal.Signals) -> None:
        """SIGTERM has ten seconds, as the README says."""
        life, started = self.life, time.monotonic()
        if number is signal.SIGKILL:
            self.kills.append(started)
        life.process.send_signal(number)
        async with asyncio.timeout(30):
            code = await life.process.wait()
        life.ended = time.monotonic()
        if self._reading is not None:
            await self._reading
        if number is signal.SIGTERM and code != 0:
            self.problems.append(f"stopped with {code}")
        if number is signal.SIGTERM and life.ended - started > 10:
            self.problems.append(f"took {life.ended - started:.1f} s to stop")

    async def close(self) -> None:
        for desk in self.desks.values():
            await desk.stop()
        if self.is_up and self.life.process.returncode is None:
            self.life.process.kill()
            await self.life.process.wait()
        self._log.close()

    async def _spawn(self, *arguments: str, stdout: Any, stderr: Any) -> Process:
        command = (sys.executable, "-m", "bot.lab.host", "--", *arguments, "--config", str(self._config))
        return await asyncio.create_subprocess_exec(
            *command, stdin=DEVNULL, stdout=stdout, stderr=stderr, env=self._environment
        )

    async def _read(self, life: Life) -> None:
        assert life.process.stderr is not None
        while line := await life.process.stderr.readline():
            self._log.write(line)
            self._judge(life, line.decode(errors="replace"))
        self._log.flush()
        if life.ended is None and await life.process.wait() not in (0, -signal.SIGKILL, -signal.SIGTERM):
            self.problems.append(f"the daemon died by itself: {life.process.returncode}")

    def _judge(self, life: Life, line: str) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            event = {}
        if not isinstance(event, dict):
            return
        if event.get("event") == "connection_changed":
            life.states[event["account"]] = event["state"]
            life.moved.set()
        if event.get("event") == "whatsapp_link_started":
            life.links += 1
        if event.get("level") in _ERRORS or any(alarm in line for alarm in _ALARMS):
            self.problems.append(line.strip()[:600])
        elif event.get("level") == "warning":
            what = ": ".join(filter(None, (event["event"], event.get("complaint", "")[:60])))
            self.warnings[what] = self.warnings.get(what, 0) + 1
