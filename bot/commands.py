"""What all commands of the command line share: options, how the configuration is read, and how a run ends."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer

from bot import logs
from bot.config import Config, ConfigError, load
from bot.http.server import CannotListen
from bot.importing.errors import ImportRefused
from bot.media.places import PlaceError
from bot.transports.base import PairingFailed, TransportError
from bot.wiring import AccountInUse
from flows.errors import ConfigError as FlowConfigError
from storage.accounts import AccountRefused
from storage.database import Database
from storage.erasing import PersonRefused
from storage.errors import NumberTaken, StorageError
from storage.faces import show_public
from storage.reading.source import Replica
from storage.store import open_store

REFUSED, BROKEN = 1, 2

T = TypeVar("T")

ConfigOption = Annotated[Path | None, typer.Option("--config", help="Default: config.yaml in this folder.")]
AccountOption = Annotated[str | None, typer.Option("--account", help="Which number, when there are several.")]

_EXPECTED = (
    ConfigError,
    FlowConfigError,
    StorageError,
    CannotListen,
    AccountInUse,
    TransportError,
    PlaceError,
    ImportRefused,
)
# What is no fault of the configuration or the database, but of what was asked for.
_INPUT = (AccountRefused, NumberTaken, PairingFailed, ImportRefused, PersonRefused)


@asynccontextmanager
async def store_of(
    config: Config, *, migrated: bool = True, connections: int = 10
) -> AsyncIterator[Database]:
    """The configured store: attached to if a daemon runs it, else started for as long as the context lasts."""
    url = config.database.url.get_secret_value() if config.database.url else None
    async with open_store(url, config.database.dir, migrated=migrated, max_size=connections) as database:
        if migrated and config.store.public_face is not None:
            await show_public(database, config.store.public_face)
        yield database


@asynccontextmanager
async def replica_of(config: Config) -> AsyncIterator[Replica | None]:
    """Where the heavy reads go, if the configuration names a replica."""
    if config.store.read_url is None:
        yield None
        return
    replica = Replica(config.store.read_url.get_secret_value())
    try:
        yield replica
    finally:
        await replica.close()


def load_settings(path: Path | None, *, quiet: bool = False) -> Config:
    """The configuration, and the log as it says; what is wrong with it ends the process.

    `quiet`: a command that tells in words how it goes logs errors only, unless everything is asked for.
    """
    try:
        config = load(path)
    except ConfigError as exc:
        for problem in exc.problems:
            typer.echo(str(problem), err=True)
        raise typer.Exit(BROKEN) from None
    logs.setup(
        level="error" if quiet and config.log.level != "debug" else config.log.level, format=config.log.format
    )
    return config


def finish(work: Coroutine[Any, Any, T]) -> T:
    """Do the work of a command; an expected failure ends the process, with its words on stderr."""
    try:
        return asyncio.run(_until_terminated(work))
    except BaseExceptionGroup as group:
        expected, rest = group.split(_EXPECTED)
        if rest is not None or expected is None:
            raise
        _refuse(*_leaves(expected))
    except _EXPECTED as exc:
        _refuse(exc)
    except KeyboardInterrupt:
        raise typer.Exit(128 + signal.SIGINT) from None
    except asyncio.CancelledError:
        raise typer.Exit(128 + signal.SIGTERM) from None


async def _until_terminated(work: Coroutine[Any, Any, T]) -> T:
    """Do the work, and tidy up after it when a signal ends it early; who serves takes the signal over."""
    working = asyncio.current_task()
    assert working is not None  # noqa: S101 - a coroutine runs in a task
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, working.cancel)
    return await work


def _refuse(*errors: BaseException) -> NoReturn:
    for error in errors:
        typer.echo(str(error), err=True)
    raise typer.Exit(REFUSED if all(isinstance(e, _INPUT) for e in errors) else BROKEN) from None


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for each in group.exceptions:
        found += _leaves(each) if isinstance(each, BaseExceptionGroup) else [each]
    return found
