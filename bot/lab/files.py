"""The media server: takes and hands out files over HTTP, and fails at it when a test says so; has no keys."""

import asyncio
import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs

from bot.lab import web
from bot.lab.errors import ProtocolError
from bot.lab.media import MediaStore
from bot.lab.timeline import Timeline

AUTH = "lab"  # what a client gets by media_conn, and shows here
_URL = "https://mmg.whatsapp.net"
_REASONS = {
    403: "Forbidden",
    404: "Not Found",
    410: "Gone",
    413: "Content Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class FileServer:
    """Each fault lasts as long as its `with` block. `downloads`, `uploads` and `deleted` are paths."""

    def __init__(self, store: MediaStore) -> None:
        self.downloads: list[str] = []
        self.uploads: list[str] = []
        self.deleted: Timeline[str] = Timeline()
        self.asked = asyncio.Event()  # set by a download that is held, when it has begun
        self._store = store
        self._download_status = self._upload_status = 200
        self._damaged = self._dropped = False
        self._open = asyncio.Event()
        self._open.set()

    @contextmanager
    def failing_downloads(self, status: int) -> Iterator[None]:
        """404 and 410: the file is gone. Files are kept for some weeks only."""
        self._download_status = status
        try:
            yield
        finally:
            self._download_status = 200

    @contextmanager
    def failing_uploads(self, status: int) -> Iterator[None]:
        self._upload_status = status
        try:
            yield
        finally:
            self._upload_status = 200

    @contextmanager
    def dropping_uploads(self) -> Iterator[None]:
        """The connection is reset in the middle."""
        self._dropped = True
        try:
            yield
        finally:
            self._dropped = False

    @contextmanager
    def damaging_downloads(self) -> Iterator[None]:
        """One bit of each file is turned."""
        self._damaged = True
        try:
            yield
        finally:
            self._damaged = False

    @contextmanager
    def holding_downloads(self) -> Iterator[None]:
        """The first half of a file comes at once, the rest only at the end of the block."""
        self.asked.clear()
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    async def serve(
        self, request: web.Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if request.method == "POST":
            self.uploads.append(request.path)
            await self._take(request, reader, writer)
        elif request.method == "DELETE":
            await self._delete(request, writer)
        else:
            self.downloads.append(request.path)
            await self._hand_out(request, writer)

    async def _take(
        self, request: web.Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if self._dropped:
            writer.transport.abort()
            return
        body = await web.read_body(request, reader)
        _check(request, body)
        if self._upload_status != 200:
            await web.respond(writer, _line(self._upload_status))
            return
        self._store.put(request.path, body)
        answer = {"url": _URL + request.path, "direct_path": f"{request.path}?ccb=1"}
        await web.respond(writer, "200 OK", json.dumps(answer).encode())

    async def _delete(self, request: web.Request, writer: asyncio.StreamWriter) -> None:
        """Clients tidy up what was only for them, such as history; the path stands in the query, in base64."""
        [encoded] = parse_qs(request.target.partition("?")[2])["d_md"]
        path = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
        self._store.delete(path)
        self.deleted.note(path)
        await web.respond(writer, "200 OK")

    async def _hand_out(self, request: web.Request, writer: asyncio.StreamWriter) -> None:
        sealed = self._store.get(request.path)
        if self._download_status != 200 or sealed is None:
            await web.respond(writer, _line(404 if sealed is None else self._download_status))
            return
        if self._damaged:
            sealed = bytes([sealed[0] ^ 1]) + sealed[1:]
        half = len(sealed) // 2
        writer.write(web.head("200 OK", len(sealed)) + sealed[:half])
        await writer.drain()
        if not self._open.is_set():
            self.asked.set()
            await self._open.wait()
        writer.write(sealed[half:])
        await writer.drain()


def _check(request: web.Request, body: bytes) -> None:
    """Only who was let in may leave something here, and only under the hash of what it is."""
    said = parse_qs(request.target.partition("?")[2])
    if said.get("auth") != [AUTH]:
        raise ProtocolError("an upload without the word that media_conn gives for it")
    token = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).decode()
    if said.get("token") != [token] or not request.path.endswith(f"/{token}"):
        raise ProtocolError("an upload under another hash than its own")


def _line(status: int) -> str:
    return f"{status} {_REASONS[status]}"
