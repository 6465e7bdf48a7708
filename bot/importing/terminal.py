"""Whoever sits at the terminal while files are imported: sees how far it is, and can be asked; reads no file."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn


class Terminal:
    """A bar where somebody can see it, and questions where somebody can answer; elsewhere neither."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar: Progress | None = None

    def begin(self, what: str, total: int) -> None:
        self.end()
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn(),
                console=self._console, transient=True,
            )  # fmt: skip
            self._bar.add_task(what, total=total)
            self._bar.start()

    def advance(self, done: int) -> None:
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0], done)

    def end(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def choose(self, question: str, options: Sequence[str]) -> str | None:
        """One of the options; None where nobody can be asked, or nobody answers."""
        if not self._is_watched():
            return None
        for number, option in enumerate(options, 1):
            self.complain(f"{number:3} {option}")
        while said := self._ask(f"{question} 1 to {len(options)}: "):
            if said.strip().isdecimal() and 1 <= int(said) <= len(options):
                return options[int(said) - 1]
        return None

    def say(self, question: str) -> str | None:
        """What somebody types; None where nobody can be asked, or nobody answers."""
        return self._ask(f"{question}: ").strip() or None if self._is_watched() else None

    def complain(self, text: str) -> None:
        typer.echo(text, err=True)

    def _ask(self, question: str) -> str:
        # click's own prompt would write into the results.
        typer.echo(question, err=True, nl=False)
        return sys.stdin.readline()

    def _is_watched(self) -> bool:
        self.end()
        return self._console.is_terminal and sys.stdin.isatty()
