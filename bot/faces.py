"""`sidestep migrate --print FACE`: one SQL file for people with a SQL editor; it needs no configuration or database."""

from __future__ import annotations

import typer

from bot.commands import REFUSED
from storage.faces import faces, printed


def print_face(face: str) -> None:
    """Write the file to stdout; a face that there is not ends the process."""
    known = faces()
    if face not in known:
        typer.echo(f"--print: there is no face {face!r}; there are: {', '.join(known)}", err=True)
        raise typer.Exit(REFUSED)
    typer.echo(printed(face), nl=False)
