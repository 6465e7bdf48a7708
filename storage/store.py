"""Opens the store, embedded or yours, and brings its schema up to date; the one place that decides which."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from storage.database import Database
from storage.embedded import default_folder, embedded
from storage.migrate import migrate


@asynccontextmanager
async def open_store(
    url: str | None = None,
    folder: Path | None = None,
    *,
    min_size: int = 1,
    max_size: int = 10,
    application_name: str = "sidestep",
    durable: bool = True,
    migrated: bool = True,
    allow_without_backup: bool = False,
) -> AsyncIterator[Database]:
    """A database ready for use: at `url`, else embedded in `folder` (None: the default one).

    `migrated=False` leaves the schema as it is. Backups taken before a migration go to `folder`/backups.
    """
    folder = folder or default_folder()
    async with _server(url, folder, durable=durable) as dsn:
        database = await Database.open(
            dsn, min_size=min_size, max_size=max_size, application_name=application_name
        )
        try:
            if migrated:
                await migrate(database, folder / "backups", allow_without_backup=allow_without_backup)
            yield database
        finally:
            await database.close()


@asynccontextmanager
async def _server(url: str | None, folder: Path, *, durable: bool) -> AsyncIterator[str]:
    if url:
        yield url
        return
    async with embedded(folder, durable=durable) as dsn:
        yield dsn
