"""The named points of a message's path, at each of which a test has the process die; otherwise they do nothing.

`SIDESTEP_CRASH_AT=claimed:3` in the environment ends the process by SIGKILL, as `kill -9` does, when it passes
`claimed` for the third time. Each point lies right after a step that can be told from the next one afterwards:
by what the store holds, or by what the platform has.
"""

from __future__ import annotations

import os
import signal
from enum import StrEnum
from itertools import count

import structlog

log = structlog.get_logger(__name__)

VARIABLE = "SIDESTEP_CRASH_AT"


class Point(StrEnum):
    """What has just been done; what comes next has not."""

    SEEN = "seen"  # an event is handed over by the transport, and in memory only
    RECORDED = "recorded"  # it is committed, and nobody acts on it yet
    PROPOSED = "proposed"  # an answer is made, or a command carried out in mind; nothing of it is committed
    DECIDED = "decided"  # decision, answer and effects are committed, and nobody is told
    CLAIMED = "claimed"  # a send is claimed, and has not started
    SENT = "sent"  # the platform has taken it, and the store does not know
    MARKED = "marked"  # the store knows
    RECEIVED = "received"  # a receipt is committed
    RESUMED = "resumed"  # a pause has ended by clock, and nobody is told
    RECOVERING = "recovering"  # a new process has called what was half sent unknown, and taken up nothing yet


class _Fuse:
    """Burns down when one point is passed for the nth time."""

    def __init__(self, point: Point, times: int) -> None:
        self._point = point
        self._times = times
        self._passed = count(1)

    def passing(self, point: Point) -> None:
        if point is self._point and next(self._passed) == self._times:
            log.critical("killed_at_crash_point", point=point, variable=VARIABLE)
            os.kill(os.getpid(), signal.SIGKILL)


def _fuse(text: str) -> _Fuse:
    name, _, times = text.partition(":")
    try:
        return _Fuse(Point(name), int(times or 1))
    except ValueError:
        known = ", ".join(Point)
        raise SystemExit(
            f"{VARIABLE}={text}: must be one of {known}, and perhaps :N for the Nth time"
        ) from None


_lit = _fuse(text) if (text := os.environ.get(VARIABLE)) else None


def passing(point: Point) -> None:
    """The path has come to this point."""
    if _lit is not None:
        _lit.passing(point)
