"""What `sidestep archive` does: moves the months that are old enough, and tells of each."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from bot.clock import SystemClock
from bot.commands import store_of
from bot.config import Config
from storage.archiving import Archived, ArchivedMonth, archive


async def archive_older(config: Config, age: timedelta, note: Callable[[str], None]) -> Archived:
    """Archive the months of which every day is older than that. Raises StorageError."""

    def progress(month: ArchivedMonth) -> None:
        note(f"{month.first_day:%Y-%m}: {counted(month.messages, 'message')}")

    async with store_of(config) as database:
        return await archive(database, SystemClock().now() - age, progress)


def counted(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
