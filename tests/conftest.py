"""The PostgreSQL of the tests: one server a run, a migrated template, and a clone of it for each test that asks."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from hypothesis import settings

from storage.database import Connection, Database
from storage.embedded import embedded
from storage.migrate import migrate

# How long one example takes is the machine's doing, and says nothing about the code.
settings.register_profile("sidestep", deadline=None)
settings.load_profile("sidestep")

RUN = f"sidestep_test_{os.getpid()}"


def in_database(dsn: str, name: str) -> str:
    """The same server and login, another database."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


async def until(condition: Callable[[], Awaitable[bool]], timeout: float = 60.0) -> None:
    """Come back when the condition holds; fail where it never does."""
    give_up_at = time.monotonic() + timeout
    while not await condition():
        assert time.monotonic() < give_up_at, "it never came true"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture(scope="session")
async def postgres() -> AsyncIterator[str]:
    """The URL of a server where databases may be made: SIDESTEP_TEST_DATABASE_URL, else one embedded for this run."""
    if url := os.environ.get("SIDESTEP_TEST_DATABASE_URL"):
        yield url
        return
    # pytest's own temporary folders are closed to the account that the server runs as where we are root.
    folder = Path(tempfile.mkdtemp(prefix="sidestep-test-"))
    try:
        async with embedded(folder, durable=False) as dsn:
            yield dsn
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def fresh_database(postgres: str, template: str = "template0") -> AsyncIterator[str]:
    """The URL of a new database, dropped afterwards whoever is still connected."""
    name = f"{RUN}_{secrets.token_hex(6)}"
    async with connected(postgres) as connection:
        # The files are copied: through the log, which is the default, it costs two to three times as much.
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        try:
            yield in_database(postgres, name)
        finally:
            await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def database_of(dsn: str) -> str:
    return urlsplit(dsn).path.removeprefix("/")


@asynccontextmanager
async def ordinary_user(postgres: str, *, owner: bool) -> AsyncIterator[str]:
    """An empty database as a user without any special right sees it, as one gets it from a hosting company."""
    async with fresh_database(postgres) as dsn, connected(dsn) as admin:
        database = await admin.fetchval("SELECT current_database()")
        role = f"{database}_user"
        await admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'secret' NOSUPERUSER NOCREATEDB NOCREATEROLE")
        if owner:
            await admin.execute(f"ALTER DATABASE {database} OWNER TO {role}")
        try:
            yield with_login(dsn, role)
        finally:
            await admin.execute(
                f"REASSIGN OWNED BY {role} TO CURRENT_USER; DROP OWNED BY {role}; DROP ROLE {role}"
            )


def with_login(dsn: str, role: str) -> str:
    scheme, _, rest = dsn.partition("://")
    return f"{scheme}://{role}:secret@{rest.partition('@')[2]}"


@pytest.fixture(scope="session")
async def template(postgres: str) -> AsyncIterator[str]:
    """The name of a database that is migrated and otherwise empty; nobody may stay connected to it."""
    async with fresh_database(postgres) as dsn:
        database = await Database.open(dsn, max_size=1)
        await migrate(database)
        await database.close()
        yield database_of(dsn)


@pytest.fixture
async def empty_dsn(postgres: str) -> AsyncIterator[str]:
    """A database without our schema."""
    async with fresh_database(postgres) as dsn:
        yield dsn


@pytest.fixture
async def dsn(postgres: str, template: str) -> AsyncIterator[str]:
    """A migrated database of this test's own."""
    async with fresh_database(postgres, template) as dsn:
        yield dsn


@pytest.fixture
async def db(dsn: str) -> AsyncIterator[Database]:
    """Connections to a migrated database of this test's own."""
    database = await Database.open(dsn)
    try:
        yield database
    finally:
        await database.close()


class _OneTransaction(Database):
    """Lends one connection to everybody, so that nothing is ever committed; it bears no two queries at a time."""

    def __init__(self, database: Database, connection: Connection) -> None:
        self.address = database.address
        self._only = connection

    @asynccontextmanager
    async def _acquire(self, *, clean: bool) -> AsyncIterator[Connection]:
        yield self._only


@pytest.fixture(scope="session")
async def _shared_database(postgres: str, template: str) -> AsyncIterator[Database]:
    async with fresh_database(postgres, template) as dsn:
        database = await Database.open(dsn, max_size=1)
        try:
            yield database
        finally:
            await database.close()


@pytest.fixture
async def rollback_db(_shared_database: Database) -> AsyncIterator[Database]:
    """A migrated database whose changes are rolled back: cheaper than `db`, for tests without concurrency."""
    async with _shared_database.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            yield _OneTransaction(_shared_database, connection)
        finally:
            await transaction.rollback()
