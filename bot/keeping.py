"""What is heard while an account is being linked is kept: recorded as ever, and answered by the daemon that runs next.

A phone begins to tell of the past as soon as it has linked a device, and customers do not wait either; what
WhatsApp has delivered once it never delivers again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bot.classify import classify
from bot.clock import Clock
from bot.inbox import Inbox
from bot.marks import Mark
from bot.metrics import Metrics
from bot.past import Past
from bot.policy import Policy
from bot.roles import Roles
from bot.transports.base import Deliver, History, TransportEvent
from storage.errors import StoreUnavailable
from storage.messages import MessageStore
from storage.models import (
    Account,
    Arrival,
    InboundMessage,
    Merge,
    Receipt,
    Recorded,
    StatusChange,
    Tenant,
    Unopened,
)
from storage.outbox import OutboxStore


class Keeper:
    """Nothing is recorded before `record`: only then is it sure whose account it is."""

    def __init__(
        self,
        account: Account,
        tenant: Tenant,
        messages: MessageStore,
        outbox: OutboxStore,
        clock: Clock,
        policy: Policy,
    ) -> None:
        self._roles, self._policy = Roles(tenant), policy
        self._heard: list[InboundMessage | Unopened | History | Receipt] = []
        self._inbox = Inbox(account, messages, outbox, clock, self)
        self._past = Past(account, messages, self._inbox, clock, Metrics(), self._classify, self.merged)

    def beside(self, deliver: Deliver) -> Deliver:
        """Passes everything on, and remembers what is to be recorded."""

        def hear(event: TransportEvent) -> None:
            deliver(event)
            if isinstance(event, InboundMessage | Unopened | History | Receipt):
                self._heard.append(event)

        return hear

    async def record(self) -> None:
        """Returns when all that was heard is recorded."""
        rooms = [asyncio.create_task(self._inbox.run()), asyncio.create_task(self._past.run())]
        for event in self._heard:
            match event:
                case InboundMessage():
                    self._inbox.put(self._classify(event))
                case Unopened():
                    self._inbox.put(self._classify(event.message))
                case Receipt():
                    self._inbox.put(event)
                case History():
                    self._past.put(event)
        await self._inbox.drained()
        await self._past.recorded()
        for room in rooms:
            room.cancel()
        await asyncio.gather(*rooms, return_exceptions=True)

    def _classify(self, event: InboundMessage) -> Arrival:
        self._roles.learn(event.sender)
        return classify(event, self._roles, self._policy)

    # -- what the inbox tells: there is nobody to act on it yet --

    def merged(self, merge: Merge) -> None: ...

    def recorded(self, recorded: Recorded, mark: Mark | None) -> None: ...

    def quarantined(self, arrival: Arrival, mark: Mark | None) -> None: ...

    def receipts(self, changes: Sequence[StatusChange]) -> None: ...

    def store_failed(self, trouble: StoreUnavailable) -> None: ...

    def store_works(self, seconds: float) -> None: ...
