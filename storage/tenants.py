"""Tenants and their accounts. config.yaml seeds them; what was changed here later is never overwritten."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from storage.database import Connection, Database
from storage.models import Account, AccountId, Channel, Jid, Tenant, TenantId

TENANT = """
SELECT tenant_id, instance_name, owner, admins, system_prompt, llm_provider, auto_resume_after, seed
  FROM sidestep.tenants WHERE instance_name = $1 FOR UPDATE
"""
ADD_TENANT = """
INSERT INTO sidestep.tenants
       (instance_name, owner, admins, system_prompt, llm_provider, auto_resume_after, seed, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8) ON CONFLICT (instance_name) DO NOTHING
"""
SET_TENANT = """
UPDATE sidestep.tenants
   SET owner = $2, admins = $3, system_prompt = $4, llm_provider = $5, auto_resume_after = $6, seed = $7,
       updated_at = $8
 WHERE tenant_id = $1
"""
RELOAD_TENANT = """
SELECT tenant_id, instance_name, owner, admins, system_prompt, llm_provider, auto_resume_after
  FROM sidestep.tenants WHERE tenant_id = $1
"""
ADD_ACCOUNT = """
INSERT INTO sidestep.accounts (tenant_id, name, channel, created_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant_id, name) DO NOTHING
"""
ACCOUNTS = """
SELECT tenant_id, account_id, name, channel, jid, lid FROM sidestep.accounts WHERE tenant_id = $1 ORDER BY account_id
"""
FIND_TENANT = """
SELECT tenant_id, instance_name, owner, admins, system_prompt, llm_provider, auto_resume_after
  FROM sidestep.tenants WHERE instance_name = $1
"""
SET_PAIRED = """
UPDATE sidestep.accounts SET jid = $3, lid = coalesce($4, lid), paired_at = $5
 WHERE tenant_id = $1 AND account_id = $2
"""
LOCK_ACCOUNT = "SELECT pg_try_advisory_lock(hashtextextended('sidestep.account', $1))"


class TenantStore:
    """Every tenant of the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

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

    async def get(self, tenant_id: TenantId) -> Tenant:
        """The tenant as it is now: prompts and times are read anew, so that a change in SQL is obeyed."""
        row = await self._database.fetchrow(RELOAD_TENANT, tenant_id)
        if row is None:
            raise LookupError(f"there is no tenant {tenant_id}")
        return _tenant(row)

    async def accounts(self, tenant_id: TenantId) -> Sequence[Account]:
        return [_account(r) for r in await self._database.fetch(ACCOUNTS, tenant_id)]

    async def find(self, instance_name: str) -> Tenant | None:
        """The tenant of this name; None when it has never been seeded."""
        row = await self._database.fetchrow(FIND_TENANT, instance_name)
        return None if row is None else _tenant(row)

    async def set_paired(self, account: Account, jid: Jid, lid: Jid | None, now: datetime) -> None:
        """A phone has linked this account."""
        await self._database.execute(SET_PAIRED, account.tenant_id, account.account_id, jid, lid, now)

    @staticmethod
    async def lock(connection: Connection, account: Account) -> bool:
        """Hold an account as long as this connection lives; False: another daemon holds it."""
        return bool(await connection.fetchval(LOCK_ACCOUNT, account.account_id))

    @staticmethod
    async def _add_account(connection: Connection, tenant_id: int, name: str, now: datetime) -> None:
        await connection.execute(ADD_ACCOUNT, tenant_id, name, Channel.WHATSAPP, now)


_KEYS = ("owner", "admins", "system_prompt", "llm_provider", "auto_resume_after")


def _seed(tenant: Tenant) -> dict[str, Any]:
    """What config.yaml may say of a tenant, as JSON: the interval in seconds."""
    after = tenant.auto_resume_after
    return {
        "owner": tenant.owner,
        "admins": list(tenant.admins),
        "system_prompt": tenant.system_prompt,
        "llm_provider": tenant.llm_provider,
        "auto_resume_after": None if after is None else after.total_seconds(),
    }


def _merge(
    stored: dict[str, Any], seeded: dict[str, Any], wanted: dict[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    merged, overruled = dict(stored), []
    for key in _KEYS:
        if stored[key] == seeded.get(key):
            merged[key] = wanted[key]
        elif stored[key] != wanted[key]:
            overruled.append(key)
    return merged, tuple(overruled)


def _columns(seed: dict[str, Any]) -> tuple[Any, ...]:
    after = seed["auto_resume_after"]
    return (
        seed["owner"],
        seed["admins"],
        seed["system_prompt"],
        seed["llm_provider"],
        None if after is None else timedelta(seconds=after),
    )


def _tenant(row: asyncpg.Record) -> Tenant:
    return Tenant(
        tenant_id=TenantId(row["tenant_id"]),
        instance_name=row["instance_name"],
        owner=row["owner"],
        admins=tuple(row["admins"]),
        system_prompt=row["system_prompt"],
        llm_provider=row["llm_provider"],
        auto_resume_after=row["auto_resume_after"],
    )


def _account(row: asyncpg.Record) -> Account:
    return Account(
        tenant_id=TenantId(row["tenant_id"]),
        account_id=AccountId(row["account_id"]),
        name=row["name"],
        channel=Channel(row["channel"]),
        jid=row["jid"],
        lid=row["lid"],
    )
