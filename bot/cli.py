"""The command line: arguments and configuration become one call each; results to stdout, the log to stderr.

Exit 0: fine. 1: the input or a check was refused, said line by line. 2: configuration or database.
"""

from __future__ import annotations

import asyncio
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from bot import logs
from bot.account_cli import account_app
from bot.commands import REFUSED, AccountOption, ConfigOption, finish, load_settings, store_of
from bot.config import Config, warnings
from bot.config.values import parse_duration
from bot.faces import print_face
from bot.import_cli import import_
from bot.lifecycle_cli import archive, erase, export
from bot.media_cli import media_app
from storage.reading.search import FOLDS_ACCENTS
from storage.reading.stats import Period

app = typer.Typer(
    help="A WhatsApp bot that steps aside the moment you step in, and comes back by itself.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    add_completion=False,
)
app.add_typer(account_app, name="account")
app.command("import")(import_)
app.command()(erase)
app.command()(export)
app.command()(archive)
app.add_typer(media_app, name="media")

DatabaseOption = Annotated[
    str | None,
    typer.Option("--database", help="A PostgreSQL URL: an empty database for the talk, which is kept."),
]


def main() -> None:
    """The console script."""
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sidestep {metadata.version('sidestep')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """What stands before a command."""


@app.command()
def run(config: ConfigOption = None) -> None:
    """Serve the configured numbers until stopped."""
    settings = load_settings(config)
    from bot.serve import serve
    from bot.transports.whatsapp.library import silence_go_output

    silence_go_output()
    finish(serve(settings))


@app.command()
def pair(
    config: ConfigOption = None,
    account: AccountOption = None,
    phone: Annotated[
        str | None,
        typer.Option("--phone", help="The number to link: by a code to type in, not by a QR code."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Also a number whose link is in another database.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the codes, and how it ended, as JSON lines.")
    ] = False,
) -> None:
    """Link a number: show its QR code, or a code to type in, until the phone has taken it."""
    settings = load_settings(config, quiet=True)
    from bot.pair import pair as link
    from bot.transports.whatsapp.library import silence_go_output

    silence_go_output()
    linked = finish(link(settings, account, phone=phone, again=again, as_json=as_json))
    raise typer.Exit(0 if linked else REFUSED)


@app.command()
def chat(
    config: ConfigOption = None,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="JSON lines on stdin and stdout.")] = False,
    database: DatabaseOption = None,
) -> None:
    """Talk to the bot here, without a phone; nothing is kept, unless in a database that you name."""
    settings = load_settings(config, quiet=True)
    if not jsonl:
        from bot.demo import talk

        finish(talk(settings, database))
        return
    raise typer.Exit(0 if finish(_chat_jsonl(settings, database)) else REFUSED)


@app.command()
def demo(database: DatabaseOption = None) -> None:
    """Meet the bot: a sample shop in this terminal, without a phone or a key."""
    from bot.demo import sample_config, talk

    logs.setup(level="error")
    finish(talk(sample_config(), database))


@app.command()
def check(
    config: ConfigOption = None,
    media: Annotated[
        bool, typer.Option("--media", help="Read every file of media, and compare it with its row.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="With --media: repair what can be repaired safely.")
    ] = False,
) -> None:
    """Tell what is wrong with the configuration, and where; then whether the database can be used.

    It changes nothing there; only the embedded database's folder is made, where there is none yet.
    """
    settings = load_settings(config)
    if media or repair:
        from bot.media.orders import check as check_media

        raise typer.Exit(0 if finish(check_media(settings, typer.echo, repair=repair)) else REFUSED)
    for warning in warnings(settings):
        typer.echo(f"warning: {warning}")
    from bot.metrics import Metrics
    from bot.wiring import build_flows, keeper_of
    from storage.migrate import pending, state_in_words

    async def work() -> str:
        build_flows(settings, Metrics())
        async with store_of(settings, migrated=False) as database:
            keeper_of(settings, database)
            todo = await pending(database)
            # A store that is behind may know nothing of accents yet.
            if not todo and not await database.fetchval(FOLDS_ACCENTS):
                typer.echo(
                    "warning: search tells accents apart, since this database could not have the extension unaccent"
                )
            return state_in_words(database.address.place, todo)

    typer.echo(f"The configuration is fine, and the database {finish(work())}.")


@app.command()
def migrate(
    config: ConfigOption = None,
    face: Annotated[
        str | None,
        typer.Option(
            "--print", metavar="FACE", help="Print the store with this face as one SQL file instead."
        ),
    ] = None,
) -> None:
    """Bring the database's schema up to date; a store with messages is backed up first."""
    if face is not None:
        print_face(face)
        return
    settings = load_settings(config)

    async def work() -> None:
        async with store_of(settings) as database:
            typer.echo(f"The database at {database.address.place} is up to date.")

    finish(work())


@app.command()
def why(
    reference: Annotated[str, typer.Argument(metavar="ID", help="WhatsApp's id of a message, or the log's.")],
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Why a message was answered or not, and what became of the answer."""
    settings = load_settings(config)
    from bot.why import tell

    raise typer.Exit(0 if finish(tell(settings, reference, as_json=as_json)) else REFUSED)


@app.command()
def stats(
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    slow: Annotated[
        bool, typer.Option("--slow", help="Also the statements that take longest (pg_stat_statements).")
    ] = False,
    indexes: Annotated[bool, typer.Option("--indexes", help="Also each index: how used, how large.")] = False,
    chat: Annotated[str | None, typer.Option("--chat", help="Of one chat only: a name, or a number.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="How far back: 12h, 7d. Default: all.")] = None,
    by: Annotated[Period | None, typer.Option("--by", help="Also each day or month.")] = None,
) -> None:
    """How much was said, to whom and by whom, and how large the store is."""
    settings = load_settings(config, quiet=True)
    from bot.stats import Wanted, tell

    try:
        back = None if since is None else parse_duration(since)
    except ValueError as exc:
        typer.echo(f"--since: {exc}", err=True)
        raise typer.Exit(REFUSED) from None
    wanted = Wanted(chat=chat, since=back, by=by, slow=slow, indexes=indexes)
    raise typer.Exit(0 if finish(tell(settings, wanted, as_json=as_json)) else REFUSED)


@app.command()
def backup(
    to: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")],
    config: ConfigOption = None,
    schema_only: Annotated[
        bool, typer.Option("--schema-only", help="The tables without their rows.")
    ] = False,
    data_only: Annotated[
        bool, typer.Option("--data-only", help="The rows, for a store that has the tables.")
    ] = False,
    without_links: Annotated[
        bool, typer.Option("--without-links", help="Without the links, for which there is `account move`.")
    ] = False,
) -> None:
    """Write the whole store into one file, and check that it can be read back.

    It holds the numbers' links to WhatsApp, too: whoever has the file can be you there.
    """
    settings = load_settings(config)
    from storage.backup import backup as write

    async def work() -> None:
        async with store_of(settings) as database:
            made = await write(
                database.address.url,
                to,
                schema_only=schema_only,
                data_only=data_only,
                without_links=without_links,
            )
            typer.echo(f"{made.path}: {made.size_bytes} bytes")

    finish(work())


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `backup` has written.")],
    config: ConfigOption = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace what the database holds.")] = False,
) -> None:
    """Read a backup into the database, while no daemon runs on it."""
    settings = load_settings(config)
    from storage.backup import restore as read

    async def work() -> None:
        async with store_of(settings, migrated=False) as database:
            links = await read(database.address.url, file, replace=replace)
            typer.echo(f"{database.address.place} is as it was in {file}.")
            if links:
                typer.echo(
                    f"Links to WhatsApp in it: {links}. A link lives in one database only: never again start a "
                    "sidestep on another that has it, such as the one that was backed up."
                )

    finish(work())


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
