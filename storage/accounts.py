"""The accounts as their owner keeps them: listed, added, given up, and taken to another database; nothing is sent.

A WhatsApp session lives once. On its way to another database it stands in `departure`, out of everybody's reach,
from before it is anywhere else until it is there; so a move that breaks off has lost nothing and is repeated.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from storage.database import Connection, Database
from storage.errors import StorageError
from storage.models import Account, AccountId, Channel, Jid, TenantId
from storage.rows import account_of

LIST_ACCOUNTS = """
SELECT t.instance_name, a.tenant_id, a.account_id, a.name, a.channel, a.jid, a.lid, a.paired_at,
       a.departure IS NOT NULL AS is_departing, a.moved_to, sidestep.session_device(a.jid) IS NOT NULL AS has_session
  FROM sidestep.accounts a JOIN sidestep.tenants t USING (tenant_id)
 WHERE a.removed_at IS NULL ORDER BY a.tenant_id, a.account_id
"""
NAME_IN_USE = "SELECT EXISTS (SELECT FROM sidestep.accounts WHERE name = $1 AND removed_at IS NULL)"
ADD_OR_RETURN = """
INSERT INTO sidestep.accounts (tenant_id, name, channel, created_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant_id, name) DO UPDATE SET removed_at = NULL RETURNING account_id
"""
REMOVE = "UPDATE sidestep.accounts SET removed_at = $3 WHERE tenant_id = $1 AND account_id = $2"
SESSION_DEVICE = "SELECT sidestep.session_device($1)"
DROP_SESSION = "SELECT sidestep.drop_session($1)"
FORGET = """
UPDATE sidestep.accounts SET jid = NULL, lid = NULL, paired_at = NULL, departure = NULL, moved_to = $3
 WHERE tenant_id = $1 AND account_id = $2
"""
DEPART = """
UPDATE sidestep.accounts
   SET departure = jsonb_build_object('move', $3::text, 'to', $4::text, 'jid', jid, 'lid', lid, 'paired_at', paired_at,
                                      'session', sidestep.pack_session($5))
 WHERE tenant_id = $1 AND account_id = $2 AND departure IS NULL
"""
DEPARTURE = "SELECT departure FROM sidestep.accounts WHERE tenant_id = $1 AND account_id = $2"
HAS_ARRIVED = """
SELECT arrival IS NOT DISTINCT FROM $3 FROM sidestep.accounts WHERE tenant_id = $1 AND account_id = $2 FOR UPDATE
"""
TAKEN = """
SELECT sidestep.session_device($3) IS NOT NULL OR EXISTS (
       SELECT FROM sidestep.accounts WHERE jid = $3 AND (tenant_id, account_id) <> ($1, $2))
"""
ARRIVE = """
UPDATE sidestep.accounts
   SET jid = $4::jsonb ->> 'jid', lid = $4::jsonb ->> 'lid', arrival = $3, moved_to = NULL,
       paired_at = ($4::jsonb ->> 'paired_at')::timestamptz
 WHERE tenant_id = $1 AND account_id = $2
"""
UNPACK = "SELECT sidestep.unpack_session($1::jsonb -> 'session')"


class AccountRefused(StorageError):
    """What was asked of an account cannot be done; nothing has changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountOverview:
    """An account and what is known of its link. `has_session`: it can connect without being paired."""

    account: Account
    tenant: str
    paired_at: datetime | None
    has_session: bool


class AccountStore:
    """All accounts of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self) -> Sequence[AccountOverview]:
        return [
            AccountOverview(
                account=account_of(row),
                tenant=row["instance_name"],
                paired_at=row["paired_at"],
                has_session=row["has_session"],
            )
            for row in await self._database.fetch(LIST_ACCOUNTS)
        ]

    async def add(self, tenant_id: TenantId, name: str, now: datetime) -> Account:
        """A new account, or one that was removed, with all its messages. Raises AccountRefused: names are unique."""
        async with self._database.transaction() as connection:
            if await connection.fetchval(NAME_IN_USE, name):
                raise AccountRefused(f"there is an account {name!r} already: give this one another name")
            account_id = await connection.fetchval(ADD_OR_RETURN, tenant_id, name, Channel.WHATSAPP, now)
        return Account(tenant_id=tenant_id, account_id=AccountId(account_id), name=name)

    async def remove(self, account: Account, now: datetime) -> None:
        """It is not listed and not served any more; its messages stay."""
        await self._database.execute(REMOVE, account.tenant_id, account.account_id, now)

    async def session_device(self, jid: Jid | None) -> str | None:
        """The device of this number whose session is in this database."""
        device: str | None = await self._database.fetchval(SESSION_DEVICE, jid)
        return device

    async def forget(self, account: Account, *, moved_to: str | None = None) -> None:
        """The account is as if it had never been paired, or has moved; WhatsApp is not told."""
        async with self._database.transaction() as connection:
            device = await connection.fetchval(SESSION_DEVICE, account.jid)
            await connection.execute(DROP_SESSION, device)
            await connection.execute(FORGET, account.tenant_id, account.account_id, moved_to)

    async def depart(self, account: Account, to: str) -> dict[str, Any]:
        """Take the session out of use. Returns what `arrive` takes, the same at every call until `forget`.

        `to` is the place of the one database where it may arrive. Raises AccountRefused.
        """
        key = (account.tenant_id, account.account_id)
        async with self._database.transaction() as connection:
            device = await connection.fetchval(SESSION_DEVICE, account.jid)
            if device is not None:
                await connection.execute(DEPART, *key, secrets.token_hex(16), to, device)
                await connection.execute(DROP_SESSION, device)
            departure: dict[str, Any] | None = await connection.fetchval(DEPARTURE, *key)
        if departure is None:
            where = f"has moved to {account.moved_to}" if account.moved_to else "is not linked"
            raise AccountRefused(f"the account {account.name!r} {where}: there is nothing to move")
        if departure["to"] != to:
            raise AccountRefused(
                f"the account {account.name!r} is on its way to {departure['to']}, and may have arrived there: repeat "
                f"the move to that database, or give the link up with sidestep account unlink {account.name} --force"
            )
        return departure

    async def require_room(self, account: Account, jid: Jid) -> None:
        """Raises AccountRefused when this number or this account is linked here already."""
        async with self._database.acquire() as connection:
            await self._require_room(connection, account, jid)

    async def arrive(self, account: Account, departure: dict[str, Any]) -> None:
        """Put the session into use here, once. Raises AccountRefused."""
        key, move = (account.tenant_id, account.account_id), departure["move"]
        async with self._database.transaction() as connection:
            if await connection.fetchval(HAS_ARRIVED, *key, move):
                return
            await self._require_room(connection, account, Jid(departure["jid"]))
            await connection.execute(UNPACK, departure)
            await connection.execute(ARRIVE, *key, move, departure)

    async def _require_room(self, connection: Connection, account: Account, jid: Jid) -> None:
        """A copy of the account, as a restored backup has it, leaves room: it knows the number, and has no session."""
        place = self._database.address.place
        if account.jid not in (None, jid):
            raise AccountRefused(
                f"the account {account.name!r} of {place} is linked already: unlink it there first"
            )
        if await connection.fetchval(TAKEN, account.tenant_id, account.account_id, jid):
            raise AccountRefused(f"{place} has a session of this number already: unlink it there first")
