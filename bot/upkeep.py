"""Upkeep of the store: months are made ahead, those that are over are counted, and what is outlived is forgotten."""

from __future__ import annotations

from datetime import datetime, timedelta

from bot.clock import Clock
from bot.desk.stores import Stores
from bot.phonebook import read_numbers
from bot.policy import Policy
from storage.indexing import index_json
from storage.models import FOR_EVER, Account
from storage.notices import forget_told
from storage.people import PeopleStore
from storage.reading.stats import tally
from storage.retention import drop_empty_months, forget_messages, forget_noted, forget_payloads

_EARLY_KEPT = timedelta(days=30)


class Upkeep:
    """What has to be done again and again, and is done whenever it is: each part asks the store what is due."""

    def __init__(self, account: Account, stores: Stores, clock: Clock, policy: Policy) -> None:
        self._tenant_id = account.tenant_id
        self._stores = stores
        self._clock = clock
        self._policy = policy

    async def clean(self) -> int:
        """Make the months ahead, count those that are over, forget what is outlived, and drop months that are empty.

        Returns how many old events that were: receipts and changes that nothing claimed, notices that were told, and
        what others have entered in a face's ledger.
        """
        now, before = self._clock.now(), self._clock.now() - _EARLY_KEPT
        await self._stores.messages.ensure_months(now)
        await self._stores.automatic.forget(now)
        await self._forget_outlived(now)
        await tally(self._stores.database, self._tenant_id, now)
        return sum(
            [
                await self._stores.messages.forget_changes(self._tenant_id, before),
                await self._stores.outbox.forget_receipts(before),
                await forget_told(self._stores.database, self._tenant_id, before),
                await forget_noted(self._stores.database, self._tenant_id, before),
            ]
        )

    async def read_numbers(self) -> None:
        """Find out whose contacts the people are that SQL has written down since."""
        tenant = await self._stores.tenants.get(self._tenant_id)
        await read_numbers(PeopleStore(self._stores.database, self._tenant_id), tenant)

    async def index(self) -> None:
        """Have the indexes that the configuration wants, and no others of their kind."""
        await index_json(self._stores.database, wanted=self._policy.index_json)

    async def _forget_outlived(self, now: datetime) -> None:
        tenant = await self._stores.tenants.get(self._tenant_id)
        kept = self._policy.retention if tenant.retention is None else tenant.retention
        if kept is not None and kept != FOR_EVER:
            await forget_messages(self._stores.database, self._tenant_id, now - kept)
        await drop_empty_months(self._stores.database, now)
        if self._policy.raw_retention is not None:
            await forget_payloads(self._stores.database, self._tenant_id, now - self._policy.raw_retention)
