"""A terminal with `sidestep` in it: types as a person does, and reads what the person would see."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.acceptance.program import DEADLINE_SECONDS, environment

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """What is on the screen since the last look is what the next look searches."""

    def __init__(self, process: asyncio.subprocess.Process, keyboard: int) -> None:
        self._process = process
        self._keyboard = keyboard
        self._bytes = bytearray()
        self._read = 0
        self._more = asyncio.Event()
        self.pid = process.pid
        asyncio.get_running_loop().add_reader(keyboard, self._receive)

    @property
    def screen(self) -> str:
        """All of it, without colours."""
        return _COLOURS.sub("", self._bytes.decode(errors="replace")).replace("\r\n", "\n")

    def type(self, keys: bytes) -> None:
        os.write(self._keyboard, keys)

    async def shows(self, text: str) -> None:
        """Wait until this appears below what was found before."""
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while (at := self.screen.find(text, self._read)) < 0:
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            raise AssertionError(f"no {text!r} on the screen:\n{self.screen[self._read :]}") from None
        self._read = at + len(text)

    async def ended(self) -> int:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    async def close(self) -> None:
        """Whatever happened, it does not outlive its test."""
        if self._process.returncode is None:
            self.signal(signal.SIGKILL)
        await self.ended()
        asyncio.get_running_loop().remove_reader(self._keyboard)
        os.close(self._keyboard)

    def _receive(self) -> None:
        try:
            self._bytes += os.read(self._keyboard, 1 << 16)
        except OSError:
            # How Linux tells that nobody has the terminal open any more.
            asyncio.get_running_loop().remove_reader(self._keyboard)
        self._more.set()


@asynccontextmanager
async def terminal(*arguments: str, cwd: Path, home: Path) -> AsyncIterator[Terminal]:
    """`sidestep` with these arguments in a terminal of its own, its temporary files in `home`."""
    keyboard, screen = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bot", *arguments),
            cwd=cwd,
            env=environment(cwd, TERM="xterm", TMPDIR=str(home)),
            stdin=screen,
            stdout=screen,
            stderr=screen,
            preexec_fn=_own_terminal,
        )
    finally:
        os.close(screen)
    opened = Terminal(process, keyboard)
    try:
        yield opened
    finally:
        await opened.close()


def _own_terminal() -> None:
    """In the child: the terminal is its controlling one, so that Ctrl-C reaches it as a signal."""
    os.setsid()
    os.close(os.open(os.ttyname(0), os.O_RDWR))
