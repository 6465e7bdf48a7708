"""Runs `sidestep` as its users do: a child process in a clean environment, with a deadline; ends only its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DEADLINE_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A run that is over. `code` is negative when a signal ended it."""

    code: int
    out: str
    err: str


def environment(home: Path, **variables: str) -> dict[str, str]:
    """Nothing of the machine's own: no database, no key, no proxy, no temporary folder."""
    clean = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "LANG": "C.UTF-8",
        "HOME": str(home),
        "XDG_DATA_HOME": str(home),
        "TMPDIR": str(home),
    }
    return clean | variables


class Program:
    """One run under way."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._said = bytearray()
        self._logged = bytearray()
        self._more_logged = asyncio.Event()
        self._logging = asyncio.create_task(self._read_log())
        self.pid = process.pid

    def write(self, data: bytes) -> None:
        """Give it input without waiting until it has read it."""
        assert self._process.stdin is not None
        self._process.stdin.write(data)

    def end_input(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def read_line(self) -> str:
        """The next line of its results; fails when there is none."""
        assert self._process.stdout is not None
        async with asyncio.timeout(DEADLINE_SECONDS):
            line = await self._process.stdout.readline()
        assert line.endswith(b"\n"), f"its results ended; it said:\n{await self._whole_log()}"
        self._said += line
        return line.decode()

    async def lines(self) -> AsyncIterator[str]:
        """Its results as they come, to their end; a line that a kill has cut is left."""
        assert self._process.stdout is not None
        while (line := await self._process.stdout.readline()).endswith(b"\n"):
            self._said += line
            yield line.decode()

    async def logged(self, event: str, *, times: int = 1, **keys: object) -> dict[str, Any]:
        """The first line of its log about this event, with these keys; `times` 2: the second one. Fails at the end."""
        wanted = {"event": event, **keys}
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                self._more_logged.clear()
                told = [_read_json(line) for line in self._logged.decode(errors="replace").splitlines()]
                found = [each for each in told if wanted.items() <= each.items()]
                if len(found) >= times:
                    return found[times - 1]
                assert not self._logging.done(), f"it ended without {event}:\n{await self._whole_log()}"
                await self._more_logged.wait()

    async def _read_log(self) -> None:
        assert self._process.stderr is not None
        while some := await self._process.stderr.read(1 << 16):
            self._logged += some
            self._more_logged.set()
        self._more_logged.set()

    async def _whole_log(self) -> str:
        await self._logging
        return self._logged.decode()

    def signal(self, number: signal.Signals) -> None:
        # Not by asyncio, which would look first whether it has ended, and so take its exit code from the watcher.
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    async def finished(self, seconds: float = DEADLINE_SECONDS) -> Finished:
        """Wait for its end; fails when it does not come in time."""
        assert self._process.stdout is not None
        async with asyncio.timeout(seconds):
            self._said += await _read_all(self._process.stdout)
            err = await self._whole_log()
            code = await self._process.wait()
        return Finished(code=code, out=self._said.decode(), err=err)

    async def ensure_end(self) -> None:
        """Whatever happened, it does not outlive its test."""
        if self._process.returncode is None:
            self.signal(signal.SIGKILL)
        await self.finished()


@asynccontextmanager
async def started(
    *arguments: str | Path, cwd: Path, variables: dict[str, str] | None = None, module: str = "bot"
) -> AsyncIterator[Program]:
    """`sidestep`, or another module, with these arguments, for as long as the context lasts."""
    program = Program(
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *map(str, arguments)),
            cwd=cwd,
            env=environment(cwd, **(variables or {})),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=1 << 24,
        )
    )
    try:
        yield program
    finally:
        await program.ensure_end()


async def run(
    *arguments: str | Path, cwd: Path, stdin: bytes = b"", variables: dict[str, str] | None = None
) -> Finished:
    """One whole run."""
    async with started(*arguments, cwd=cwd, variables=variables) as program:
        program.write(stdin)
        program.end_input()
        return await program.finished()


def runs(pid: int) -> bool:
    """Whether this process lives; one that only waits to be reaped does not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    return False


def _read_json(line: str) -> dict[str, Any]:
    # The last line may not be there as a whole yet, and the library's are no JSON.
    with suppress(json.JSONDecodeError):
        found = json.loads(line)
        return found if isinstance(found, dict) else {}
    return {}


async def _read_all(stream: asyncio.StreamReader | None) -> bytes:
    assert stream is not None
    return await stream.read()
