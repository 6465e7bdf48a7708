"""A store for one conversation: an embedded server in a temporary folder, or a database of one's own by URL."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from storage.database import Database
from storage.store import open_store


@asynccontextmanager
async def temporary_store(url: str | None) -> AsyncIterator[Database]:
    """With a URL that database is used and kept; else everything is gone when the context ends."""
    folder = Path(tempfile.mkdtemp(prefix="sidestep-"))
    try:
        async with open_store(url, folder, durable=False) as database:
            yield database
    finally:
        shutil.rmtree(folder, ignore_errors=True)
