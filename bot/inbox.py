"""The inbox: what arrives is recorded before anything acts on it, many messages per commit; it decides nothing.

One flusher, no timer: whatever has gathered while the last commit was under way is the next batch.
While the store cannot be written, the batch is kept and tried again; what PostgreSQL will never take
goes to quarantine alone, and the rest of its batch is recorded.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby, islice
from time import monotonic
from typing import Protocol

import structlog

from bot.clock import Clock
from bot.crashpoints import Point, passing
from bot.marks import Mark
from storage.errors import StoreUnavailable
from storage.messages import BadArrival, MessageStore
from storage.models import Account, Arrival, ChatNamed, Merge, MessageType, Receipt, Recorded, StatusChange
from storage.outbox import BadReceipt, OutboxStore

log = structlog.get_logger(__name__)

_LARGEST_BATCH = 200
# Each id of a receipt is locked until its commit, and a server has room for some thousands of locks. Besides, a commit
# that takes a second would look like a store that is lost.
_MOST_IDS = 200
_RETRY_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Something to be recorded, with the mark that its arrival put up."""

    item: Arrival | Receipt | ChatNamed
    mark: Mark | None = None
    put_at: float = 0.0


Sift = Callable[[Sequence[Arrival]], Awaitable[Sequence[Arrival]]]
"""The same arrivals as they are to be recorded, one for one; may ask the store, and raise StoreUnavailable."""


async def as_they_are(arrivals: Sequence[Arrival]) -> Sequence[Arrival]:
    """Nothing is sifted out."""
    return arrivals


class Recipient(Protocol):
    """Whom the inbox tells, synchronously, once a commit is done."""

    def merged(self, merge: Merge) -> None: ...

    def recorded(self, recorded: Recorded, mark: Mark | None) -> None: ...

    def quarantined(self, arrival: Arrival, mark: Mark | None) -> None: ...

    def receipts(self, changes: Sequence[StatusChange]) -> None: ...

    def store_failed(self, trouble: StoreUnavailable) -> None: ...

    def store_works(self, seconds: float) -> None: ...


class Inbox:
    """One account's way into the store."""

    def __init__(
        self,
        account: Account,
        messages: MessageStore,
        outbox: OutboxStore,
        clock: Clock,
        recipient: Recipient,
        sift: Sift = as_they_are,
    ) -> None:
        self._account = account
        self._messages = messages
        self._outbox = outbox
        self._clock = clock
        self._recipient = recipient
        self._sift = sift
        self._said: deque[Entry] = deque()
        self._receipts: deque[Entry] = deque()
        self._stored_at = 0.0
        self._trouble: str | None = None
        self._filled = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    def put(self, item: Arrival | Receipt | ChatNamed, mark: Mark | None = None) -> None:
        """Take something in, at once and in order."""
        self._clock.work.begin()
        queue = self._receipts if isinstance(item, Receipt) else self._said
        queue.append(Entry(item=item, mark=mark, put_at=monotonic()))
        self._empty.clear()
        self._filled.set()

    def __len__(self) -> int:
        return len(self._said) + len(self._receipts)

    @property
    def stuck_seconds(self) -> float:
        """How long nothing has been recorded although something waits; 0.0 while nothing does."""
        return monotonic() - max(self._oldest()[0].put_at, self._stored_at) if len(self) else 0.0

    async def drained(self) -> None:
        """Wait until all that was put is recorded."""
        await self._empty.wait()

    async def run(self) -> None:
        """Flush until cancelled; what is still queued then has not been recorded."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while len(self):
                queue = self._oldest()
                entries = _batch(queue)
                await self._until_stored(entries)
                for _ in entries:
                    queue.popleft()
                    self._clock.work.end()
            self._empty.set()

    def _oldest(self) -> deque[Entry]:
        # Receipts have a queue of their own: they do not part the messages before and after them into two commits.
        return min((q for q in (self._said, self._receipts) if q), key=lambda q: q[0].put_at)

    async def _until_stored(self, entries: Sequence[Entry]) -> None:
        while True:
            try:
                await self._store(entries)
            except StoreUnavailable as exc:
                self._tell(exc)
                self._recipient.store_failed(exc)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                self._stored_at, self._trouble = monotonic(), None
                self._recipient.store_works(self._stored_at - entries[0].put_at)
                return

    def _tell(self, trouble: StoreUnavailable) -> None:
        # Once for each kind of it: five lines a second would fill a disk that is full already.
        if trouble.kind != self._trouble:
            self._trouble = trouble.kind
            log.warning("store_unavailable", waiting=len(self), error=str(trouble))

    async def _store(self, entries: Sequence[Entry]) -> None:
        arrivals = [e.item for e in entries if isinstance(e.item, Arrival)]
        if not arrivals:
            await self._store_receipts([e.item for e in entries if isinstance(e.item, Receipt)])
            await self._store_names([e.item for e in entries if isinstance(e.item, ChatNamed)])
            return
        try:
            sifted = await self._sift(arrivals)
            recorded, merges = await self._messages.record(self._account, sifted, self._clock.now())
        except StoreUnavailable:
            raise
        except Exception as exc:  # noqa: BLE001  whatever is wrong with one message must not stop the others
            await self._sort_out(entries, exc)
            return
        passing(Point.RECORDED)
        for merge in merges:
            self._recipient.merged(merge)
        for entry, one in zip(entries, recorded, strict=True):
            self._recipient.recorded(one, entry.mark)

    async def _sort_out(self, entries: Sequence[Entry], error: Exception) -> None:
        """Find the bad one by recording each alone; it is kept whole in quarantine."""
        if len(entries) > 1:
            for entry in entries:
                await self._until_stored([entry])
            return
        arrival = entries[0].item
        assert isinstance(arrival, Arrival)  # noqa: S101  only arrivals are recorded
        # An error that nobody has foreseen is a mistake of ours: its place is worth knowing.
        unforeseen = None if isinstance(error, BadArrival) else error
        reason = str(error) if isinstance(error, BadArrival) else f"{type(error).__name__}: {error}"
        await self._put_aside(arrival, reason)
        log.error("message_quarantined", error=type(error.__cause__ or error).__name__, exc_info=unforeseen)
        self._recipient.quarantined(arrival, entries[0].mark)

    async def _put_aside(self, arrival: Arrival, reason: str) -> None:
        try:
            await self._messages.quarantine(self._account, arrival.event, reason, self._clock.now())
        except StoreUnavailable:
            raise
        except Exception as exc:
            # It is not the message: a disk over its quota, or turned read-only, has no error of its own.
            raise StoreUnavailable(f"nothing can be written: {type(exc).__name__}") from exc

    async def _store_receipts(self, receipts: list[Receipt]) -> None:
        for together in _together(chain.from_iterable(map(_parts, receipts))):
            await asyncio.gather(*map(self._store_receipt, together))
            self._stored_at = monotonic()

    async def _store_receipt(self, receipt: Receipt) -> None:
        try:
            changes = await self._outbox.receive(receipt, self._clock.now())
        except BadReceipt as exc:
            log.error("receipt_dropped", error=type(exc.__cause__ or exc).__name__)
        else:
            passing(Point.RECEIVED)
            self._recipient.receipts(changes)

    async def _store_names(self, named: list[ChatNamed]) -> None:
        for one in named:
            await self._messages.name_chat(self._account, one, self._clock.now())


def _batch(queue: Iterable[Entry]) -> list[Entry]:
    # They stay queued until they are stored, so that the count of what waits is always true. A name comes after the
    # message that has made its group known.
    _, run = next(groupby(islice(queue, _LARGEST_BATCH), key=_kind))
    return list(run)


def _kind(entry: Entry) -> tuple[type, bool]:
    """What may share a commit. What could not be opened must be there before it comes again, which may be at once."""
    item = entry.item
    return type(item), isinstance(item, Arrival) and item.event.type is MessageType.UNDECRYPTABLE


def _together(receipts: Iterable[Receipt]) -> Iterator[list[Receipt]]:
    """As many at a time as a commit can hold."""
    group: list[Receipt] = []
    for receipt in receipts:
        if group and sum(len(r.external_ids) for r in (*group, receipt)) > _MOST_IDS:
            yield group
            group = []
        group.append(receipt)
    if group:
        yield group


def _parts(receipt: Receipt) -> Iterator[Receipt]:
    """The receipt, cut into ones that a commit can hold."""
    ids = receipt.external_ids
    for first in range(0, len(ids), _MOST_IDS):
        yield replace(receipt, external_ids=ids[first : first + _MOST_IDS])
