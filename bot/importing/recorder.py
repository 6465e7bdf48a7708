"""Records what a file tells, many messages a commit, each once; wakes nothing and asks nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from bot.importing.items import Item, Tally
from bot.importing.matching import match
from storage.errors import StoreUnavailable
from storage.imported import Conversation, PastMessage
from storage.imports import ImportStore
from storage.messages import BadArrival
from storage.models import Account, ExternalId, Jid, MessageId, MessageType

BATCH = 500
_MOST = 2 * BATCH  # a batch ends where a minute does, unless there is no end to it
_ATTEMPTS = 5
_NAMES_KEPT = 10_000


class Complaints(Protocol):
    """Who is told what is not recorded: the number of its line or in its batch, and why."""

    def add(self, line: int, reason: str, /) -> None: ...


After = Callable[[Sequence[tuple[Item, ExternalId]]], Awaitable[None]]
"""Told of the messages with a file once they are recorded, each with the id under which it is."""


class Recorder:
    """One conversation's messages, in the order of their file. `dry` records nothing, and counts all the same."""

    def __init__(
        self,
        store: ImportStore,
        account: Account,
        conversation: Conversation,
        now: Callable[[], datetime],
        *,
        problems: Complaints,
        tally: Tally,
        dry: bool = False,
        after: After | None = None,
    ) -> None:
        self._store = store
        self._account = account
        self._conversation = conversation
        self._now = now
        self._problems = problems
        self._tally = tally
        self._dry = dry
        self._after = after
        self._batch: list[Item] = []
        self._taken: set[MessageId] = set()
        self._named: dict[Jid, str] = {}

    async def add(self, item: Item) -> None:
        """Take a message in; it is recorded with those around it."""
        if len(self._batch) >= BATCH and (
            _minute_of(item) != _minute_of(self._batch[-1]) or len(self._batch) >= _MOST
        ):
            await self.flush()
        self._batch.append(item)

    async def flush(self) -> None:
        """Record what is waiting."""
        batch, self._batch = self._batch, []
        if not batch:
            return
        items, known = await self._unmatched(batch)
        if self._dry:
            ids = [item.message.event.external_id for item in items]
            self._count(
                items, len(items) - len(await self._store.known(self._account, self._conversation, ids))
            )
            return
        await self._record(items)
        await self._name(batch)
        recorded = [*((item, item.message.event.external_id) for item in items), *known]
        with_files = [(item, external_id) for item, external_id in recorded if item.file is not None]
        if with_files and self._after is not None:
            await self._after(with_files)

    async def _unmatched(self, batch: list[Item]) -> tuple[list[Item], list[tuple[Item, ExternalId]]]:
        """What is to be recorded, and what is so under another id; what has changed since becomes that change."""
        made = [item.message.event.sent_at for item in batch if item.is_made]
        if not made:
            return batch, []
        nearby = await self._store.nearby(
            self._account,
            self._conversation,
            min(made),
            max(made),
            ours=any(item.is_changed for item in batch),
        )
        if not nearby:
            return batch, []
        self._taken &= {row.id for row in nearby}
        found = match(batch, nearby, self._taken)
        self._tally.known += len(found.same)
        items, known = [], []
        for number, item in enumerate(batch):
            same, target = found.same.get(number), found.changes.get(number)
            if same is not None:
                known += [(item, same.external_id)] if same.external_id is not None else []
            elif target is None:
                items.append(item)
            elif target.external_id is not None and not (item.is_deleted and target.is_deleted):
                self._tally.changed += 1
                items.append(_as_change(item, target.external_id))
            else:
                self._tally.known += 1
        return items, known

    async def _record(self, items: Sequence[Item]) -> None:
        if not items:
            return
        try:
            new = await self._until_stored([item.message for item in items])
        except BadArrival as exc:
            if len(items) > 1:
                middle = len(items) // 2
                await self._record(items[:middle])
                await self._record(items[middle:])
                return
            self._problems.add(
                items[0].line, f"the database refuses it ({type(exc.__cause__ or exc).__name__})"
            )
            return
        self._count(items, new)

    def _count(self, items: Sequence[Item], new: int) -> None:
        # A change that is here already has been paired with what it changed: those that are left are new.
        changes = sum(item.is_changed and item.message.event.reply_to is not None for item in items)
        self._tally.new += max(0, new - changes)
        self._tally.known += len(items) - max(new, changes)

    async def _until_stored(self, messages: Sequence[PastMessage]) -> int:
        for attempt in range(_ATTEMPTS):
            try:
                return await self._store.record(self._account, self._conversation, messages, self._now())
            except StoreUnavailable:
                # A daemon that records in the same chat is served first.
                if attempt == _ATTEMPTS - 1:
                    raise
                await asyncio.sleep(0.2 * 2**attempt)
        raise AssertionError  # pragma: no cover

    async def _name(self, batch: Sequence[Item]) -> None:
        """Give people the names that the file has for them, where they have none."""
        names = {
            item.message.event.sender.jid: item.sender_name
            for item in batch
            if item.sender_name and not item.message.event.from_me
        }
        new = {jid: name for jid, name in names.items() if self._named.get(jid) != name}
        if new:
            await self._store.name_contacts(self._account, new, self._now())
            # Of the latest only: there may be more people than memory.
            self._named = (self._named if len(self._named) < _NAMES_KEPT else {}) | new


def _as_change(item: Item, target: ExternalId) -> Item:
    """The present state of a message that is recorded as it was before."""
    event = item.message.event
    kind = MessageType.REVOKE if item.is_deleted else MessageType.EDIT
    changed = replace(
        event, type=kind, reply_to=target, external_id=ExternalId(f"{event.external_id}-{kind}")
    )
    return replace(item, message=replace(item.message, event=changed), file=None)


def _minute_of(item: Item) -> tuple[int, ...]:
    return item.message.event.sent_at.timetuple()[:5]
