"""Opens what is to be imported, a file or an archive, as streams of bounded size; it never writes a file.

Nothing of an archive is unpacked to a path: its entries are only read, whatever their names say. What it says
of its sizes is checked before it is opened, and once more while it is read.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from bot.importing.errors import ImportRefused
from bot.importing.text import Readable


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """What an archive may be at most."""

    entries: int = 100_000
    directory_bytes: int = 32 << 20
    text_bytes: int = 1 << 30
    file_bytes: int = 2 << 30
    total_bytes: int = 64 << 30
    ratio: int = 200
    ratio_from_bytes: int = 8 << 20  # less than that may be as repetitive as it likes


CAPS = Caps()
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    UnicodeDecodeError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One file to import. `title` is its name without an ending; `size` is its text's, in bytes."""

    path: Path
    title: str
    size: int
    files: dict[str, zipfile.ZipInfo]
    archive: zipfile.ZipFile | None
    text: zipfile.ZipInfo | None
    caps: Caps = CAPS

    @property
    def is_archive(self) -> bool:
        return self.archive is not None

    @contextmanager
    def opened(self) -> Iterator[Readable]:
        """The text, from its beginning."""
        if self.archive is None or self.text is None:
            with self.path.open("rb") as stream:
                yield stream
            return
        with self._entry(self.text, self.caps.text_bytes) as entry:
            yield entry

    @contextmanager
    def attachment(self, name: str) -> Iterator[Readable]:
        """A file of the archive. Raises ImportRefused where it cannot be read, also while it is read."""
        with self._entry(self.files[name], self.caps.file_bytes) as entry:
            yield entry

    @contextmanager
    def _entry(self, info: zipfile.ZipInfo, most: int) -> Iterator[Readable]:
        assert self.archive is not None  # noqa: S101 - entries are only in archives
        with _reading():
            stream = self.archive.open(info)
        with stream:
            yield _Capped(stream, info, most, self.caps)


@contextmanager
def opened(path: Path, caps: Caps = CAPS) -> Iterator[Source]:
    """The file as a source. Raises ImportRefused: it is not there, or an archive that is not what it should be."""
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise ImportRefused("it is no file")
        with path.open("rb") as stream:
            is_archive = stream.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
            if is_archive:
                _check_directory(stream, caps)
        with _reading():
            archive = zipfile.ZipFile(path) if is_archive else None
    except OSError as exc:
        raise ImportRefused(f"it cannot be read: {exc.strerror or type(exc).__name__}") from exc
    if archive is None:
        yield Source(path=path, title=path.stem, size=size, files={}, archive=None, text=None, caps=caps)
        return
    with archive:
        text, files = _contents(archive, caps)
        title = PurePosixPath(text.filename).stem
        yield Source(
            path=path, title=path.stem if title == "_chat" else title, size=text.file_size, files=files,
            archive=archive, text=text, caps=caps,
        )  # fmt: skip


def _check_directory(stream: IO[bytes], caps: Caps) -> None:
    """Before the library reads the archive's list into memory: how long it says that it is."""
    stream.seek(0, io.SEEK_END)
    end = stream.tell()
    stream.seek(max(0, end - (1 << 16) - 64))
    tail = stream.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        raise ImportRefused(
            "it is a broken archive: its list of files is not there. Export it again, or copy it again"
        )
    number, _, size = struct.unpack_from("<HHI", tail, at + 8)
    large = tail.rfind(b"PK\x06\x06", 0, at)
    if large >= 0 and len(tail) >= large + 56:
        number, _, size = struct.unpack_from("<QQQ", tail, large + 24)
    if size > caps.directory_bytes or number > caps.entries:
        raise ImportRefused(f"it is an archive of more than {caps.entries} files: no export of a chat is")


def _contents(archive: zipfile.ZipFile, caps: Caps) -> tuple[zipfile.ZipInfo, dict[str, zipfile.ZipInfo]]:
    infos = [info for info in archive.infolist() if not info.is_dir()]
    if len(infos) > caps.entries:
        raise ImportRefused(f"it is an archive of more than {caps.entries} files: no export of a chat is")
    if sum(info.file_size for info in infos) > caps.total_bytes:
        raise ImportRefused(
            f"what is in it is larger than {caps.total_bytes >> 20} MiB: no export of a chat is"
        )
    for info in infos:
        _check_ratio(info.file_size, info.compress_size, caps)
    named = {PurePosixPath(info.filename.replace("\\", "/")).name: info for info in infos}
    texts = [name for name in named if name.casefold().endswith(".txt")]
    # A document that somebody has sent may be a text, too; it does not have the name of a chat.
    chats = (
        [t for t in texts if t == "_chat.txt"] or [t for t in texts if "whatsapp" in t.casefold()] or texts
    )
    if len(chats) != 1:
        inner = any(name.casefold().endswith(".zip") for name in named)
        raise ImportRefused(
            f"{'several chats are' if chats else 'no chat is'} in the archive"
            + (", but another archive: unpack it, and import what is in it" if inner and not chats else "")
            + (": unpack it, and import each .txt" if chats else "")
        )
    text = named.pop(chats[0])
    if text.flag_bits & 1:
        raise ImportRefused("the archive is encrypted: unpack it, and import what is in it")
    return text, named


def _check_ratio(unpacked: int, packed: int, caps: Caps) -> None:
    if unpacked > caps.ratio_from_bytes and unpacked > max(1, packed) * caps.ratio:
        raise ImportRefused(
            f"an entry of the archive unpacks to more than {caps.ratio} times its size: no export does"
        )


class _Capped:
    """An entry while it is unpacked: what it says of its size need not be so."""

    def __init__(self, stream: IO[bytes], info: zipfile.ZipInfo, most: int, caps: Caps) -> None:
        self._stream = stream
        self._info = info
        self._most = most
        self._caps = caps
        self._read = 0

    def read(self, size: int = -1, /) -> bytes:
        # Never at once what an entry holds as a whole.
        with _reading():
            chunk = self._stream.read(min(size, 1 << 20) if size > 0 else 1 << 20)
        self._read += len(chunk)
        if self._read > self._most:
            raise ImportRefused(f"an entry of the archive is larger than {self._most} bytes")
        _check_ratio(self._read, self._info.compress_size, self._caps)
        return chunk


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except _BROKEN as exc:
        raise ImportRefused(
            f"the archive is broken, encrypted or of a kind that cannot be read ({type(exc).__name__}): export it again"
        ) from exc
