"""A store for one conversation: an embedded server in a temporary folder, or a database of one's own by URL."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from storage.database import Database
from storage.errors import StoreIsLive
from storage.store import open_store

ANY_LINKED = "SELECT EXISTS (SELECT FROM sidestep.accounts WHERE sidestep.session_device(jid) IS NOT NULL)"


@asynccontextmanager
async def temporary_store(url: str | None) -> AsyncIterator[Database]:
    """With a URL that database is used and kept; else everything is gone when the context ends. Raises StorageError."""
    folder = Path(tempfile.mkdtemp(prefix="sidestep-"))
    try:
        async with open_store(url, folder, durable=False) as database:
            if await database.fetchval(ANY_LINKED):
                raise StoreIsLive(
                    f"the database at {database.address.place} belongs to numbers that are linked: what their "
                    "customers wait for would be answered here, and reach nobody; name an empty database instead"
                )
            yield database
    finally:
        shutil.rmtree(folder, ignore_errors=True)
