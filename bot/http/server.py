"""A web server inside the daemon's loop, that can neither kill it nor keep it from stopping; it knows no route."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

GRACE_SECONDS = 3
"""For requests under way at the stop. Without a limit an open event stream would hold it for ever."""

_BACKLOG = 128


class CannotListen(Exception):
    """The address cannot be served on; the text says why and what to do."""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # The daemon owns SIGTERM and SIGINT; uvicorn would take them from it.
        yield


def listen(host: str, port: int) -> socket.socket:
    """Take the address, before anything else is started. Port 0 is any free one. Raises CannotListen.

    uvicorn itself would call sys.exit on a busy port, inside a task: no `except` stops that.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as exc:
        raise CannotListen(f"cannot listen on {host}, port {port}: {_reason(exc)}") from exc


async def serve(app: ASGIApp, listening: socket.socket, stop: asyncio.Event) -> None:
    """Serve until told to stop, or cancelled; then end what is under way within GRACE_SECONDS."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        # Behind a proxy nothing here depends on the client's address, so nobody is believed about it.
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]), name="http")
    stopping = asyncio.create_task(stop.wait(), name="http-stop")
    try:
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        server.should_exit = True
        await serving


def _reason(exc: OSError) -> str:
    match exc.errno:
        case errno.EADDRINUSE:
            return "another program has it, perhaps another sidestep: stop that one, or set http.port to a free port"
        case errno.EACCES:
            return "ports below 1024 need more rights: set http.port to a higher one"
        case _:
            return "this machine has no such address: set http.host to one of its own, or to 127.0.0.1"
