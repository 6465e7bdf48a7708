"""Loads neonize, once and lazily, and undoes what its import does to the process; nobody else imports it."""

import asyncio
import functools
import importlib
import io
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from bot.filetypes import provide_libmagic
from bot.transports.base import TransportError

_log = structlog.get_logger(__name__)

_DIGITS = re.compile(r"\d{5,}")
_LONGEST_TEXT = 300
# Go functions without a result which neonize declares as returning a string that it then reads and frees:
# it works only as long as the register for results happens to hold zero.
_WITHOUT_RESULT = ("Stop", "StopAll", "Disconnect", "SetForceActiveDeliveryReceipts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Neonize:
    """The parts of neonize that we use. It ships no types: this is where `Any` begins."""

    client: Any
    events: Any
    async_events: Any
    errors: Any
    enums: Any
    protocol: Any
    messages: Any
    properties: Any
    binder: Any

    @property
    def go(self) -> Any:
        return self.binder.gocode


@functools.cache
def load() -> Neonize:
    """Raises TransportError where neonize has no library for this machine."""
    try:
        with undisturbed():
            provide_libmagic()
            neonize = _import()
    except (ImportError, OSError, RuntimeError) as exc:
        raise TransportError(f"neonize cannot be loaded on this machine: {redacted(str(exc))}") from exc
    _keep_quiet()
    for name in _WITHOUT_RESULT:
        _declare_without_result(getattr(neonize.go, name))
    # neonize forgets to say how this one's result becomes bytes, as it does for all others of its kind.
    neonize.go.DecryptPollVote.errcheck = neonize.go.DownloadAny.errcheck
    return neonize


def _import() -> Neonize:
    return Neonize(
        client=importlib.import_module("neonize.aioze.client"),
        events=importlib.import_module("neonize.events"),
        async_events=importlib.import_module("neonize.aioze.events"),
        errors=importlib.import_module("neonize.exc"),
        enums=importlib.import_module("neonize.utils.enum"),
        protocol=importlib.import_module("neonize.proto.Neonize_pb2"),
        messages=importlib.import_module("neonize.proto.waE2E.WAWebProtobufsE2E_pb2"),
        properties=importlib.import_module("neonize.proto.waCompanionReg.WAWebProtobufsCompanionReg_pb2"),
        binder=importlib.import_module("neonize._binder"),
    )


def bind_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Makes neonize call back on this loop. It knows one loop a process and never forgets it by itself."""
    module = load().async_events
    bound: asyncio.AbstractEventLoop | None = module.event_global_loop
    if bound is not None and bound is not loop and not bound.is_closed():
        raise TransportError("neonize already calls back on another event loop of this process")
    module.event_global_loop = loop


def redacted(text: str) -> str:
    """A library's text without what could be a number or a body."""
    return _DIGITS.sub("…", text)[:_LONGEST_TEXT]


def silence_go_output() -> None:
    """Keeps standard output for results: Go prints there, phone numbers included.

    Python's stdout moves to a copy of descriptor 1, and descriptor 1 leads nowhere. For a process that
    owns its stdout; call it before anything is printed.
    """
    sys.stdout.flush()
    if sys.stdout.fileno() != 1:
        return
    copy = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    sys.stdout = os.fdopen(copy, "w", buffering=1, encoding=sys.stdout.encoding, closefd=False)


@contextmanager
def undisturbed() -> Iterator[None]:
    """neonize configures the root logger when it is imported, and leaves a pipe and a process behind."""
    root, popen = logging.getLogger(), os.popen
    handlers, level = root.handlers[:], root.level

    def finished(command: str) -> io.StringIO:
        with popen(command) as pipe:
            return io.StringIO(pipe.read())

    os.popen = finished  # type: ignore[assignment] # only for `uname`, whose output is all that is read
    try:
        yield
    finally:
        os.popen = popen
        root.handlers[:] = handlers
        root.setLevel(level)


class _Redacting(logging.Handler):
    """Passes on what Go and neonize complain about, without the numbers in it."""

    def emit(self, record: logging.LogRecord) -> None:
        _log.warning(
            "whatsapp_library_complained", source=record.name, complaint=redacted(record.getMessage())
        )


def _keep_quiet() -> None:
    handler = _Redacting(level=logging.ERROR)
    for name in ("neonize", "whatsmeow", "Whatsmeow"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False
    # This logger's own level is the one that neonize hands to Go.
    logging.getLogger("neonize.utils.log").setLevel(logging.ERROR)


def _declare_without_result(function: Any) -> None:
    function.restype = None
    # ctypes leaves no other way to take a check back.
    if getattr(function, "errcheck", None) is not None:
        del function.errcheck
