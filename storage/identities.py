"""Who is behind an address: the one chat or contact of a person, a group or a group's sender; records no message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import asyncpg

from storage.database import Database
from storage.models import Account, AccountId, Address, ChatId, InboundMessage, Merge

_IDENTITIES_KEPT = 50_000


@dataclass(frozen=True, slots=True)
class _Party:
    """A chat, or a group's sender, as an event names it."""

    account_id: AccountId
    address: Address
    name: str | None
    kind: Literal["person", "group", "sender"]


IDENTIFY_CHAT = "SELECT chat_id, gone_chat_id FROM sidestep.identify_chat($1, $2, $3, $4, $5, $6, $7, $8)"
IDENTIFY = "SELECT chat_id, gone_chat_id FROM sidestep.identify($1, $2, $3, $4, $5, $6, $7, $8)"


class Identities:
    """Remembers which parties it has resolved, so that a known one costs no query."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._identified: set[_Party] = set()
        self._merges: list[Merge] = []

    def forget(self) -> None:
        """Somebody else may have merged or erased a chat: look each up again."""
        self._identified.clear()

    def take_merges(self) -> list[Merge]:
        """The merges that these look-ups have caused, each told once."""
        merges, self._merges = self._merges, []
        return merges

    async def identify(
        self,
        account: Account,
        address: Address,
        now: datetime,
        *,
        name: str | None = None,
        is_group: bool = False,
    ) -> ChatId:
        """The one chat behind an address, made, completed or merged as needed; `take_merges` tells of a merge."""
        row = await self._database.fetchrow(
            IDENTIFY_CHAT, account.tenant_id, account.account_id, account.channel,
            address.jid, address.alt, is_group, name, now,
        )  # fmt: skip
        assert row is not None  # noqa: S101  the function returns exactly one row
        self._merges += _merges([row])
        return ChatId(row["chat_id"])

    async def know(self, account: Account, events: Sequence[InboundMessage], now: datetime) -> None:
        """Make sure that every address of the events leads to its chat and contact."""
        named = dict.fromkeys(p for e in events for p in _parties(account, e))
        parties = [party for party in named if party not in self._identified]
        if not parties:
            return
        rows = await self._database.fetch(
            IDENTIFY, account.tenant_id, account.account_id, account.channel, [p.kind for p in parties],
            [p.address.jid for p in parties], [p.address.alt for p in parties], [p.name for p in parties], now,
        )  # fmt: skip
        self._merges += _merges(rows)
        if len(self._identified) + len(parties) > _IDENTITIES_KEPT:
            self._identified.clear()
        self._identified.update(parties)


def _parties(account: Account, event: InboundMessage) -> list[_Party]:
    # The push name of an event from our own side is the owner's, not the customer's; an old one may be outdated.
    name = None if event.from_me or event.is_history else event.push_name
    if not event.is_group:
        return [_Party(account.account_id, event.chat, name, "person")]
    parties = [_Party(account.account_id, event.chat, None, "group")]
    if not event.from_me:
        parties.append(_Party(account.account_id, event.sender, name, "sender"))
    return parties


def _merges(rows: Sequence[asyncpg.Record]) -> list[Merge]:
    return [
        Merge(keep=ChatId(row["chat_id"]), gone=ChatId(row["gone_chat_id"]))
        for row in rows
        if row["gone_chat_id"] is not None
    ]
