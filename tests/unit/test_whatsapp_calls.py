"""A client's calls to Go: what becomes of them when it is stopped at an awkward moment. Go is a stand-in here."""

import asyncio
import threading
from collections.abc import Callable

import pytest

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


def on_a_thread(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


async def test_a_client_that_is_stopped_while_it_connects_is_stopped_when_go_has_looked_it_up() -> None:
    go = Go()
    calls = GoCalls(go, "test")
    life = calls.Neonize(b"shop")
    await until(lambda: go.started == [b"shop"])
    calls.retire()
    # Nobody waits for Go, which may show QR codes without end.
    assert await life == b""
    stopping = on_a_thread(lambda: calls.stop(b"shop"))
    stopping.join(0.05)
    assert go.stopped == []
    calls.started()
    await until(lambda: go.stopped == [b"shop"])
    go.goes_on.set()


async def test_a_client_whose_start_fails_is_stopped_then() -> None:
    go = Go()
    calls = GoCalls(go, "test")
    calls.Neonize(b"shop")
    await until(lambda: go.started == [b"shop"])
    calls.retire()
    on_a_thread(lambda: calls.stop(b"shop"))
    go.goes_on.set()
    await until(lambda: go.stopped == [b"shop"])


async def test_a_client_that_is_stopped_while_it_waits_for_the_others_is_never_started() -> None:
    go = Go()
    calls = GoCalls(go, "test")
    others = gate.change()
    life = calls.Neonize(b"shop")
    await until(lambda: gate._waiting == 1)
    calls.retire()
    on_a_thread(lambda: calls.stop(b"shop"))
    gate.leave(others)
    await life
    await until(lambda: go.stopped == [b"shop"])
    assert go.started == []


async def test_who_has_been_linked_is_looked_up_while_nobody_starts_or_stops() -> None:
    calls = GoCalls(Go(), "test")
    others = gate.change()
    linked = on_a_thread(lambda: calls.after_qr(is_linked=True))
    linked.join(0.05)
    assert linked.is_alive()
    gate.leave(others)
    await until(lambda: not linked.is_alive())
    calls.started()
    assert gate._inside() == []


@pytest.mark.parametrize("is_linked", [True, False])
async def test_go_never_looks_up_who_has_been_stopped_or_cannot_be_linked(is_linked: bool) -> None:
    go = Go()
    calls = GoCalls(go, "test")
    if is_linked:
        calls.retire()
    back_in_go = on_a_thread(lambda: calls.after_qr(is_linked=is_linked))
    on_a_thread(lambda: calls.stop(b"shop"))
    await until(lambda: go.stopped == [b"shop"])
    back_in_go.join(0.05)
    assert back_in_go.is_alive()
