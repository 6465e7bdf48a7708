"""`sidestep import …`: arguments become one call; what it does is in bot.importing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bot.commands import REFUSED, AccountOption, ConfigOption, finish, load_settings
from bot.importing.order import DateOrder


def import_(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="Exports of chats, .txt or .zip, and JSON lines.")
    ],
    config: ConfigOption = None,
    account: AccountOption = None,
    chat: Annotated[
        str | None,
        typer.Option(
            "--chat", metavar="NUMBER", help="Whose chat it is: the customer's number, or a group's id."
        ),
    ] = None,
    me: Annotated[
        list[str] | None,
        typer.Option("--me", metavar="NAME", help="What you are called in the file; repeatable."),
    ] = None,
    date_order: Annotated[
        DateOrder | None,
        typer.Option("--date-order", help="How its dates are written, where that cannot be told."),
    ] = None,
    time_zone: Annotated[
        str | None,
        typer.Option(
            "--time-zone", metavar="ZONE", help="Of the phone, like Europe/Berlin. Default: your number's."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would happen, and record nothing.")
    ] = False,
) -> None:
    """Record conversations of before, from WhatsApp's own exports or JSON lines; nothing of it is ever answered."""
    settings = load_settings(config, quiet=True)
    from bot.importing.command import Options, import_files
    from bot.importing.people import Wishes
    from bot.importing.terminal import Terminal

    terminal = Terminal()
    options = Options(
        account=account,
        wishes=Wishes(chat=chat, me=tuple(me or ())),
        order=date_order,
        time_zone=time_zone,
        dry=dry_run,
    )
    work = import_files(
        settings,
        files,
        options,
        asker=terminal,
        progress=terminal,
        say=typer.echo,
        complain=terminal.complain,
    )
    try:
        fine = finish(work)
    finally:
        terminal.end()
    raise typer.Exit(0 if fine else REFUSED)
