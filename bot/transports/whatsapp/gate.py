"""The one door to Go's maps of clients: who changes them is alone in there. It knows no client and calls nothing.

neonize keeps its clients in plain Go maps, and Go aborts the process when one thread looks into a map while
another changes it. A client's start and its stop change them; every other call looks its client up as its
first step, which takes nanoseconds, and may then last for minutes, and so does a client that has just been linked.
So whoever is inside counts only until it must long be done with the maps.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_LOOK_SECONDS = 1.0


@dataclass(slots=True, eq=False)
class Pass:
    """Says who is inside; from `until` on, in time.monotonic's seconds, it no longer counts."""

    until: float


class Gate:
    """`looking`, `look`, `change` and `wait` block the calling thread, which must not be the event loop's."""

    def __init__(self) -> None:
        self._moved = threading.Condition()
        self._looking: set[Pass] = set()
        self._changing: set[Pass] = set()
        self._waiting = 0

    @property
    def is_open(self) -> bool:
        """Whether `look_now` would be let in."""
        with self._moved:
            return self._is_open()

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Around a whole call that looks a client up."""
        mine = self.look()
        try:
            yield
        finally:
            self.leave(mine)

    def look(self) -> Pass:
        """As `looking`, to the end of which the Pass must be given back."""
        with self._moved:
            self._wait_for(self._is_open)
            return _enter(self._looking, _LOOK_SECONDS)

    def look_now(self) -> Pass | None:
        """As `look`; None where it would have to wait."""
        with self._moved:
            return _enter(self._looking, _LOOK_SECONDS) if self._is_open() else None

    def change(self, *, at_most: float = math.inf) -> Pass:
        """Waits for all others and keeps them out until the Pass is given back, or so many seconds."""
        with self._moved:
            self._waiting += 1  # so that those who look cannot keep out who changes
            try:
                self._wait_for(lambda: not self._inside())
            finally:
                self._waiting -= 1
            return _enter(self._changing, at_most)

    @contextmanager
    def changing(self) -> Iterator[None]:
        mine = self.change()
        try:
            yield
        finally:
            self.leave(mine)

    def wait(self) -> None:
        """Comes back when it is open."""
        with self._moved:
            self._wait_for(self._is_open)

    def leave(self, mine: Pass) -> None:
        """May come twice, and from any thread."""
        with self._moved:
            self._looking.discard(mine)
            self._changing.discard(mine)
            self._moved.notify_all()

    def _is_open(self) -> bool:
        return not self._waiting and not _counting(self._changing)

    def _inside(self) -> list[Pass]:
        return [*_counting(self._changing), *_counting(self._looking)]

    def _wait_for(self, condition: Callable[[], bool]) -> None:
        while not condition():
            ends = min((each.until for each in self._inside()), default=math.inf)
            self._moved.wait(None if ends == math.inf else max(ends - time.monotonic(), 0.0))


def _enter(among: set[Pass], seconds: float) -> Pass:
    mine = Pass(until=time.monotonic() + seconds)
    among.add(mine)
    return mine


def _counting(among: set[Pass]) -> list[Pass]:
    now = time.monotonic()
    return [each for each in among if each.until > now]
