"""`sidestep run` as a child process that reaches no network: its WhatsApp goes by a proxy that nobody answers at."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from tests.acceptance.conversation import CONFIG
from tests.acceptance.program import Finished, Program, started

# Port 9, discard: nothing listens there, and nobody may open it without rights.
NOWHERE = "http://127.0.0.1:9"

DAEMON_CONFIG = f"""\
{CONFIG}
whatsapp: {{proxy: "{NOWHERE}"}}
http: {{port: 0}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """A daemon that serves its port."""

    program: Program
    port: int

    async def ask(self, method: str, path: str, **headers: str) -> httpx2.Response:
        async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:
            return await client.request(method, f"http://127.0.0.1:{self.port}{path}", headers=headers)


@asynccontextmanager
async def daemon(folder: Path, **variables: str) -> AsyncIterator[Daemon]:
    """A daemon on the folder's configuration, up and trying to connect."""
    async with started("run", cwd=folder, variables=variables) as program:
        port = (await program.logged("http_listening"))["port"]
        await program.logged("connection_changed", state="reconnecting")
        yield Daemon(program=program, port=port)


def assert_clean(finished: Finished) -> None:
    """It ended as it was told to."""
    assert finished.code == 0, finished.err
    assert finished.out == ""
    assert "Traceback" not in finished.err
    assert "Exception" not in finished.err
