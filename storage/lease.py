"""The leases of accounts: let one daemon at a time serve each, across processes and machines; they decide nothing.

A lease has a number that rises with each holder, the fence. Whatever only the holder may do names it, and is refused
once another has taken the account: a daemon that was frozen, or cut off, can do no harm when it comes back.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta

import asyncpg

from storage.database import Connection, Database, is_lost
from storage.errors import StorageError, StoreUnavailable
from storage.models import Account

NONE = 0
"""The fence of who has no lease."""

# Who only serves takes no account that has left this database.
KEEP = """
SELECT i.n, k.fence, k.holder
  FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) WITH ORDINALITY i (tenant_id, account_id, fence, n)
  JOIN sidestep.accounts a USING (tenant_id, account_id)
 CROSS JOIN LATERAL sidestep.keep_lease(i.tenant_id, i.account_id, i.fence, $4, $5, $6) k
 WHERE NOT $7 OR (a.departure IS NULL AND a.moved_to IS NULL AND a.removed_at IS NULL)
"""


class FencedOut(StorageError):
    """Another daemon has this account now; nothing of the call was kept."""


class Lease:
    """One account's lease as of the last look. `holder` is who has it, None while nobody is known to."""

    def __init__(self, account: Account, fence: int = NONE) -> None:
        self.account = account
        self.fence = fence
        self.holder: str | None = None

    @property
    def is_ours(self) -> bool:
        return self.fence != NONE


class Leases:
    """The leases that one process keeps, or waits for, in one database session.

    `lasts` is how long one of a holder that says nothing stands; one whose session has ended is free at once. Who is
    `to_serve` takes only accounts that may be served here.
    """

    def __init__(
        self, database: Database, accounts: Sequence[Account], lasts: timedelta, *, to_serve: bool = False
    ) -> None:
        self._database = database
        self._lasts = lasts
        self._to_serve = to_serve
        self._holder = f"{socket.gethostname()}, process {os.getpid()} ({secrets.token_hex(4)})"
        self._connection: Connection | None = None
        self._is_known_to_session = False
        self._stack = AsyncExitStack()
        self.each = [Lease(account) for account in accounts]

    async def keep(self) -> None:
        """Renew what is ours and take what is free; what another has meanwhile is ours no more.

        To be repeated several times within `lasts`. Raises StoreUnavailable; then what is ours is not known.
        """
        connection = await self._session()
        try:
            with self._database.calling(connection):
                rows = await connection.fetch(
                    KEEP, [lease.account.tenant_id for lease in self.each],
                    [lease.account.account_id for lease in self.each], [lease.fence for lease in self.each],
                    not self._is_known_to_session, self._holder, self._lasts, self._to_serve,
                )  # fmt: skip
        except asyncpg.PostgresError as exc:
            # Where this small row cannot be written nothing can, whatever the server calls it.
            raise StoreUnavailable(f"the leases cannot be written: {type(exc).__name__}") from exc
        self._is_known_to_session = True
        found = {row["n"]: row for row in rows}
        for n, lease in enumerate(self.each, start=1):
            lease.fence, lease.holder = (
                (found[n]["fence"], found[n]["holder"]) if n in found else (NONE, None)
            )

    async def _session(self) -> Connection:
        if self._connection is None or is_lost(self._connection):
            await self._stack.aclose()
            self._is_known_to_session = False
            self._connection = await self._stack.enter_async_context(self._database.acquire())
        return self._connection

    async def release(self) -> None:
        """Let go of all: the end of the session frees them."""
        for lease in self.each:
            lease.fence = NONE
        self._connection = None
        await self._stack.aclose()
