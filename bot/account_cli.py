"""`sidestep account …`: arguments become one call each; what they do is in bot.accounts."""

from __future__ import annotations

from typing import Annotated

import typer

from bot.commands import ConfigOption, finish, load_settings

account_app = typer.Typer(help="The numbers that the bot serves.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The account's name, as `list` shows it.")]

NewNameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="A short name of your choice, shown in logs and metrics.")
]


@account_app.command("list")
def list_accounts(config: ConfigOption = None) -> None:
    """Each number: its tenant, whether it is linked, and since when."""
    settings = load_settings(config, quiet=True)
    from bot.accounts import overview

    for line in finish(overview(settings)):
        typer.echo(line)


@account_app.command()
def add(
    name: NewNameArgument,
    config: ConfigOption = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Whose, when there are several.")] = None,
) -> None:
    """One more number for a tenant; `sidestep pair` links it."""
    settings = load_settings(config, quiet=True)
    from bot.accounts import add as work

    typer.echo(finish(work(settings, name, tenant)))


@account_app.command()
def unlink(
    name: NameArgument,
    config: ConfigOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Forget it here even if WhatsApp cannot be told.")
    ] = False,
) -> None:
    """Take this device off the phone's list of linked devices, and forget it here."""
    settings = load_settings(config, quiet=True)
    from bot.accounts import unlink as work

    typer.echo(finish(work(settings, name, force=force)))


@account_app.command()
def move(
    name: NameArgument,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="DATABASE_URL",
            envvar="SIDESTEP_MOVE_TO",
            help="The database to go to. All users of this machine see what is typed here, a password too: "
            "SIDESTEP_MOVE_TO in the environment hides it.",
        ),
    ],
    config: ConfigOption = None,
) -> None:
    """Take a number's link to another database, where a daemon goes on without a new pairing."""
    settings = load_settings(config, quiet=True)
    from bot.accounts import move as work

    typer.echo(finish(work(settings, name, to)))


@account_app.command()
def remove(name: NameArgument, config: ConfigOption = None) -> None:
    """Serve this number no more; its messages stay."""
    settings = load_settings(config, quiet=True)
    from bot.accounts import remove as work

    typer.echo(finish(work(settings, name)))
