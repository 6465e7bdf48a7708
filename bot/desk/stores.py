"""The stores that the path of one account needs, in one hand; it asks them nothing."""

from __future__ import annotations

from dataclasses import dataclass

from bot.reader import StoreReader
from storage.automatic import AutomaticStore
from storage.database import Database
from storage.messages import MessageStore
from storage.outbox import OutboxStore
from storage.sessions import SessionStore
from storage.tenants import TenantStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """One account's, but for the database and the tenants."""

    database: Database
    tenants: TenantStore
    messages: MessageStore
    sessions: SessionStore
    outbox: OutboxStore
    automatic: AutomaticStore
    reader: StoreReader
