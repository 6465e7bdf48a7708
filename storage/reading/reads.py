"""Everything that can be asked about one tenant's messages, in one place; each question's room has its own module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from storage.database import Database
from storage.models import TenantId
from storage.reading.chats import ChatReads
from storage.reading.messages import MessageReads
from storage.reading.search import SearchReads
from storage.reading.source import Replica, ReplicaFirst, Source
from storage.reading.stats import StatsReads


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """`messages` are read from the database, so that they hold what was written a moment ago; lists of chats, search
    and statistics from its replica, where there is one."""

    messages: MessageReads
    chats: ChatReads
    search: SearchReads
    stats: StatsReads

    @classmethod
    def of(cls, database: Database, tenant_id: TenantId, replica: Replica | None = None) -> Self:
        heavy: Source = database if replica is None else ReplicaFirst(replica, database)
        return cls(
            messages=MessageReads(database, tenant_id),
            chats=ChatReads(heavy, tenant_id),
            search=SearchReads(heavy, tenant_id),
            stats=StatsReads(heavy, tenant_id),
        )
