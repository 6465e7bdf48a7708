"""The plainest code: INSERTs over asyncpg, as a program without Sidestep writes them; it imports nothing of ours."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from time import perf_counter

import asyncpg

from benchmarks.slices import Contestant, Slice

# A row as wide as ours, with its primary key and nothing else: no check, no second index, no partition.
TABLE = """
CREATE SCHEMA IF NOT EXISTS bench;
CREATE TABLE IF NOT EXISTS bench.messages (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, chat_id bigint NOT NULL, direction text NOT NULL,
    author text NOT NULL, type text NOT NULL, external_id text, text text, sent_at timestamptz NOT NULL
);
"""
INSERT = """
INSERT INTO bench.messages (chat_id, direction, author, type, external_id, text, sent_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
# What a careful program does for each message, one statement at a time: is it new, where does it belong, keep it.
SIX_TABLES = """
CREATE TABLE IF NOT EXISTS bench.chats (
    chat_id bigint PRIMARY KEY, jid text NOT NULL UNIQUE, is_paused boolean NOT NULL DEFAULT false,
    last_message_at timestamptz
);
CREATE TABLE IF NOT EXISTS bench.keys (external_id text PRIMARY KEY, chat_id bigint NOT NULL);
CREATE TABLE IF NOT EXISTS bench.events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, external_id text NOT NULL, action_taken text
);
INSERT INTO bench.chats (chat_id, jid) SELECT n, n::text FROM generate_series(0, 999) n ON CONFLICT DO NOTHING;
"""
SIX = (
    "SELECT chat_id FROM bench.chats WHERE jid = $1",
    "INSERT INTO bench.keys (external_id, chat_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
    "SELECT is_paused FROM bench.chats WHERE chat_id = $1 FOR UPDATE",
    INSERT,
    "INSERT INTO bench.events (external_id) VALUES ($1)",
    "UPDATE bench.chats SET last_message_at = $2 WHERE chat_id = $1",
)

_numbers = itertools.count()

OneMessage = Callable[["asyncpg.Connection[asyncpg.Record]", int, str], Awaitable[None]]


async def one_insert(connection: asyncpg.Connection[asyncpg.Record], chat: int, external_id: str) -> None:
    """One row, one commit."""
    await connection.execute(
        INSERT, chat, "inbound", "customer", "text", external_id, "how much is it?", datetime.now(UTC)
    )


async def six_statements(connection: asyncpg.Connection[asyncpg.Record], chat: int, external_id: str) -> None:
    """Six statements, one commit."""
    async with connection.transaction():
        await connection.fetchval(SIX[0], str(chat))
        await connection.execute(SIX[1], external_id, chat)
        await connection.fetchval(SIX[2], chat)
        await one_insert(connection, chat, external_id)
        await connection.execute(SIX[4], external_id)
        await connection.execute(SIX[5], chat, datetime.now(UTC))


@asynccontextmanager
async def writers(dsn: str, count: int, seconds: float, message: OneMessage) -> AsyncIterator[Contestant]:
    """So many at once, each with a connection of its own, one message after the other."""
    async with AsyncExitStack() as stack:
        connections = []
        for _ in range(count):
            connections.append(await asyncpg.connect(dsn))
            stack.push_async_callback(connections[-1].close)
        await connections[0].execute(TABLE + SIX_TABLES)

        async def work() -> Slice:
            return await busy(count, seconds, lambda n, i: message(connections[n], i % 1000, f"W{i}"))

        yield work


@asynccontextmanager
async def two_inserts(dsn: str, chats: int, seconds: float) -> AsyncIterator[Contestant]:
    """The bare bot: what came and what is answered, an INSERT each, over a pool of ten. It sends nothing."""
    async with asyncpg.create_pool(dsn, min_size=10, max_size=10) as pool:
        await pool.execute(TABLE)

        async def message(chat: int) -> None:
            async with pool.acquire() as connection:
                await connection.execute(
                    INSERT, chat, "inbound", "customer", "text", "M", "how much is it?", datetime.now(UTC)
                )
                await connection.execute(
                    INSERT, chat, "outbound", "bot", "text", "R", "From 10 to 50.", datetime.now(UTC)
                )

        async def work() -> Slice:
            return await busy(chats, seconds, lambda n, _: message(n))

        yield work


async def busy(count: int, seconds: float, message: Callable[[int, int], Awaitable[None]]) -> Slice:
    """So many workers, each with one message after the other, until the time is up; what is begun is finished."""
    latencies: list[float] = []
    started = perf_counter()

    async def work(worker: int) -> None:
        while (begun := perf_counter()) - started < seconds:
            await message(worker, next(_numbers))
            latencies.append(perf_counter() - begun)

    await asyncio.gather(*(work(n) for n in range(count)))
    return Slice(seconds=perf_counter() - started, latencies=latencies)
