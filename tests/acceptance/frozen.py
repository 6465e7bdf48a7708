"""A PostgreSQL that hangs, or dies: its processes are stopped where they stand and go on afterwards, or are killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def server_of(folder: Path) -> int:
    """The process id of the server on a data folder."""
    return int((folder / "data" / "postmaster.pid").read_text(encoding="utf-8").split()[0])


@contextmanager
def frozen(folder: Path) -> Iterator[None]:
    """The server on this folder accepts connections and answers nobody."""
    server = server_of(folder)
    stopped = [server]
    try:
        # The server first: it makes no further process then.
        os.kill(server, signal.SIGSTOP)
        for child in _children(server):
            stopped.append(child)
            _tell(child, signal.SIGSTOP)
        yield
    finally:
        for pid in stopped:
            _tell(pid, signal.SIGCONT)


def kill_server(folder: Path) -> None:
    """All its processes at once, as when the power fails."""
    server = server_of(folder)
    os.kill(server, signal.SIGSTOP)  # it makes no further process then
    for pid in (*_children(server), server):
        _tell(pid, signal.SIGKILL)


def _tell(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _children(parent: int) -> list[int]:
    return [int(stat.parent.name) for stat in Path("/proc").glob("[0-9]*/stat") if _parent(stat) == parent]


def _parent(stat: Path) -> int | None:
    with suppress(OSError):
        return int(stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
    return None
