"""Heavy reads go to a replica, a real standby here; and to the database where the replica cannot be used."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from storage.database import Database
from storage.programs import account_for, binary, run, runnable_bin
from storage.reading.reads import Reads
from storage.reading.source import Replica
from tests.conftest import connected, database_of, until
from tests.integration.store_world import World, said


@asynccontextmanager
async def standby_of(primary: str, folder: Path) -> AsyncIterator[str]:
    """A streaming standby of a server, in a folder; the URL of its database `postgres`."""
    account = account_for(folder / "data")
    sockets = folder / "s"
    for made in (folder, sockets):
        made.mkdir(exist_ok=True)
        if account is not None:
            os.chown(made, account.uid, account.gid)
    programs = await runnable_bin(account, folder / "programs")
    source = parse_qs(urlsplit(primary).query)
    await run(
        programs / "pg_basebackup",
        *("-D", folder / "data", "-h", source["host"][0], "-p", source["port"][0], "-U", "postgres"),
        *("--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"),
        account=account,
    )
    assert (folder / "data" / "standby.signal").exists()
    process = await asyncio.create_subprocess_exec(
        programs / "postgres",
        *("-D", folder / "data", "-c", f"unix_socket_directories={sockets}", "-c", "logging_collector=off"),
        cwd="/",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )
    url = f"postgresql://postgres@/postgres?host={sockets}&port={source['port'][0]}"

    async def answers() -> bool:
        assert process.returncode is None, "the standby has ended"
        try:
            async with connected(url) as connection:
                return bool(await connection.fetchval("SELECT pg_is_in_recovery()"))
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):  # it is just starting
            return False

    try:
        await until(answers)
        yield url
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await process.wait()


def open_folder() -> Path:
    """Not pytest's own, which is closed to the account that PostgreSQL runs as where we are root."""
    made = Path(tempfile.mkdtemp(prefix="sidestep-standby-"))
    made.chmod(0o711)
    return made


@pytest.fixture
async def standby(postgres: str) -> AsyncIterator[str]:
    if os.environ.get("SIDESTEP_TEST_DATABASE_URL"):
        pytest.skip("a standby is made of the server that the tests start themselves")
    assert binary("pg_basebackup").exists()
    folder = open_folder()
    try:
        async with standby_of(postgres, folder) as url:
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def texts(reads: Reads, words: str) -> list[str | None]:
    return [f.entry.message.text for f in (await reads.search.search_messages(words)).items]


async def test_heavy_reads_are_answered_by_a_standby_while_there_is_one(
    db: Database, dsn: str, standby: str
) -> None:
    world = await World.open(db)
    await world.record(said("1", "the first cake"))
    copy = standby.replace("/postgres?", f"/{database_of(dsn)}?")
    replica = Replica(copy)
    reads = Reads.of(db, world.tenant.tenant_id, replica)

    async def has_copied(messages: int) -> bool:
        try:
            async with connected(copy) as other:
                return bool(await other.fetchval("SELECT count(*) = $1 FROM sidestep.messages", messages))
        except asyncpg.PostgresError:
            return False  # the database itself is still on its way, or its copy was in the way of this look

    try:
        await until(lambda: has_copied(1))
        assert await texts(reads, "cake") == ["the first cake"]
        async with connected(standby) as other:
            await other.execute("SELECT pg_wal_replay_pause()")
            await until_paused(other)
        await world.record(said("2", "the second cake"))
        # What lags behind shows who has answered.
        assert await texts(reads, "cake") == ["the first cake"]
        assert (await reads.stats.message_stats()).total == 1
        assert len((await reads.chats.chat_list()).items) == 1
        chat = await world.meet()
        assert len(await reads.messages.last_messages(chat)) == 2
        async with connected(standby) as other:
            await other.execute("SELECT pg_wal_replay_resume()")
        await until(lambda: has_copied(2))
        assert await texts(reads, "cake") == ["the second cake", "the first cake"]
    finally:
        await replica.close()


async def until_paused(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    async def paused() -> bool:
        state = await connection.fetchval("SELECT pg_get_wal_replay_pause_state()")
        return bool(state == "paused")

    await until(paused)


@pytest.mark.parametrize("url", ["postgresql://nobody@127.0.0.1:9/shop", "an unmigrated database"])
async def test_a_replica_that_cannot_be_used_is_passed_over(db: Database, url: str, empty_dsn: str) -> None:
    world = await World.open(db)
    await world.record(said("1", "the cake"))
    replica = Replica(empty_dsn if url == "an unmigrated database" else url)
    reads = Reads.of(db, world.tenant.tenant_id, replica)
    try:
        assert await texts(reads, "cake") == ["the cake"]
        assert (await reads.stats.message_stats()).total == 1
        assert replica.is_resting is (url != "an unmigrated database")
    finally:
        await replica.close()
