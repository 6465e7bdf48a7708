"""The connections: every way a server can be out of reach is one error, and none of them tells the password."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

import storage.database as database_module
from storage.database import Database
from storage.errors import BadDatabaseUrl, LoginRefused, StoreUnavailable
from tests.conftest import connected, in_database, until


@asynccontextmanager
async def opened(dsn: str, max_size: int = 2) -> AsyncIterator[Database]:
    database = await Database.open(dsn, max_size=max_size)
    try:
        yield database
    finally:
        await database.close()


async def end_others(dsn: str) -> None:
    async with connected(dsn) as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


async def test_values_come_back_as_they_went(db: Database) -> None:
    assert await db.fetchval("SELECT $1::jsonb", {"a": [1, "ü", None]}) == {"a": [1, "ü", None]}
    assert await db.fetchval("SELECT $1::json", [True]) == [True]
    moment = await db.fetchval("SELECT now()")
    assert moment.utcoffset().total_seconds() == 0
    assert await db.fetchval("SHOW timezone") == "UTC"


async def test_a_transaction_is_kept_or_rolled_back_whole(db: Database) -> None:
    await db.execute("CREATE TABLE public.t (n int)")

    async def insert(number: int, divisor: int) -> None:
        async with db.transaction() as connection:
            await connection.execute("INSERT INTO public.t VALUES ($1)", number)
            assert number / divisor

    await insert(1, divisor=1)
    with pytest.raises(ZeroDivisionError):
        await insert(2, divisor=0)
    assert [row["n"] for row in await db.fetch("SELECT n FROM public.t")] == [1]


async def test_a_connection_broken_in_a_query_is_unavailable_and_the_next_call_works(empty_dsn: str) -> None:
    async with opened(empty_dsn) as database:
        running = asyncio.create_task(database.execute("SELECT pg_sleep(60)"))
        await until(lambda: asked(empty_dsn, "SELECT pg_sleep(60)"))
        await end_others(empty_dsn)
        with pytest.raises(StoreUnavailable):
            await running
        assert await database.fetchval("SELECT 1") == 1


async def test_who_stops_within_a_transaction_does_not_hold_what_it_has_locked(
    empty_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "_IDLE_IN_TRANSACTION", "50ms")
    async with opened(empty_dsn) as stopped, opened(empty_dsn) as other:
        await other.execute("CREATE TABLE public.t (n int); INSERT INTO public.t VALUES (1)")

        async def stop_within() -> None:
            async with stopped.transaction() as connection:
                await connection.execute("UPDATE public.t SET n = n + 1")
                await other.execute("UPDATE public.t SET n = n + 10")
                await connection.execute("SELECT 1")

        for _ in range(2):  # also after what a transaction leaves in its session was undone
            with pytest.raises(StoreUnavailable):
                await stop_within()
            async with stopped.transaction() as connection:
                await connection.execute("SELECT 1")
        assert await other.fetchval("SELECT n FROM public.t") == 21


async def asked(dsn: str, query: str) -> bool:
    async with connected(dsn) as connection:
        found = await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE query = $1", query)
        return bool(found)


async def test_a_connection_broken_between_two_queries_is_unavailable(empty_dsn: str) -> None:
    async def ask_twice() -> None:
        async with database.transaction() as connection:
            await connection.execute("SELECT 1")
            await end_others(empty_dsn)
            await connection.execute("SELECT 2")

    async with opened(empty_dsn) as database:
        with pytest.raises(StoreUnavailable):
            await ask_twice()
        assert await database.fetchval("SELECT 1") == 1


async def test_a_query_that_takes_too_long_is_unavailable(empty_dsn: str) -> None:
    async with opened(empty_dsn) as database:
        with pytest.raises(StoreUnavailable, match="TimeoutError"):
            await database.execute("SELECT pg_sleep(60)", timeout=0.05)
        assert await database.fetchval("SELECT 1") == 1


async def test_a_deadlock_is_unavailable_for_one_and_nothing_for_the_other(empty_dsn: str) -> None:
    async def lock(first: int, second: int) -> None:
        async with database.transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock($1)", first)
            await both.wait()
            await connection.execute("SELECT pg_advisory_xact_lock($1)", second)

    both = asyncio.Barrier(2)
    async with opened(empty_dsn) as database:
        results = await asyncio.gather(lock(1, 2), lock(2, 1), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["NoneType", "StoreUnavailable"]


async def test_a_lock_that_does_not_come_in_time_is_unavailable(empty_dsn: str) -> None:
    async def lock() -> None:
        async with database.transaction() as connection:
            await connection.execute("SET LOCAL lock_timeout = '10ms'; SELECT pg_advisory_xact_lock(1)")

    async with opened(empty_dsn) as database, connected(empty_dsn) as holder:
        await holder.execute("SELECT pg_advisory_lock(1)")
        with pytest.raises(StoreUnavailable):
            await lock()


async def test_connections_are_broken_when_the_time_is_up(empty_dsn: str) -> None:
    async with opened(empty_dsn) as database:
        running = asyncio.create_task(database.execute("SELECT pg_sleep(60)"))
        await until(lambda: asked(empty_dsn, "SELECT pg_sleep(60)"))
        database.break_in(0.0)
        with pytest.raises(StoreUnavailable):
            await running
        with pytest.raises(StoreUnavailable):
            await database.fetchval("SELECT 1")


async def test_what_a_statement_did_wrong_stays_its_own_error(db: Database) -> None:
    with pytest.raises(asyncpg.DivisionByZeroError):
        await db.execute("SELECT 1 / 0")
    with pytest.raises(asyncpg.DataError):
        await db.fetchval("SELECT $1::int", "no number")


async def test_a_login_that_is_refused_says_where_and_no_password(postgres: str) -> None:
    with pytest.raises(LoginRefused, match="no_such_database") as caught:
        await Database.open(in_database(postgres, "no_such_database"))
    assert "secret" not in str(caught.value)
    scheme, _, rest = postgres.partition("://")
    stranger = f"{scheme}://no_such_user:topsecret@{rest.rpartition('@')[2]}"
    with pytest.raises(LoginRefused, match="no_such_user") as caught:
        await Database.open(stranger)
    assert "topsecret" not in str(caught.value)


async def test_a_server_that_is_not_there_is_unavailable(unused_tcp_port: int) -> None:
    with pytest.raises(StoreUnavailable, match=rf"127\.0\.0\.1:{unused_tcp_port}/shop") as caught:
        await Database.open(f"postgresql://u:topsecret@127.0.0.1:{unused_tcp_port}/shop")
    assert "topsecret" not in str(caught.value)


async def test_a_database_that_takes_nobody_for_now_is_unavailable(postgres: str, empty_dsn: str) -> None:
    name = empty_dsn.partition("?")[0].rpartition("/")[2]
    database = await Database.open(empty_dsn, max_size=1)
    async with connected(postgres) as admin:
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)

        async def is_closed() -> bool:
            try:
                await database.fetchval("SELECT 1")
            except StoreUnavailable as exc:
                return "not currently accepting connections" in str(exc)
            return False

        await until(is_closed)
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    assert await database.fetchval("SELECT 1") == 1
    await database.close()


@pytest.mark.parametrize(
    "url", ["postgresql://u:topsecret@db:port/shop", "postgresql://u:topsecret@db/s?sslmode=x"]
)
async def test_a_url_that_makes_no_sense_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(BadDatabaseUrl) as caught:
        await Database.open(url)
    assert "topsecret" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_an_option_that_the_server_does_not_know_is_named(empty_dsn: str) -> None:
    with pytest.raises(BadDatabaseUrl, match="pgbouncer"):
        await Database.open(f"{empty_dsn}{'&' if '?' in empty_dsn else '?'}pgbouncer=true")
