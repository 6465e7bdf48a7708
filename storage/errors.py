"""The errors of this package; each says what is wrong, where, and what to do, and none carries a password.

StorageError
├── StoreUnavailable        cannot be reached, read or written now; the same call may succeed later
│   └── LoginRefused        the server answers, but not to this user or for this database
├── BadDatabaseUrl          DATABASE_URL cannot be read
├── UnsupportedServer       a PostgreSQL older than we support
├── SchemaTooNew            the database was migrated by a newer Sidestep
├── SchemaDiffers           an applied migration is not the one that is shipped
├── MigrationFailed         a migration was refused by the server; nothing of it remains
├── StoreIsLive             a store with linked numbers is no place for a talk without phones
├── NumberTaken             a number is linked to another account of this database
├── FaceRefused             a face cannot be shown in the schema public
├── BackupFailed            a backup could not be written or is not readable
├── RestoreFailed           a backup could not be restored; nothing was changed
└── EmbeddedError           the PostgreSQL that we run ourselves
    ├── DataFolderInUse     another process runs it
    ├── WrongMajor          its data belong to another major version
    └── EmbeddedStartFailed it cannot start here
"""


class StorageError(Exception):
    """Any failure of the store that its user can be told about."""


class StoreUnavailable(StorageError):
    """The store cannot be reached, read or written now; nothing of the failed call was kept.

    `kind` is the failure in one word, `advice` what to do; neither quotes anything.
    """

    def __init__(self, message: str, *, advice: str = "check that it runs and has room") -> None:
        super().__init__(message)
        self.advice = advice

    @property
    def kind(self) -> str:
        return type(self.__cause__ or self).__name__


class LoginRefused(StoreUnavailable):
    """The server refused the user, the password or the database."""


class BadDatabaseUrl(StorageError):
    """The database URL cannot be read. `problem` says so without a subject, for who knows where the URL came from."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"the database URL {problem}")
        self.problem = problem


class UnsupportedServer(StorageError):
    """The server is older than the oldest PostgreSQL that we support."""


class SchemaTooNew(StorageError):
    """The database holds migrations that this code does not know."""


class SchemaDiffers(StorageError):
    """An applied migration's file has changed since, or is gone."""


class MigrationFailed(StorageError):
    """A migration file cannot be read, or the server refused it."""


class StoreIsLive(StorageError):
    """Real numbers are linked in this store: what waits there must not be answered into the air."""


class NumberTaken(StorageError):
    """Two accounts of one database cannot have the same number."""


class FaceRefused(StorageError):
    """Something else stands where a face is to be shown, or we may not put it there."""


class BackupFailed(StorageError):
    """pg_dump could not write the backup, or pg_restore cannot read it."""


class RestoreFailed(StorageError):
    """The backup was not restored; the database is as it was."""


class EmbeddedError(StorageError):
    """The PostgreSQL of our own is unusable."""


class DataFolderInUse(EmbeddedError):
    """Another process holds the data folder's lock."""


class WrongMajor(EmbeddedError):
    """The data folder was made by another major version of PostgreSQL."""


class EmbeddedStartFailed(EmbeddedError):
    """PostgreSQL cannot be found, prepared or started."""
