"""Files in a folder of this machine: written beside, synced, then renamed; knows nothing of what they are.

A file is there whole or not at all, also after the power has failed. What is being written lies in `.incoming`.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TypeVar

from bot.media.places import SET_ASIDE, Entry, Key, NoSuchFile, PlaceUnavailable, checked, read_key

_INCOMING = ".incoming"
_ENTRIES_AT_ONCE = 1000

T = TypeVar("T")


class FolderPlace:
    """`root` is made when the first file comes. Only its owner can read it."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()  # a folder has one address, whatever links lead to it

    @property
    def base(self) -> str:
        return self._root.as_uri()

    async def put(self, key: Key, data: bytes) -> None:
        await self._do(lambda: self._write(self._path(key), data))

    async def get(self, key: Key) -> bytes:
        return await self._do(self._path(key).read_bytes)

    async def size(self, key: Key) -> int | None:
        try:
            return await self._do(lambda: self._path(key).stat().st_size)
        except NoSuchFile:
            return None

    async def remove(self, key: Key) -> None:
        await self._do(lambda: self._path(key).unlink(missing_ok=True))

    async def set_aside(self, key: Key) -> None:
        await self._do(lambda: self._rename(self._path(key), self._root / SET_ASIDE / Path(key).name))

    async def discard(self, entry: Entry) -> None:
        name = entry.name.removeprefix(f"{_INCOMING}/")
        if name == entry.name or "/" in name:
            raise ValueError("this was not left by a write")
        await self._do(lambda: (self._root / _INCOMING / name).unlink(missing_ok=True))

    async def entries(self) -> AsyncIterator[Entry]:
        found = self._walk()
        while some := await self._do(lambda: list(islice(found, _ENTRIES_AT_ONCE))):
            for entry in some:
                yield entry

    def _path(self, key: Key) -> Path:
        return self._root / checked(key)

    def _write(self, path: Path, data: bytes) -> None:
        incoming = self._root / _INCOMING
        for folder in (self._root, incoming, path.parent.parent, path.parent):
            self._make(folder)
        written = incoming / secrets.token_hex(16)
        descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123  it is open already
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            written.replace(path)
        except BaseException:
            with suppress(OSError):
                written.unlink(missing_ok=True)
            raise
        _sync(path.parent)

    def _rename(self, path: Path, to: Path) -> None:
        self._make(to.parent)
        path.replace(to)
        _sync(to.parent)
        _sync(path.parent)

    def _make(self, folder: Path) -> None:
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=folder == self._root, exist_ok=True)
            _sync(folder.parent)

    def _walk(self) -> Iterator[Entry]:
        now = time.time()
        for folder, _, names in os.walk(self._root):
            for name in names:
                path = Path(folder, name)
                with suppress(FileNotFoundError):  # moved or removed just now
                    stat = path.lstat()
                    relative = path.relative_to(self._root).as_posix()
                    yield Entry(
                        name=relative,
                        key=read_key(relative),
                        size_bytes=stat.st_size,
                        age_seconds=now - stat.st_mtime,
                    )

    async def _do(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(work)
        except FileNotFoundError as exc:
            raise NoSuchFile(f"there is no such file in {self._root}") from exc
        except OSError as exc:
            raise PlaceUnavailable(f"the media folder {self._root} cannot be used: {exc.strerror}") from exc


def is_leftover(entry: Entry) -> bool:
    """Whether it lies where files are written before they are there."""
    return entry.name.startswith(f"{_INCOMING}/")


def _sync(folder: Path) -> None:
    """Make what was renamed or made in it last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
