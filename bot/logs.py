"""How the daemon logs: an event a line to stderr, JSON unless a person watches, redacted; it decides no content."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, Literal, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from bot.redaction import redact_values

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "json", "console"]

# They tell each request, connection or job, at a level meant for their own developers.
_TALKATIVE = (
    "anthropic",
    "apscheduler",
    "asyncio",
    "httpcore2",
    "httpx2",
    "neonize",
    "openai",
    "uvicorn",
    "whatsmeow",
    "Whatsmeow",
)


def setup(*, level: Level = "info", format: Format = "auto", stream: TextIO | None = None) -> None:  # noqa: A002 - the key's name in config.yaml
    """Send the whole process's logging to a stream (stderr), the libraries' too. A second call replaces the first."""
    stream = sys.stderr if stream is None else stream
    as_json = format == "json" or (format == "auto" and not stream.isatty())
    shown: list[Processor] = [
        # Plain frames: structlog's and rich's own tracebacks print locals, and so bodies and keys.
        structlog.processors.format_exc_info,
        _redact,
        structlog.processors.JSONRenderer(_to_json) if as_json else _console(stream),
    ]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *_shared_processors()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *shown],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.DEBUG if level == "debug" else logging.WARNING)
    # Its pool warns with a traceback for each connection that a database takes down; we tell of that ourselves.
    logging.getLogger("asyncpg").setLevel(logging.ERROR)
    # A failed job is told by our scheduler. A run that a stop cancels, or that waits for one under way, is no failure.
    logging.getLogger("apscheduler.executors").setLevel(logging.CRITICAL)
    logging.getLogger("apscheduler.scheduler").setLevel(logging.ERROR)
    logging.captureWarnings(True)
    # Our own events, two and more for each message, take the short way: the library's records cost as much as all else.
    structlog.configure(
        processors=[_add_name, *_shared_processors(), *shown],
        logger_factory=lambda name="": _Lines(name, stream),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )


class _Lines:
    """Writes each line at once. `name` is the module's."""

    def __init__(self, name: str, stream: TextIO) -> None:
        self.name = name
        self._stream = stream

    def line(self, text: str) -> None:
        with suppress(OSError, ValueError):  # whoever read it has gone: no message may fail of that
            self._stream.write(text + "\n")
            self._stream.flush()

    debug = info = warning = error = critical = exception = line


def _add_name(logger: _Lines, _: str, event: EventDict) -> EventDict:
    event["logger"] = logger.name
    return event


def _shared_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _redact(_: WrappedLogger, __: str, event: EventDict) -> MutableMapping[str, Any]:
    return redact_values(event)


def _to_json(event: EventDict, **_: Any) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _console(stream: TextIO) -> structlog.dev.ConsoleRenderer:
    return structlog.dev.ConsoleRenderer(
        colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
