"""The connections to PostgreSQL: opens them, lends them, turns the library's failures into ours; holds no query.

Every statement names its schema (`sidestep.messages`), so that no connection depends on a search_path. What a
statement itself did wrong (a violated key, a bad value) stays asyncpg's error, for the room that wrote it.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Self, TypeAlias

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

from storage.address import Address, read_address
from storage.errors import BadDatabaseUrl, LoginRefused, StoreUnavailable, UnsupportedServer

Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"

OLDEST_SERVER = 15

_CONNECT_SECONDS = 10.0
_ACQUIRE_SECONDS = 30.0
_COMMAND_SECONDS = 60.0
_CLOSE_SECONDS = 2.0
_RELEASE_SECONDS = 1.0
# Within a transaction nothing of ours waits for anything but PostgreSQL. A process that was stopped there would hold
# the chats that it has locked for as long as it lives, whoever serves the account by then.
_IDLE_IN_TRANSACTION = "10s"

# What asyncpg raises where the same call may succeed later.
UNAVAILABLE = (
    ConnectionError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,  # disk full, out of memory, too many connections
    asyncpg.OperatorInterventionError,  # starting up, shutting down, statement cancelled
    asyncpg.PostgresSystemError,  # an I/O error of the server's disk
    asyncpg.ReadOnlySQLTransactionError,  # a standby
    asyncpg.TransactionRollbackError,  # a deadlock, a serialization failure
    asyncpg.LockNotAvailableError,  # lock_timeout
    asyncpg.InternalClientError,  # the server died in the middle of an answer
)
# An administrator has closed the database to connections, and will open it again.
_TAKES_NOBODY = asyncpg.ObjectNotInPrerequisiteStateError.sqlstate
# What to do, where the server itself tells what it lacks.
_ADVICE = (
    (asyncpg.DiskFullError, "its disk is full: make room there"),
    (
        asyncpg.TooManyConnectionsError,
        "it takes no further connection: end some of other programs, or raise max_connections or the role's own limit",
    ),
    (asyncpg.LockNotAvailableError, "another program holds a lock on our rows: end its transaction"),
)
_REFUSED = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)


class _Session(asyncpg.Connection):
    """A connection that is cleaned for its next borrower only where the last one may have left something in it."""

    __slots__ = ("is_clean",)

    def get_reset_query(self) -> str:
        return "" if getattr(self, "is_clean", False) else f"{super().get_reset_query()}\n{_limits()}"

    def keep_clean(self, clean: bool) -> None:
        """Whether nothing will be left: then giving it back costs no round trip, half of a short statement's time."""
        self.is_clean = clean


class Database:
    """A pool of connections to one database. Every method raises StoreUnavailable while the server is out of reach."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", address: Address) -> None:
        self._pool = pool
        self._breaking: asyncio.TimerHandle | None = None
        self.address = address

    @classmethod
    async def open(
        cls, dsn: str, *, min_size: int = 1, max_size: int = 10, application_name: str = "sidestep"
    ) -> Self:
        """Raises BadDatabaseUrl, LoginRefused, StoreUnavailable or UnsupportedServer."""
        address = read_address(dsn)
        with _opening(address):
            pool = await asyncpg.create_pool(
                address.url,
                min_size=min_size,
                max_size=max_size,
                timeout=_CONNECT_SECONDS,
                command_timeout=_COMMAND_SECONDS,
                server_settings={"application_name": application_name, "timezone": "UTC"},
                init=_prepare_connection,
                connection_class=_Session,
            )
        database = cls(pool, address)
        try:
            await database._require_supported()
        except BaseException:
            await database.close()
            raise
        return database

    async def close(self) -> None:
        """Wait for the borrowed connections, then break those that do not come back."""
        with suppress(*UNAVAILABLE):
            try:
                await asyncio.wait_for(self._pool.close(), _CLOSE_SECONDS)
            finally:
                self._pool.terminate()
                if self._breaking is not None:
                    self._breaking.cancel()

    def break_in(self, seconds: float) -> None:
        """Break every connection then, if not closed before: what waits for a server that hangs comes to its end."""
        self._breaking = asyncio.get_running_loop().call_later(seconds, self._pool.terminate)

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """A connection outside a transaction: each statement commits by itself. What is left in the session is undone.

        A time-out or a broken connection that the block lets out is taken for the database's.
        """
        async with self._acquire(clean=False) as connection:
            yield connection

    @asynccontextmanager
    async def _acquire(self, *, clean: bool) -> AsyncIterator[Connection]:
        with _reaching(self.address):
            connection = await self._pool.acquire(timeout=_ACQUIRE_SECONDS)
            connection.keep_clean(clean)  # type: ignore[attr-defined]  # the proxy passes it on
        try:
            with self.calling(connection):
                yield connection
        finally:
            # A task of its own, since a cancelled borrower would leave the pool's unwatched.
            await asyncio.shield(asyncio.create_task(self._give_back(connection)))

    @contextmanager
    def calling(self, connection: Connection) -> Iterator[None]:
        """For a connection that is kept beyond one block: calls on it in here raise as those of its own block do."""
        with _using(self.address):
            try:
                yield
            except asyncpg.InterfaceError as exc:
                # A call on a connection that has already broken; any other misuse is our own mistake.
                if is_lost(connection):
                    raise _unavailable(self.address, exc) from exc
                raise

    async def _give_back(self, connection: Connection) -> None:
        # The block's work is done or has failed by now. A server that does not answer loses the connection.
        with suppress(*UNAVAILABLE, asyncpg.InterfaceError):
            await self._pool.release(connection, timeout=_RELEASE_SECONDS)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Commits when the block ends, rolls back when it raises."""
        async with self.acquire() as connection, connection.transaction():
            yield connection

    async def fetch(self, query: str, *args: object, timeout: float | None = None) -> list[asyncpg.Record]:
        async with self._acquire(clean=True) as connection:
            return await connection.fetch(query, *args, timeout=timeout)

    async def fetchrow(
        self, query: str, *args: object, timeout: float | None = None
    ) -> asyncpg.Record | None:
        async with self._acquire(clean=True) as connection:
            return await connection.fetchrow(query, *args, timeout=timeout)

    async def fetchval(self, query: str, *args: object, timeout: float | None = None) -> Any:
        async with self._acquire(clean=True) as connection:
            return await connection.fetchval(query, *args, timeout=timeout)

    async def execute(self, query: str, *args: object, timeout: float | None = None) -> str:
        async with self._acquire(clean=True) as connection:
            return await connection.execute(query, *args, timeout=timeout)

    async def _require_supported(self) -> None:
        async with self.acquire() as connection:
            major = connection.get_server_version().major
        if major < OLDEST_SERVER:
            raise UnsupportedServer(
                f"the database at {self.address.place} is PostgreSQL {major}; Sidestep needs {OLDEST_SERVER} or newer: "
                "upgrade it, or leave DATABASE_URL out to use the embedded one"
            )


def _limits() -> str:
    # No parameter of the connection's start: poolers between us and the server refuse those that they do not know.
    return f"SET idle_in_transaction_session_timeout = '{_IDLE_IN_TRANSACTION}'"


async def _prepare_connection(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    await connection.execute(_limits())
    # The binary form of jsonb is a version byte and the text.
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: b"\x01" + orjson.dumps(value),
        decoder=lambda data: orjson.loads(data[1:]),
        format="binary",
    )
    await connection.set_type_codec(
        "json", schema="pg_catalog", encoder=orjson.dumps, decoder=orjson.loads, format="binary"
    )


def is_lost(connection: Connection) -> bool:
    """Whether a borrowed connection has broken."""
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True  # the pool takes a broken connection from its borrower at once


@contextmanager
def _opening(address: Address) -> Iterator[None]:
    try:
        with _reaching(address):
            yield
    except (asyncpg.UndefinedObjectError, asyncpg.CantChangeRuntimeParamError) as exc:
        raise BadDatabaseUrl(
            f"has an option that the server at {address.place} does not know: {_reason(exc)}"
        ) from exc
    except ValueError:
        # asyncpg quotes the URL it cannot read, password and all: `from None` keeps it out of the log.
        raise BadDatabaseUrl(f"cannot be read (host and database: {address.place})") from None


@contextmanager
def _reaching(address: Address) -> Iterator[None]:
    try:
        with _using(address):
            yield
    except _REFUSED as exc:
        raise LoginRefused(f"the database at {address.place} refused us: {_reason(exc)}") from exc
    except asyncpg.ObjectNotInPrerequisiteStateError as exc:
        if exc.sqlstate != _TAKES_NOBODY:
            raise
        raise _unavailable(address, exc) from exc
    except (OSError, asyncpg.InterfaceError) as exc:
        if isinstance(exc, ValueError):
            raise
        raise _unavailable(address, exc) from exc


@contextmanager
def _using(address: Address) -> Iterator[None]:
    try:
        yield
    except UNAVAILABLE as exc:
        raise _unavailable(address, exc) from exc


def _unavailable(address: Address, exc: BaseException) -> StoreUnavailable:
    advice = next(
        (told for kind, told in _ADVICE if isinstance(exc, kind)), "check that it runs and has room"
    )
    return StoreUnavailable(
        f"the database at {address.place} is unavailable now: {_reason(exc)}; {advice}, the call can be repeated",
        advice=advice,
    )


def _reason(exc: BaseException) -> str:
    """Without a server's DETAIL, which quotes stored values."""
    said = str(exc.args[-1]) if exc.args else ""
    return said.splitlines()[0] if said else type(exc).__name__
