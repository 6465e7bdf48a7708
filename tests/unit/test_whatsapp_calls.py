"""A client's calls to Go: what becomes of them when it is stopped at an awkward moment. Go is a stand-in here."""

import asyncio
import threading
from collections.abc import Callable

from bot.transports.whatsapp.threads import GoCalls, gate


class Go:
    """Starts clients as slowly as a test wants, and notes which were started and stopped."""

    def __init__(self) -> None:
        self.started: list[bytes] = []
        self.stopped: list[bytes] = []
        self.goes_on = threading.Event()

    def Neonize(self, name: bytes) -> bytes:  # noqa: N802 - as Go exports it
        self.started.append(name)
        assert self.goes_on.wait(10)
        return b""

    def Stop(self, name: bytes) -> None:  # noqa: N802 - as Go exports it
        self.stopped.append(name)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what it waits for happens on threads
            await asyncio.sleep(0.001)


async def test_a_client_that_go_learns_of_after_its_stop_is_stopped_then() -> None:
    go = Go()
    calls = GoCalls(go, "test")
    life = calls.Neonize(b"shop")
    await until(lambda: go.started == [b"shop"])
    calls.retire(b"shop")
    # Nobody waits for Go, which may show QR codes without end.
    assert await life == b""
    assert go.stopped == []
    go.goes_on.set()
    await until(lambda: go.stopped == [b"shop"])


async def test_a_client_that_is_stopped_while_it_waits_for_the_others_is_never_started() -> None:
    go = Go()
    calls = GoCalls(go, "test")
    others = gate.change()
    life = calls.Neonize(b"shop")
    await until(lambda: gate._waiting == 1)
    calls.retire(b"shop")
    gate.leave(others)
    await life
    await until(lambda: go.stopped == [b"shop"])
    assert go.started == []
