"""Brings the schema up to date: numbered SQL files, forward only, each applied once; knows nothing of their content.

Files are NNNN_name.sql in dbmate's format and run in psql too. Each is applied in its own transaction together with
its line in `sidestep.schema_migrations`. An advisory lock lets one process migrate; the others wait, then find
nothing to do. The schema `sidestep` exists before the first file runs, because the ledger lives in it.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import asyncpg
import structlog

from storage.backup import backup, holds_messages
from storage.database import UNAVAILABLE, Connection, Database
from storage.errors import BackupFailed, MigrationFailed, SchemaDiffers, SchemaTooNew

MIGRATIONS = Path(__file__).parent / "migrations"

_LOCK = int.from_bytes(b"sidestep")
# A migration of a large store takes as long as it takes, and so do those who wait for it.
_PATIENCE_SECONDS = 24 * 3600.0

_FILE_NAME = re.compile(r"(\d{4})_(\w+)\.sql")
_UP, _DOWN = "-- migrate:up", "-- migrate:down"

_LEDGER_EXISTS = "SELECT to_regclass('sidestep.schema_migrations') IS NOT NULL"
_APPLIED = "SELECT version, name, sha256 FROM sidestep.schema_migrations ORDER BY version"
_RECORD = "INSERT INTO sidestep.schema_migrations (version, name, sha256) VALUES ($1, $2, $3)"
_SCHEMA_EXISTS = "SELECT to_regnamespace('sidestep') IS NOT NULL"
_MAY_BEGIN = """
SELECT to_regnamespace('sidestep') IS NOT NULL OR has_database_privilege(current_database(), 'CREATE')
"""
_MAKE_SCHEMA = "CREATE SCHEMA sidestep"
LEDGER = """
    CREATE TABLE IF NOT EXISTS sidestep.schema_migrations (
        version    text PRIMARY KEY,
        name       text NOT NULL,
        sha256     text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    );
    COMMENT ON TABLE sidestep.schema_migrations IS 'Which migrations this database has had.';
    COMMENT ON COLUMN sidestep.schema_migrations.version IS 'The file''s number.';
    COMMENT ON COLUMN sidestep.schema_migrations.name IS 'The file''s name.';
    COMMENT ON COLUMN sidestep.schema_migrations.sha256 IS 'Of the file as it was applied; it may not change.';
    COMMENT ON COLUMN sidestep.schema_migrations.applied_at IS 'When.'
"""

# Row level security of tables that have just been made, and what the tenants' roles may do with them.
_HAS_WALL = "SELECT to_regprocedure('sidestep.wall_off()') IS NOT NULL"
_WALL_OFF = "SELECT sidestep.wall_off()"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file; `sha256` is of its text with Unix line ends, whatever git made of them."""

    version: str
    name: str
    sql: str
    sha256: str

    @property
    def label(self) -> str:
        return f"{self.version}_{self.name}"


def shipped(folder: Path = MIGRATIONS) -> list[Migration]:
    """The migrations of this code, in order. Raises MigrationFailed for a file that is not one."""
    found = [_read(path) for path in sorted(folder.glob("*.sql"))]
    for one, next_one in pairwise(found):
        if one.version == next_one.version:
            raise MigrationFailed(f"two migrations in {folder} have the number {one.version}")
    return found


def _read(path: Path) -> Migration:
    named = _FILE_NAME.fullmatch(path.name)
    if not named:
        raise MigrationFailed(f"{path} must be named NNNN_name.sql")
    text = path.read_text(encoding="utf-8")
    before, up, after = text.partition(_UP)
    if not up or any(line and not line.startswith("--") for line in before.splitlines()):
        raise MigrationFailed(f"{path} must begin with the line `{_UP}`")
    # What stands above is kept as empty lines, so that an error names the file's own line.
    sql = "\n" * before.count("\n") + up + after.partition(_DOWN)[0]
    return Migration(version=named[1], name=named[2], sql=sql, sha256=sha256(text.encode()).hexdigest())


async def pending(database: Database, folder: Path = MIGRATIONS) -> list[Migration]:
    """What is yet to be applied.

    Raises SchemaTooNew or SchemaDiffers where this code does not fit the database, and MigrationFailed where there is
    no schema yet and the user may not create one.
    """
    async with database.acquire() as connection:
        if not await connection.fetchval(_MAY_BEGIN):
            raise _may_not_create(database.address.place)
        return await _pending(connection, shipped(folder))


def state_in_words(place: str, todo: Sequence[Migration], folder: Path = MIGRATIONS) -> str:
    """How far the schema at a place is, as what `pending` has found says: the end of a sentence."""
    if not todo:
        return "is up to date"
    if len(todo) == len(shipped(folder)):
        return f"at {place} is empty: the first start sets it up"
    behind = "a migration is" if len(todo) == 1 else f"{len(todo)} migrations are"
    return f"at {place} is of an older version, and {behind} pending: the next start applies them, or sidestep migrate"


async def migrate(
    database: Database,
    backup_to: Path | None = None,
    *,
    allow_without_backup: bool = False,
    folder: Path = MIGRATIONS,
) -> list[Migration]:
    """Apply what is pending and return it.

    A store that holds messages is first backed up into the folder `backup_to`, the way back; where that fails (or the
    folder is None), BackupFailed is raised and nothing is applied, unless `allow_without_backup`.
    """
    if not await pending(database, folder):  # asks for no right to create anything
        return []
    async with database.acquire() as connection, _alone(connection):
        await _make_ledger(connection, database.address.place)
        todo = await _pending(connection, shipped(folder))
        if todo and await holds_messages(connection):
            await _back_up(database, backup_to, todo[0], allow_without_backup=allow_without_backup)
        for migration in todo:
            await _apply(connection, migration)
            _log.info("migration_applied", migration=migration.label)
        if todo and await connection.fetchval(_HAS_WALL):
            await connection.execute(_WALL_OFF)
    return todo


@asynccontextmanager
async def _alone(connection: Connection) -> AsyncIterator[None]:
    # Returning the connection to its pool frees the lock, and so does its end.
    await connection.execute("SELECT pg_advisory_lock($1)", _LOCK, timeout=_PATIENCE_SECONDS)
    yield


async def _pending(connection: Connection, files: Sequence[Migration]) -> list[Migration]:
    if not await connection.fetchval(_LEDGER_EXISTS):
        return list(files)
    known = {file.version: file for file in files}
    newest = max(known, default="0000")
    applied = set()
    for row in await connection.fetch(_APPLIED):
        version, label = row["version"], f"{row['version']}_{row['name']}"
        if version > newest:
            raise SchemaTooNew(
                f"the database has migration {label}, this Sidestep knows none after {newest}: install the version "
                "that made it, or go back by restoring the backup that was taken before it"
            )
        if version not in known:
            raise SchemaDiffers(
                f"the database has migration {label}, which this Sidestep lacks: reinstall it"
            )
        if known[version].sha256 != row["sha256"]:
            raise SchemaDiffers(
                f"migration {known[version].label} has changed since it was applied to the database: "
                "restore the file, and put the change into a new migration"
            )
        applied.add(version)
    return [file for file in files if file.version not in applied]


async def _make_ledger(connection: Connection, place: str) -> None:
    try:
        # IF NOT EXISTS would ask for the right to create even where there is nothing to do.
        if not await connection.fetchval(_SCHEMA_EXISTS):
            await connection.execute(_MAKE_SCHEMA)
        await connection.execute(LEDGER)
    except asyncpg.InsufficientPrivilegeError as exc:
        raise _may_not_create(place) from exc


def _may_not_create(place: str) -> MigrationFailed:
    return MigrationFailed(
        f"the user may not create a schema in {place}: GRANT CREATE ON DATABASE … TO …, or let it own the database"
    )


async def _back_up(
    database: Database, folder: Path | None, first: Migration, *, allow_without_backup: bool
) -> None:
    try:
        if folder is None:
            raise BackupFailed(
                f"{database.address.place} holds messages, and no folder for a backup is given"
            )
        await asyncio.to_thread(_make_folder, folder)
        taken_at = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        saved = await backup(database.address.url, folder / f"before-{first.label}-{taken_at}.dump")
    except BackupFailed as exc:
        if not allow_without_backup:
            raise BackupFailed(
                f"migration {first.label} was not applied, since its way back is missing: {exc}"
            ) from exc
        _log.warning("migrating_without_backup", reason=str(exc))
    else:
        _log.info("backup_written", path=str(saved.path), size_bytes=saved.size_bytes)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise BackupFailed(f"the folder {folder} cannot be made: {exc.strerror}") from exc


async def _apply(connection: Connection, migration: Migration) -> None:
    try:
        async with connection.transaction():
            await connection.execute(migration.sql, timeout=_PATIENCE_SECONDS)
            await connection.execute(_RECORD, migration.version, migration.name, migration.sha256)
    except UNAVAILABLE:
        raise  # not the file's fault; the wall names it
    except asyncpg.PostgresError as exc:
        line = migration.sql.count("\n", 0, int(exc.position or 1)) + 1
        raise MigrationFailed(
            f"migration {migration.label} was refused at line {line}, nothing of it remains: {exc.args[0]}"
        ) from exc
