"""`sidestep media …`: arguments become one call each; what they do is in bot.media.orders."""

from __future__ import annotations

from typing import Annotated

import orjson
import typer

from bot.commands import REFUSED, ConfigOption, finish, load_settings

media_app = typer.Typer(help="The files of media messages.", no_args_is_help=True)


@media_app.command()
def status(
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON lines.")] = False,
) -> None:
    """How many media there are, how far each is, and where their files lie."""
    settings = load_settings(config, quiet=True)
    from bot.media.orders import in_words
    from bot.media.orders import status as work

    for told in finish(work(settings)):
        typer.echo(orjson.dumps(told).decode() if as_json else in_words(told))


@media_app.command()
def retry(
    config: ConfigOption = None,
    past: Annotated[
        bool, typer.Option("--past", help="Also those of the time before the number was linked.")
    ] = False,
) -> None:
    """Have the daemon fetch once more what has failed or expired."""
    settings = load_settings(config, quiet=True)
    from bot.media.orders import retry as work

    typer.echo(f"{finish(work(settings, past=past))} media will be asked for again while the daemon runs.")


@media_app.command()
def move(
    to: Annotated[
        str,
        typer.Option("--to", metavar="WHERE", help="A folder, s3://bucket/prefix or https://host/bucket."),
    ],
    config: ConfigOption = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove the files from where they lay; else they stay there too.")
    ] = False,
) -> None:
    """Move all files to another place; stopped, it goes on when it is repeated."""
    settings = load_settings(config, quiet=True)
    from bot.media.orders import move as work

    raise typer.Exit(0 if finish(work(settings, to, typer.echo, remove=remove)) else REFUSED)
