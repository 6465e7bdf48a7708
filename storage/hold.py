"""The hold on accounts: lets one daemon at a time serve each, across processes and machines; it decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack

from storage.database import Connection, Database, is_lost
from storage.models import Account
from storage.tenants import TenantStore


class Hold:
    """Locks of one database session. PostgreSQL lets go of them when that ends, however the daemon does."""

    def __init__(self, database: Database, accounts: Sequence[Account]) -> None:
        self._database = database
        self._accounts = accounts
        self._connection: Connection | None = None
        self._stack = AsyncExitStack()

    async def take(self) -> Account | None:
        """Take all accounts, or take them again when the session has broken since; nothing while they are held.

        Returns the first account that another daemon has; then none is held. Raises StoreUnavailable.
        """
        if self._connection is not None and not is_lost(self._connection):
            return None
        await self.release()
        async with AsyncExitStack() as stack:
            connection = await stack.enter_async_context(self._database.acquire())
            for account in self._accounts:
                if not await TenantStore.lock(connection, account):
                    return account
            self._connection, self._stack = connection, stack.pop_all()
        return None

    async def release(self) -> None:
        """Let go of all."""
        self._connection = None
        await self._stack.aclose()
