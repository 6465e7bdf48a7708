"""A disk with little room, for a PostgreSQL to fill; it takes the right to mount."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

# A new cluster with our tables takes about half of it, and as much again where its programs have to be copied.
_SIZE = "192m"
_PART = bytes(1 << 16)


class SmallDisk:
    """`folder` is where it is mounted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """To the last page."""
        with self._ballast.open("ab", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(_PART)
            except OSError as exc:
                assert exc.strerror == "No space left on device"  # noqa: PT017 - it ends only so

    def make_room(self) -> None:
        self._ballast.unlink()


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    """Mounted on this folder; skips the test where we may not mount."""
    folder.mkdir(mode=0o711)
    mounted = _run("mount", "-t", "tmpfs", "-o", f"size={_SIZE},mode=711", "sidestep", str(folder))
    if mounted is not None:
        pytest.skip(f"a disk that can be filled takes the right to mount one: {mounted}")
    try:
        yield SmallDisk(folder)
    finally:
        # Lazily: the server's logger ends a moment after it.
        assert _run("umount", "--lazy", str(folder)) is None


def _run(*command: str) -> str | None:
    """What it complains of."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as exc:
        return str(exc)
    return done.stderr.strip() or "failed" if done.returncode else None
