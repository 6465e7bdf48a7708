"""`sidestep erase`, `export` and `archive`: arguments become one call each; what they do is in bot.erase and so on."""

from __future__ import annotations

import contextlib
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, BinaryIO

import orjson
import typer

from bot.commands import REFUSED, ConfigOption, finish, load_settings
from bot.config.values import parse_duration

TenantOption = Annotated[str | None, typer.Option("--tenant", help="Whose, when there are several.")]


def erase(
    person: Annotated[
        str, typer.Argument(metavar="PERSON", help="By number in any format, LID (…@lid), address or name.")
    ],
    config: ConfigOption = None,
    tenant: TenantOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the receipt as JSON.")] = False,
) -> None:
    """Erase a person: every message, file, address and trace of them, for ever; a daemon may run meanwhile."""
    settings = load_settings(config, quiet=True)
    from bot.erase import erase as work

    receipt = finish(
        work(
            settings, person, tenant, ask=None if yes else _ask, note=lambda text: typer.echo(text, err=True)
        )
    )
    if receipt is None:
        typer.echo("Nothing was erased.", err=True)
        raise typer.Exit(REFUSED)
    if as_json:
        typer.echo(
            orjson.dumps(
                {
                    "kind": "erased",
                    "tenant": receipt.tenant,
                    "erased_at": receipt.erased_at,
                    "went": dict(receipt.went),
                    "files": receipt.files.removed,
                    "files_left": receipt.files.left,
                }
            ).decode()
        )
        return
    typer.echo(f"{receipt.tenant}, {receipt.erased_at:%Y-%m-%d %H:%M:%S} UTC: erased for ever.")
    for table, number in sorted(receipt.went.items()):
        if number:
            typer.echo(f"{table}: {number}")
    typer.echo(f"files: {receipt.files.removed}")
    if receipt.files.left:
        typer.echo(f"{receipt.files.left} files cannot be removed just now: the daemon will.", err=True)


def export(
    person: Annotated[
        str | None,
        typer.Argument(metavar="[PERSON]", help="By number in any format, LID (…@lid), address or name."),
    ] = None,
    config: ConfigOption = None,
    everybody: Annotated[bool, typer.Option("--all", help="All chats of the tenant instead.")] = False,
    tenant: TenantOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Default: the standard output.")
    ] = None,
) -> None:
    """Write a person's data as JSON lines, which `import` reads."""
    if everybody is (person is not None):
        typer.echo("say whom to export: a person, or --all", err=True)
        raise typer.Exit(REFUSED)
    settings = load_settings(config, quiet=True)
    from bot.export import export as lines

    async def work(file: BinaryIO) -> None:
        async for line in lines(settings, person, tenant):
            file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    if output is None:
        finish(work(sys.stdout.buffer))
        sys.stdout.buffer.flush()
        return
    # Whole or not at all, and its owner's alone.
    unfinished = output.with_name(f".{output.name}.unfinished")
    try:
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            finish(work(file))
        unfinished.replace(output)
    except OSError as exc:
        typer.echo(f"{output} cannot be written: {exc.strerror}", err=True)
        raise typer.Exit(REFUSED) from None
    finally:
        with contextlib.suppress(OSError):  # where none could be written, there is none to remove
            unfinished.unlink(missing_ok=True)


def archive(
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="AGE", help="Months of which all is older, such as 90d.")
    ],
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Move old months to the archive, where everything goes on to find them; a daemon may run meanwhile."""
    try:
        age = parse_duration(older_than)
        if age <= timedelta(0):
            raise ValueError("should be longer than nothing")
    except ValueError as exc:
        typer.echo(f"--older-than: {exc}", err=True)
        raise typer.Exit(REFUSED) from None
    settings = load_settings(config, quiet=True)
    from bot.archive import archive_older, counted

    done = finish(archive_older(settings, age, lambda text: typer.echo(text, err=True)))
    messages, size = sum(m.messages for m in done.months), sum(m.size_bytes for m in done.months)
    busy = [f"{month:%Y-%m}" for month in done.busy]
    if as_json:
        summary = {
            "kind": "archived",
            "months": [f"{month.first_day:%Y-%m}" for month in done.months],
            "messages": messages,
            "size_bytes": size,
            "busy": busy,
        }
        typer.echo(orjson.dumps(summary).decode())
    elif done.months:
        typer.echo(
            f"{counted(len(done.months), 'month')} with {counted(messages, 'message')} are archived, "
            f"{size / 1e6:,.1f} MB."
        )
    elif not busy:
        typer.echo("Nothing is older than that: all is archived.")
    if busy:
        typer.echo(f"{', '.join(busy)}: somebody was busy there all the time; run it again.", err=True)
        raise typer.Exit(REFUSED)


def _ask(question: str) -> bool | None:
    if not sys.stdin.isatty():
        return None
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        return False
