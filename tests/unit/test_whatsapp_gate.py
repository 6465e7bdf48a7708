"""Go's maps are changed by one thread at a time, while no other looks into them."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from typing import Any

import pytest

from bot.transports.whatsapp.gate import Gate

A_MOMENT = 0.05


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


def is_kept_waiting(work: "Future[Any]") -> bool:
    return not wait_for([work], timeout=A_MOMENT).done


def test_many_look_at_the_same_time(gate: Gate) -> None:
    with gate.looking(), gate.looking():
        assert gate.look_now() is not None
        assert gate.is_open


def test_a_change_waits_for_those_who_look(gate: Gate, threads: ThreadPoolExecutor) -> None:
    mine = gate.look_now()
    assert mine is not None
    change = threads.submit(gate.change)
    assert is_kept_waiting(change)
    gate.leave(mine)
    change.result(timeout=60)


def test_those_who_look_wait_for_a_change(gate: Gate, threads: ThreadPoolExecutor) -> None:
    change = gate.change()
    assert not gate.is_open
    assert gate.look_now() is None
    wait = threads.submit(gate.wait)
    assert is_kept_waiting(wait)
    gate.leave(change)
    wait.result(timeout=60)
    assert gate.look_now() is not None


def test_a_change_that_waits_lets_nobody_in_before_it(gate: Gate, threads: ThreadPoolExecutor) -> None:
    mine = gate.look_now()
    assert mine is not None
    change = threads.submit(gate.change)
    assert is_kept_waiting(change)
    assert gate.look_now() is None
    gate.leave(mine)
    gate.leave(change.result(timeout=60))
    assert gate.look_now() is not None


def test_a_call_that_lasts_has_found_its_client_long_ago(gate: Gate, threads: ThreadPoolExecutor) -> None:
    started = time.monotonic()
    with gate.looking():
        threads.submit(gate.change).result(timeout=60)
    assert time.monotonic() - started >= 0.9


def test_a_change_of_which_nothing_is_heard_gives_way(gate: Gate, threads: ThreadPoolExecutor) -> None:
    gate.change(at_most=A_MOMENT)
    assert gate.look_now() is None
    threads.submit(gate.wait).result(timeout=60)
    assert gate.look_now() is not None


def test_a_change_is_alone_however_many_come(gate: Gate, threads: ThreadPoolExecutor) -> None:
    inside: list[str] = []
    seen: set[tuple[str, ...]] = set()
    lock = threading.Lock()

    def note(who: str, come: Callable[[str], None]) -> None:
        with lock:
            come(who)
            seen.add(tuple(sorted(inside)))

    def look() -> None:
        with gate.looking():
            note("look", inside.append)
            note("look", inside.remove)

    def change() -> None:
        with gate.changing():
            note("change", inside.append)
            note("change", inside.remove)

    for done in [threads.submit(change if n % 3 == 0 else look) for n in range(300)]:
        done.result(timeout=60)
    assert ("change",) in seen
    assert not [together for together in seen if "change" in together and len(together) > 1]
