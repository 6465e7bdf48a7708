"""Where reads go: to the database itself, or the heavy ones to a replica of it; holds no query.

A replica may lag by moments. One that cannot be used, for now or because it has not been migrated yet, is passed over:
the database answers then, and the log says so once, until the replica answers again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import Protocol

import asyncpg
import structlog

from storage.address import read_address
from storage.database import Database
from storage.errors import StorageError

log = structlog.get_logger(__name__)

_REST_SECONDS = 30.0

# What a copy lacks that has not had our migrations yet.
_BEHIND = (
    asyncpg.InvalidSchemaNameError,
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedFunctionError,
    asyncpg.UndefinedColumnError,
)


class Source(Protocol):
    """What can be read from."""

    async def fetch(self, query: str, *args: object) -> Sequence[asyncpg.Record]:
        """Raises StoreUnavailable."""
        ...


class Replica:
    """A standby of the database, by URL: connected to when it is first asked, and not asked again for half a minute
    after it could not answer, so that nobody waits for it twice."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._database: Database | None = None
        self._again_at = 0.0
        self._opening = asyncio.Lock()
        self.place = read_address(url).place

    @property
    def is_resting(self) -> bool:
        return monotonic() < self._again_at

    async def fetch(self, query: str, *args: object) -> Sequence[asyncpg.Record]:
        """Raises StorageError, also where it cannot be reached."""
        try:
            if self._database is None:
                async with self._opening:
                    self._database = self._database or await Database.open(
                        self._url, min_size=0, application_name="sidestep-reads"
                    )
            return await self._database.fetch(query, *args)
        except StorageError:
            self._again_at = monotonic() + _REST_SECONDS
            raise

    async def close(self) -> None:
        if self._database is not None:
            await self._database.close()


class ReplicaFirst:
    """Reads from a replica while it answers, else from the database that it is a copy of."""

    def __init__(self, replica: Replica, database: Database) -> None:
        self._replica = replica
        self._database = database
        self._is_missed = False

    async def fetch(self, query: str, *args: object) -> Sequence[asyncpg.Record]:
        """Raises StoreUnavailable where neither answers."""
        if self._replica.is_resting:
            return await self._database.fetch(query, *args)
        try:
            rows = await self._replica.fetch(query, *args)
        except (StorageError, *_BEHIND) as exc:
            if not self._is_missed:
                log.warning("replica_passed_over", error=type(exc).__name__, place=self._replica.place)
            self._is_missed = True
            return await self._database.fetch(query, *args)
        if self._is_missed:
            log.info("replica_answers_again", place=self._replica.place)
        self._is_missed = False
        return rows
