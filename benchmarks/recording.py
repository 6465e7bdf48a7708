"""Recording through the inbox, against one INSERT of one row and against six statements a message."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

from benchmarks.daemons import config, number
from benchmarks.plain import busy
from benchmarks.slices import Contestant
from bot.clock import SystemClock
from bot.inbox import Inbox
from bot.marks import Mark
from bot.roles import phone_jid
from bot.wiring import seed
from storage.database import Database
from storage.errors import StoreUnavailable
from storage.messages import MessageStore
from storage.models import (
    Address,
    Arrival,
    Author,
    ExternalId,
    InboundMessage,
    Merge,
    Recorded,
    StatusChange,
)
from storage.outbox import OutboxStore
from storage.tenants import TenantStore

_CHATS = 200
_ids = itertools.count()


class _Waiting:
    """Tells each writer that its message is recorded."""

    def __init__(self) -> None:
        self.futures: dict[ExternalId, asyncio.Future[None]] = {}

    def recorded(self, recorded: Recorded, mark: Mark | None) -> None:
        if not recorded.is_new:
            raise AssertionError("a new message was taken for a repeat")
        self.futures.pop(recorded.arrival.event.external_id).set_result(None)

    def quarantined(self, arrival: Arrival, mark: Mark | None) -> None:
        raise AssertionError("a message of the benchmark was refused")

    def merged(self, merge: Merge) -> None:
        raise AssertionError("two chats of the benchmark were taken for one")

    def receipts(self, changes: Sequence[StatusChange]) -> None:
        pass

    def store_failed(self, trouble: StoreUnavailable) -> None:
        raise AssertionError("the store does not take messages") from trouble

    def store_works(self, seconds: float) -> None:
        pass


@asynccontextmanager
async def recorders(database: Database, count: int, seconds: float) -> AsyncIterator[Contestant]:
    """So many messages at once on their way through the inbox."""
    tenants, clock = TenantStore(database), SystemClock()
    [tenant] = await seed(config(), tenants, clock)
    [account] = await tenants.accounts(tenant.tenant_id)
    waiting = _Waiting()
    messages = MessageStore(database)
    inbox = Inbox(account, messages, OutboxStore(database, account), clock, waiting)
    address = [Address(jid=phone_jid(number(chat))) for chat in range(_CHATS)]
    template = InboundMessage(
        external_id=ExternalId(""),
        chat=address[0],
        sender=address[0],
        sent_at=datetime.now(UTC),
        text="how much is it?",
    )

    def arrival(chat: Address) -> Arrival:
        event = replace(
            template,
            external_id=ExternalId(f"R{next(_ids)}"),
            chat=chat,
            sender=chat,
            sent_at=datetime.now(UTC),
        )
        return Arrival(event=event, author=Author.CUSTOMER)

    async def record(_: int, index: int) -> None:
        one = arrival(address[index % _CHATS])
        future = waiting.futures[one.event.external_id] = asyncio.get_running_loop().create_future()
        inbox.put(one)
        await future

    # Who writes is known already: a customer's first message is another matter.
    for chat in address:
        await messages.identify(account, chat, clock.now())
    flusher = asyncio.create_task(inbox.run())
    try:
        yield lambda: busy(count, seconds, record)
    finally:
        flusher.cancel()
        await asyncio.gather(flusher, return_exceptions=True)
