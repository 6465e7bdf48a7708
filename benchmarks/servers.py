"""Where benchmarks run: a PostgreSQL of their own, or a given one, and a fresh database on it for each."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from storage.database import Database
from storage.embedded import embedded
from storage.migrate import migrate


def progress(words: str) -> None:
    print(f"  {words}", file=sys.stderr)


@asynccontextmanager
async def server(url: str | None) -> AsyncIterator[str]:
    """A PostgreSQL on which databases may be made: the given one, else one that waits for the disk as usual."""
    if url is not None:
        yield url
        return
    folder = Path(tempfile.mkdtemp(prefix="sidestep-bench-"))
    try:
        async with embedded(folder) as dsn:
            yield dsn
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def fresh(url: str, name: str) -> AsyncIterator[str]:
    """A migrated database of its own, dropped afterwards."""
    name = f"sidestep_bench_{name}_{os.getpid()}"
    dsn = urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    admin = await asyncpg.connect(url)
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        database = await Database.open(dsn, max_size=1)
        await migrate(database)
        await database.close()
        yield dsn
    finally:
        await admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await admin.close()


async def analyze(*dsns: str) -> None:
    """What autovacuum does within a minute, now: plans that were made for empty tables are made anew."""
    for dsn in dsns:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute("ANALYZE")
        finally:
            await connection.close()
