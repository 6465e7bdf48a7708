"""Our own PostgreSQL server: starts, watches and stops it, or attaches to the one that another process of ours runs.

It knows nothing of what is stored. The server dies with the process that started it, also by kill -9, and the folder's
lock lets one process at a time run one. Start it from the main thread: Linux binds the death signal to a thread.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TextIO

import asyncpg
import structlog

from storage import cluster, launch
from storage.cluster import Layout
from storage.errors import DataFolderInUse, EmbeddedError, EmbeddedStartFailed
from storage.programs import ProgramFailed, account_for, binary, major_version, run, runnable_bin

__all__ = ["EmbeddedPostgres", "binary", "default_folder", "embedded"]

# Recovery after a crash replays up to max_wal_size, which takes minutes on a slow disk.
_START_SECONDS = 300.0
_STOP_SECONDS = 60.0
_REACT_SECONDS = 2.0
_QUIT_SECONDS = 0.5
_POLL_SECONDS = 0.03
_TAKE_OVER_POLL_SECONDS = 0.25
_RESTART_SECONDS = (1.0, 30.0)

# What a connection meets while the server starts, recovers or stops.
_NOT_YET = (
    OSError,
    asyncpg.CannotConnectNowError,
    asyncpg.PostgresConnectionError,
    asyncpg.InternalClientError,
)

_log = structlog.get_logger(__name__)


def default_folder() -> Path:
    """Where the data live unless configured: /var/lib/sidestep for root, else the user's XDG data home."""
    if os.geteuid() == 0:
        return Path("/var/lib/sidestep")
    data_home = os.environ.get("XDG_DATA_HOME", "")
    if data_home.startswith("/"):
        return Path(data_home) / "sidestep"
    try:
        return Path.home() / ".local" / "share" / "sidestep"
    except RuntimeError as exc:
        raise EmbeddedStartFailed("this user has no home folder: say where with database.dir") from exc


@asynccontextmanager
async def embedded(
    folder: Path,
    *,
    settings: Mapping[str, str] | None = None,
    durable: bool = True,
    timeout: float = _START_SECONDS,
) -> AsyncIterator[str]:
    """The URL of a server on this folder, for as long as the context lasts.

    Where another process holds the folder, its server is used and left running; when that process ends before us, we
    start the server again under the same URL. Open connections break then, as they do if the server crashes.
    """
    server = EmbeddedPostgres(folder, settings=settings or {}, durable=durable)
    dsn = await _start_or_attach(server, timeout)
    keeper = asyncio.create_task(_keep(server), name="embedded-postgres")
    try:
        yield dsn
    finally:
        keeper.cancel()
        await asyncio.wait([keeper])
        await server.stop()


async def _start_or_attach(server: "EmbeddedPostgres", timeout: float) -> str:
    give_up_at = time.monotonic() + timeout
    while True:
        try:
            return await server.start(max(give_up_at - time.monotonic(), 1.0))
        except DataFolderInUse:
            # The holder may still be starting (wait for it), or be stopping (its lock will be ours).
            if await server.answers():
                return server.dsn
            if time.monotonic() > give_up_at:
                raise
        await asyncio.sleep(_POLL_SECONDS)


async def _keep(server: "EmbeddedPostgres") -> None:
    """Start the server when its holder is gone, and again whenever it dies under us, as by the out-of-memory killer."""
    shortest, longest = _RESTART_SECONDS
    pause = shortest
    while True:
        if server.running:
            pause = shortest
            await server.ended()
            _log.error("postgres_died")
        try:
            await server.start()
        except DataFolderInUse:
            await asyncio.sleep(_TAKE_OVER_POLL_SECONDS)
        except EmbeddedError as exc:
            _log.error("postgres_restart_failed", error=str(exc), again_in_seconds=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, longest)
        else:
            _log.info("postgres_started")


class EmbeddedPostgres:
    """One server on one folder. `settings` are PostgreSQL's, by name; without `durable` a crash may lose everything."""

    def __init__(
        self, folder: Path, *, settings: Mapping[str, str] | None = None, durable: bool = True
    ) -> None:
        folder = folder.expanduser().resolve()
        self._layout = Layout(folder=folder, account=account_for(folder / "data"))
        self._settings = settings or {}
        self._durable = durable
        self._lock: TextIO | None = None
        self._process: asyncio.subprocess.Process | None = None

    @property
    def dsn(self) -> str:
        return self._layout.dsn()

    @property
    def running(self) -> bool:
        """Whether the server that we started lives; one we are attached to is not ours."""
        return self._process is not None and self._process.returncode is None

    async def ended(self) -> None:
        if self._process:
            await self._process.wait()

    async def start(self, timeout: float = _START_SECONDS) -> str:
        """Return the database's URL once it answers. Raises EmbeddedError; then nothing keeps running."""
        if self.running:
            return self.dsn
        give_up_at = time.monotonic() + timeout
        try:
            cluster.make_folders(self._layout)
            self._lock = self._lock or cluster.take_lock(self._layout)
            programs = await runnable_bin(self._layout.account, self._layout.folder / "programs")
            await self._stop_orphan()
            await self._prepare_data(programs)
            await self._run_until_answering(programs / "postgres", give_up_at)
        except (ProgramFailed, OSError, asyncpg.PostgresError) as exc:
            await self.stop()
            raise EmbeddedStartFailed(f"PostgreSQL cannot start in {self._layout.folder}: {exc}") from exc
        except BaseException:
            await self.stop()
            raise
        return self.dsn

    async def stop(self) -> None:
        """Stop the server if it is ours, and free the folder."""
        if self._process and self._process.returncode is None:
            await _end(self._process, self._layout)
        self._process = None
        if self._lock:
            self._lock.close()
            self._lock = None

    async def answers(self) -> bool:
        """Whether the database can be used, whoever runs its server."""
        with suppress(*_NOT_YET, asyncpg.InvalidCatalogNameError):
            connection = await asyncpg.connect(self.dsn, timeout=5)
            await connection.close()
            return True
        return False

    async def _stop_orphan(self) -> None:
        """We hold the lock, so a server that still runs here has lost its daemon and would block ours."""
        pid = cluster.running_postmaster(self._layout)
        if pid is None:
            return
        for wanted in (signal.SIGINT, signal.SIGQUIT):
            with suppress(ProcessLookupError):
                os.kill(pid, wanted)
            give_up_at = time.monotonic() + _STOP_SECONDS
            while time.monotonic() < give_up_at:
                if not cluster.is_postmaster(pid, self._layout):
                    return
                if wanted is signal.SIGINT and cluster.is_recovering(self._layout):
                    break  # as in _ends_its_work
                await asyncio.sleep(_POLL_SECONDS)
        raise EmbeddedStartFailed(
            f"a PostgreSQL left on {self._layout.folder} (process {pid}) does not stop; end it"
        )

    async def _prepare_data(self, programs: Path) -> None:
        if not cluster.has_data(self._layout):
            await run(
                programs / "initdb",
                *("-D", cluster.begin_data(self._layout), "-U", cluster.SUPERUSER, "--encoding=UTF8"),
                # Nobody but this account can enter the socket's folder, and there is no TCP.
                *("--auth-local=trust", "--auth-host=reject"),
                # PostgreSQL's own locale: no system locales needed, and no index breaks when they change.
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
                *("-c", f"include_if_exists={cluster.SETTINGS_FILE}"),
                *(() if self._durable else ("--no-sync",)),
                account=self._layout.account,
            )
            cluster.finish_data(self._layout)
        cluster.require_major(self._layout, await major_version(programs / "postgres"))
        cluster.write_settings(self._layout, self._settings, durable=self._durable)
        cluster.remove_old_logs(self._layout)

    async def _run_until_answering(self, postgres: Path, give_up_at: float) -> None:
        self._process = await self._launch(postgres)
        while not await self._usable():
            if not self.running:
                said = cluster.last_words(self._layout)
                # Children of a killed server notice its death a moment later than we do.
                if "pre-existing shared memory block" not in said:
                    raise EmbeddedStartFailed(f"PostgreSQL did not start in {self._layout.folder}:\n{said}")
                self._process = await self._launch(postgres)
            if time.monotonic() > give_up_at:
                raise EmbeddedStartFailed(
                    f"PostgreSQL in {self._layout.folder} did not answer in time; "
                    f"its log is in {self._layout.logs}"
                )
            await asyncio.sleep(_POLL_SECONDS)

    async def _launch(self, postgres: Path) -> asyncio.subprocess.Process:
        account = self._layout.account
        with _opened(self._layout.start_log) as log:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", launch.__file__),
                *(str(os.getpid()), str(account.uid if account else -1), str(account.gid if account else -1)),
                *(postgres, "-D", self._layout.data),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C at the terminal is for the daemon, which stops us in its turn
            )

    async def _usable(self) -> bool:
        """Whether the server answers and has our database; makes it on the first start."""
        with suppress(*_NOT_YET):
            try:
                await self._execute(cluster.DATABASE, "CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
            except asyncpg.InvalidCatalogNameError:
                await self._execute("postgres", f"CREATE DATABASE {cluster.DATABASE}")
                return await self._usable()
            return True
        return False

    async def _execute(self, database: str, statement: str) -> None:
        connection = await asyncpg.connect(self._layout.dsn(database), timeout=5)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


def _opened(path: Path) -> BinaryIO:
    return path.open("wb")


async def _end(process: asyncio.subprocess.Process, layout: Layout) -> None:
    process.send_signal(signal.SIGINT)  # fast shutdown
    if await _ends_in(process, _REACT_SECONDS):
        return
    if await _ends_its_work(process, layout):
        return
    process.send_signal(signal.SIGQUIT)
    if not await _ends_in(process, _QUIT_SECONDS):
        process.kill()
        await process.wait()


async def _ends_its_work(process: asyncio.subprocess.Process, layout: Layout) -> bool:
    """One that has begun to stop may have much to write; one that has not will never begin.

    One that replays what a crash has left has nothing to write, and waits for itself without end.
    """
    give_up_at = time.monotonic() + _STOP_SECONDS
    while time.monotonic() < give_up_at and cluster.is_stopping(layout) and not cluster.is_recovering(layout):
        if await _ends_in(process, _QUIT_SECONDS):
            return True
    return False


async def _ends_in(process: asyncio.subprocess.Process, seconds: float) -> bool:
    with suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), seconds)
    return process.returncode is not None
