"""A machine on which `sidestep` is run as processes against a lab, with one store and a disk of its own."""

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bot.lab.lab import Lab
from bot.lab.people import Owner
from bot.lab.timeline import PATIENCE

CONFIG = """
tenants:
  - {instance_name: shop, owner: "+5511999990000"}
flows: {default: "Hello!"}
pace: {debounce: 0s, typing: false}
"""

# Only these talk to WhatsApp; the others need no lab, and start faster without its library.
ON_WHATSAPP = {"run", "pair", "unlink"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    code: int
    out: str
    err: str


class Machine:
    """`home` is all of its disk that a daemon may write to; `dsn` its database, None for the embedded one.

    Where we are root the embedded server runs as another account, which `home` has to be open to.
    """

    def __init__(self, lab: Lab, home: Path, dsn: str | None) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._config = home.parent / f"{home.name}.yaml"
        self.configure(CONFIG)
        self.home, self.dsn, self._lab = home, dsn, lab
        self._processes: list[Process] = []

    def configure(self, text: str) -> None:
        self._config.write_text(text)

    def _environment(self) -> dict[str, str]:
        home = str(self.home)
        environment = {
            **self._lab.child_environment(),
            "PYTHONPATH": str(Path.cwd()),
            "SIDESTEP__DATABASE__DIR": str(self.home / "data"),
            "HOME": home,
            "XDG_DATA_HOME": home,
            "TMPDIR": home,
            "SIDESTEP__HTTP__PORT": "0",
        }
        if self.dsn is None:
            environment.pop("DATABASE_URL", None)
        else:
            environment["DATABASE_URL"] = self.dsn
        return environment

    async def start(self, *arguments: str, **variables: str) -> Process:
        program = ("bot.lab.host", "--") if ON_WHATSAPP & set(arguments[:2]) else ("bot",)
        command = ("-m", *program, *arguments, "--config", str(self._config))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *command),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            env={**self._environment(), **variables},
            cwd=self.home,
        )
        self._processes.append(process)
        return process

    async def do(self, *arguments: str, **variables: str) -> Done:
        return await self.end(await self.start(*arguments, **variables))

    async def end(self, process: Process) -> Done:
        """Wait until it has ended by itself."""
        async with asyncio.timeout(90):
            out, err = await process.communicate()
        assert process.returncode is not None
        assert b"Traceback" not in err, err.decode()
        return Done(code=process.returncode, out=out.decode(), err=err.decode())

    async def pair(self, show: Callable[[dict[str, str]], Awaitable[object]], *arguments: str) -> Done:
        """`show` is called with each code as it is printed."""
        process = await self.start("pair", "--json", *arguments)
        assert process.stdout is not None
        assert process.stderr is not None
        err = asyncio.create_task(process.stderr.read())
        printed = b""
        async with asyncio.timeout(90):
            while line := await process.stdout.readline():
                printed += line
                event = json.loads(line)
                if event["kind"] in ("qr", "code"):
                    await show(event)
            code = await process.wait()
        return Done(code=code, out=printed.decode(), err=(await err).decode())

    async def scan(self, owner: Owner, *arguments: str) -> Done:
        return await self.pair(lambda event: owner.scan(event["qr"]), *arguments)

    @asynccontextmanager
    async def running(self, **variables: str) -> AsyncIterator[None]:
        """`sidestep run`, from its connection on; without a new code."""
        process = await self.start("run", **variables)
        assert process.stderr is not None
        lines: list[str] = []
        async with asyncio.timeout(PATIENCE):
            while '"state":"connected"' not in (line := (await process.stderr.readline()).decode()):
                lines.append(line)
                assert line, "the daemon has ended:\n" + "".join(lines)
                assert '"state":"pairing"' not in line
        log = asyncio.create_task(process.stderr.read())
        yield
        process.terminate()
        async with asyncio.timeout(PATIENCE):
            assert await process.wait() == 0
        assert b"Traceback" not in await log

    async def close(self) -> None:
        for process in self._processes:
            if process.returncode is None:
                process.kill()
                await process.wait()
