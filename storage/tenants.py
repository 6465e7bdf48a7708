"""Tenants and their accounts. config.yaml seeds them; what was changed here later is never overwritten."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import structlog

from storage.batch import Batch
from storage.database import Connection, Database
from storage.errors import NumberTaken
from storage.hours import Hours
from storage.models import Account, Channel, Jid, ResumeMode, Tenant, TenantId
from storage.notify import Notify
from storage.rows import account_of

log = structlog.get_logger(__name__)

TENANT = """
SELECT tenant_id, instance_name, owner, admins, system_prompt, llm_provider, auto_resume_after, timezone, hours,
       retention, notify, resume_mode, seed
  FROM sidestep.tenants WHERE instance_name = $1 FOR UPDATE
"""
ADD_TENANT = """
INSERT INTO sidestep.tenants
       (instance_name, owner, admins, system_prompt, llm_provider, auto_resume_after, timezone, hours,
        retention, notify, resume_mode, seed, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13) ON CONFLICT (instance_name) DO NOTHING
"""
SET_TENANT = """
UPDATE sidestep.tenants
   SET owner = $2, admins = $3, system_prompt = $4, llm_provider = $5, auto_resume_after = $6, timezone = $7,
       hours = $8, retention = $9, notify = $10, resume_mode = $11, seed = $12, updated_at = $13
 WHERE tenant_id = $1
"""
RELOAD_TENANTS = """
SELECT tenant_id, instance_name, owner, admins, system_prompt, llm_provider, auto_resume_after, timezone, hours,
       retention, notify, resume_mode
  FROM sidestep.tenants WHERE tenant_id = ANY ($1)
"""
ADD_ACCOUNT = """
INSERT INTO sidestep.accounts (tenant_id, name, channel, created_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant_id, name) DO NOTHING
"""
ACCOUNTS = """
SELECT tenant_id, account_id, name, channel, jid, lid, departure IS NOT NULL AS is_departing, moved_to
  FROM sidestep.accounts
 WHERE tenant_id = $1 AND channel = 'whatsapp' AND removed_at IS NULL ORDER BY account_id
"""
FIND_TENANT = """
SELECT tenant_id, instance_name, owner, admins, system_prompt, llm_provider, auto_resume_after, timezone, hours,
       retention, notify, resume_mode
  FROM sidestep.tenants WHERE instance_name = $1
"""
ONE_PAIRING_AT_A_TIME = "SELECT pg_advisory_xact_lock(hashtextextended('sidestep.pairing', 0))"
NAME_OF_TAKER = """
SELECT name FROM sidestep.accounts WHERE jid = $3 AND (tenant_id, account_id) <> ($1, $2) LIMIT 1
"""
SET_PAIRED = """
UPDATE sidestep.accounts SET jid = $3, lid = coalesce($4, lid), paired_at = $5, moved_to = NULL
 WHERE tenant_id = $1 AND account_id = $2
"""
ACCOUNT = """
SELECT tenant_id, account_id, name, channel, jid, lid, departure IS NOT NULL AS is_departing, moved_to
  FROM sidestep.accounts WHERE tenant_id = $1 AND account_id = $2
"""


class TenantStore:
    """Every tenant of the database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tenants = Batch(self._reload)

    async def seed(self, wanted: Tenant, now: datetime) -> tuple[Tenant, tuple[str, ...]]:
        """Add a tenant of config.yaml, or bring it up to date; `wanted.tenant_id` is ignored.

        A key that was changed in the database since config.yaml last said something else keeps the
        database's value. Returns the tenant as it is now, and the keys in which config.yaml was overruled.
        """
        seed = _seed(wanted)
        async with self._database.transaction() as connection:
            await connection.execute(ADD_TENANT, wanted.instance_name, *_columns(seed), seed, now)
            row = await connection.fetchrow(TENANT, wanted.instance_name)
            assert row is not None  # noqa: S101  inserted just above, or there before
            merged, overruled = _merge(_seed(_tenant(row)), row["seed"], seed)
            if (merged, seed) != (_seed(_tenant(row)), row["seed"]):
                await connection.execute(SET_TENANT, row["tenant_id"], *_columns(merged), seed, now)
            await self._add_account(connection, row["tenant_id"], wanted.instance_name, now)
        return await self.get(TenantId(row["tenant_id"])), overruled

    async def get(self, tenant_id: TenantId, connection: Connection | None = None) -> Tenant:
        """The tenant as it is now: prompts and times are read anew, so that a change in SQL is obeyed."""
        asked = self._tenants.ask(tenant_id) if connection is None else self._within(connection, tenant_id)
        tenant = await asked
        if tenant is None:
            raise LookupError(f"there is no tenant {tenant_id}")
        return tenant

    async def _within(self, connection: Connection, tenant_id: TenantId) -> Tenant | None:
        [tenant] = await self._reload([tenant_id], connection)
        return tenant

    async def _reload(
        self, tenant_ids: Sequence[TenantId], connection: Connection | None = None
    ) -> list[Tenant | None]:
        rows = await (connection or self._database).fetch(RELOAD_TENANTS, list(set(tenant_ids)))
        tenants = {row["tenant_id"]: _tenant(row) for row in rows}
        return [tenants.get(tenant_id) for tenant_id in tenant_ids]

    async def accounts(self, tenant_id: TenantId) -> Sequence[Account]:
        """The tenant's numbers on WhatsApp. An account of another channel is recorded for, and served by nobody."""
        return [account_of(r) for r in await self._database.fetch(ACCOUNTS, tenant_id)]

    async def account(self, account: Account) -> Account:
        """The account as it is now: it may have been linked anew since."""
        row = await self._database.fetchrow(ACCOUNT, account.tenant_id, account.account_id)
        assert row is not None  # noqa: S101  accounts are never deleted
        return account_of(row)

    async def find(self, instance_name: str) -> Tenant | None:
        """The tenant of this name; None when it has never been seeded."""
        row = await self._database.fetchrow(FIND_TENANT, instance_name)
        return None if row is None else _tenant(row)

    async def set_paired(self, account: Account, jid: Jid, lid: Jid | None, now: datetime) -> None:
        """A phone has linked this account. Raises NumberTaken when another account has this number."""
        async with self._database.transaction() as connection:
            await connection.execute(ONE_PAIRING_AT_A_TIME)
            await self._require_free(connection, account, jid)
            await connection.execute(SET_PAIRED, account.tenant_id, account.account_id, jid, lid, now)

    async def require_free(self, account: Account, jid: Jid) -> None:
        """Raises NumberTaken when another account has this number."""
        async with self._database.acquire() as connection:
            await self._require_free(connection, account, jid)

    @staticmethod
    async def _require_free(connection: Connection, account: Account, jid: Jid) -> None:
        taker = await connection.fetchval(NAME_OF_TAKER, account.tenant_id, account.account_id, jid)
        if taker is not None:
            raise NumberTaken(
                f"this number is linked already, as the account {taker!r}: two accounts cannot share one. "
                f"Use that one, or give it up first: sidestep account unlink {taker}"
            )

    @staticmethod
    async def _add_account(connection: Connection, tenant_id: int, name: str, now: datetime) -> None:
        await connection.execute(ADD_ACCOUNT, tenant_id, name, Channel.WHATSAPP, now)


_KEYS = (
    "owner",
    "admins",
    "system_prompt",
    "llm_provider",
    "auto_resume_after",
    "timezone",
    "hours",
    "retention",
    "notify",
    "resume_mode",
)
_ADDED = {"timezone": "UTC", "hours": None, "retention": None, "notify": Notify().as_json()}
"""What the columns that came later held for tenants that were seeded before."""


def _seed(tenant: Tenant) -> dict[str, Any]:
    """What config.yaml may say of a tenant, as JSON: intervals in seconds."""
    return {
        "owner": tenant.owner,
        "admins": list(tenant.admins),
        "system_prompt": tenant.system_prompt,
        "llm_provider": tenant.llm_provider,
        "auto_resume_after": _seconds(tenant.auto_resume_after),
        "timezone": tenant.timezone,
        "hours": tenant.hours.as_json() if tenant.hours else None,
        "retention": _seconds(tenant.retention),
        "notify": tenant.notify.as_json(),
        "resume_mode": tenant.resume_mode,
    }


def _merge(
    stored: dict[str, Any], seeded: dict[str, Any], wanted: dict[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    merged, overruled = dict(stored), []
    for key in _KEYS:
        if stored[key] == seeded.get(key, _ADDED.get(key)):
            merged[key] = wanted[key]
        elif stored[key] != wanted[key]:
            overruled.append(key)
    return merged, tuple(overruled)


def _columns(seed: dict[str, Any]) -> tuple[Any, ...]:
    return (
        seed["owner"],
        seed["admins"],
        seed["system_prompt"],
        seed["llm_provider"],
        _interval(seed["auto_resume_after"]),
        seed["timezone"],
        seed["hours"],
        _interval(seed["retention"]),
        seed["notify"],
        seed["resume_mode"],
    )


def _seconds(interval: timedelta | None) -> float | None:
    return None if interval is None else interval.total_seconds()


def _interval(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def _tenant(row: asyncpg.Record) -> Tenant:
    return Tenant(
        tenant_id=TenantId(row["tenant_id"]),
        instance_name=row["instance_name"],
        owner=row["owner"],
        admins=tuple(row["admins"]),
        system_prompt=row["system_prompt"],
        llm_provider=row["llm_provider"],
        auto_resume_after=row["auto_resume_after"],
        timezone=row["timezone"],
        hours=_hours(row["hours"]),
        retention=row["retention"],
        notify=_notify(row["notify"]),
        resume_mode=ResumeMode(row["resume_mode"]) if row["resume_mode"] else None,
    )


def _hours(told: dict[str, Any] | None) -> Hours | None:
    try:
        return Hours.read(told) if told else None
    except ValueError:
        # Written by SQL. A business that is open too long is better than one that answers nobody.
        log.warning("hours_unreadable", taken_for="always open")
        return None


def _notify(told: dict[str, Any]) -> Notify:
    try:
        return Notify.read(told)
    except ValueError:
        log.warning("notify_unreadable", taken_for="the defaults")
        return Notify()
