"""The command line: arguments and configuration become one call each; results to stdout, the log to stderr.

Exit 0: fine. 1: the input or a check was refused, said line by line. 2: configuration or database.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer

from bot import logs
from bot.config import Config, ConfigError, load, warnings
from bot.http.server import CannotListen
from bot.transports.base import TransportError
from bot.wiring import AccountInUse
from flows.errors import ConfigError as FlowConfigError
from storage.database import Database
from storage.errors import StorageError
from storage.store import open_store

app = typer.Typer(
    help="A WhatsApp bot that steps aside the moment you step in, and comes back by itself.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    add_completion=False,
)

REFUSED, BROKEN = 1, 2

T = TypeVar("T")

ConfigOption = Annotated[Path | None, typer.Option("--config", help="Default: config.yaml in this folder.")]
AccountOption = Annotated[str | None, typer.Option("--account", help="Which number, when there are several.")]
DatabaseOption = Annotated[
    str | None, typer.Option("--database", help="A PostgreSQL URL instead of a temporary one.")
]

_EXPECTED = (ConfigError, FlowConfigError, StorageError, CannotListen, AccountInUse, TransportError)


def main() -> None:
    """The console script."""
    app()


@app.command()
def run(config: ConfigOption = None) -> None:
    """Serve the configured numbers until stopped."""
    settings = _load(config)
    from bot.serve import serve
    from bot.transports.whatsapp.library import silence_go_output

    silence_go_output()
    _run(serve(settings))


@app.command()
def pair(
    config: ConfigOption = None,
    account: AccountOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the raw QR texts as JSON lines.")] = False,
) -> None:
    """Link a number: show its QR code until a phone has scanned it."""
    settings = _load(config)
    from bot.pair import pair as link
    from bot.transports.whatsapp.library import silence_go_output

    silence_go_output()
    raise typer.Exit(0 if _run(link(settings, account, as_json=as_json)) else REFUSED)


@app.command()
def chat(
    config: ConfigOption = None,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="JSON lines on stdin and stdout.")] = False,
    database: DatabaseOption = None,
) -> None:
    """Talk to the bot here, without a phone; nothing is kept."""
    settings = _load(config, quiet=True)
    if not jsonl:
        from bot.demo import talk

        _run(talk(settings, database))
        return
    raise typer.Exit(0 if _run(_chat_jsonl(settings, database)) else REFUSED)


@app.command()
def demo(database: DatabaseOption = None) -> None:
    """Meet the bot: a sample shop in this terminal, without a phone or a key."""
    from bot.demo import sample_config, talk

    logs.setup(level="error")
    _run(talk(sample_config(), database))


@app.command()
def check(config: ConfigOption = None) -> None:
    """Tell what is wrong with the configuration, and where; then whether the database can be used."""
    settings = _load(config)
    for warning in warnings(settings):
        typer.echo(f"warning: {warning}")
    from bot.metrics import Metrics
    from bot.wiring import build_flows

    async def work() -> None:
        build_flows(settings, Metrics())
        async with store_of(settings):
            pass

    _run(work())
    typer.echo("The configuration is fine, and the database is up to date.")


@app.command()
def migrate(config: ConfigOption = None) -> None:
    """Bring the database's schema up to date; a store with messages is backed up first."""
    settings = _load(config)

    async def work() -> None:
        async with store_of(settings) as database:
            typer.echo(f"The database at {database.address.place} is up to date.")

    _run(work())


@app.command()
def why(
    reference: Annotated[str, typer.Argument(metavar="ID", help="A message's id: the platform's or ours.")],
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Why a message was answered or not, and what became of the answer."""
    settings = _load(config)
    from bot.why import tell

    raise typer.Exit(0 if _run(tell(settings, reference, as_json=as_json)) else REFUSED)


@app.command()
def backup(
    to: Annotated[Path, typer.Argument(help="The file to write.")],
    config: ConfigOption = None,
    schema_only: Annotated[bool, typer.Option("--schema-only")] = False,
    data_only: Annotated[bool, typer.Option("--data-only")] = False,
) -> None:
    """Write the whole store into one file, and check that it can be read back."""
    settings = _load(config)
    from storage.backup import backup as write

    async def work() -> None:
        async with store_of(settings) as database:
            made = await write(database.address.url, to, schema_only=schema_only, data_only=data_only)
            typer.echo(f"{made.path}: {made.size_bytes} bytes")

    _run(work())


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="A file that backup has written.")],
    config: ConfigOption = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace what the database holds.")] = False,
) -> None:
    """Read a backup into the database."""
    settings = _load(config)
    from storage.backup import restore as read

    async def work() -> None:
        async with store_of(settings, migrated=False) as database:
            await read(database.address.url, file, replace=replace)
            typer.echo(f"{database.address.place} is as it was in {file}.")

    _run(work())


@asynccontextmanager
async def store_of(
    config: Config, *, migrated: bool = True, connections: int = 10
) -> AsyncIterator[Database]:
    """The configured store: attached to if a daemon runs it, else started for as long as the context lasts."""
    url = config.database.url.get_secret_value() if config.database.url else None
    async with open_store(url, config.database.dir, migrated=migrated, max_size=connections) as database:
        yield database


async def _chat_jsonl(config: Config, database_url: str | None) -> bool:
    from bot.jsonl import LONGEST_LINE, encode
    from bot.jsonl import chat as play
    from bot.stdin import lines
    from bot.temporary import temporary_store

    chatting = asyncio.current_task()

    def write(value: dict[str, Any]) -> None:
        try:
            sys.stdout.buffer.write(encode(value))
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            # Whoever read the results has gone. Python would complain of it once more at the exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            assert chatting is not None  # noqa: S101 - we are inside it
            chatting.cancel()

    async with temporary_store(database_url) as database:
        return await play(config, database, lines(LONGEST_LINE), write)


def _load(path: Path | None, *, quiet: bool = False) -> Config:
    try:
        config = load(path)
    except ConfigError as exc:
        for problem in exc.problems:
            typer.echo(str(problem), err=True)
        raise typer.Exit(BROKEN) from None
    logs.setup(level="error" if quiet else config.log.level, format=config.log.format)
    return config


def _run(work: Coroutine[Any, Any, T]) -> T:
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
    raise typer.Exit(BROKEN) from None


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for each in group.exceptions:
        found += _leaves(each) if isinstance(each, BaseExceptionGroup) else [each]
    return found
