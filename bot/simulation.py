"""The whole daemon over the memory transport, with people who speak by call: behind `sidestep chat` and `demo`.

Phone numbers become addresses here, and what goes out comes back as plain lines.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from bot.clock import Clock
from bot.config import Config
from bot.daemon import Daemon
from bot.events import Events
from bot.roles import phone_jid
from bot.transports.base import PairingCode
from bot.transports.memory import MemoryTransport
from bot.wiring import wire
from storage.database import Database
from storage.leftovers import is_known
from storage.models import (
    GROUP_SERVER,
    PHONE_SERVER,
    Account,
    Address,
    ExternalId,
    InboundMessage,
    Jid,
    MessageType,
    Receipt,
    Status,
    Typing,
)

CUSTOMER = "+5511988880001"
"""Who writes when nobody is named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Something that a person says. `chat` is a number, or with `group` ignored; `sender` speaks in a group.

    `device` is the one of the owner's: 0 the phone.
    """

    who: str
    text: str
    external_id: ExternalId
    chat: str = CUSTOMER
    group: str | None = None
    sender: str | None = None
    name: str | None = None
    at: datetime | None = None
    type: MessageType = MessageType.TEXT
    mentions_me: bool = False
    reply_to: ExternalId | None = None
    device: int = 0


class _NobodyPairs:
    def show(self, account: Account, code: PairingCode) -> None:
        """The memory transport needs no phone."""


class Simulation:
    """One daemon with one account, and everybody's phones."""

    def __init__(
        self,
        config: Config,
        daemon: Daemon,
        transports: Sequence[MemoryTransport],
        clock: Clock,
        database: Database,
    ) -> None:
        self._clock = clock
        self._database = database
        self.daemon = daemon
        self._transports = transports
        self.owner = config.tenants[0].owner
        self.admins = config.tenants[0].admins

    @property
    def transport(self) -> MemoryTransport:
        """The account's, and since it was last taken up: each time it has a new one."""
        return self._transports[-1]

    async def say(self, line: Line) -> None:
        """Somebody writes; returns when it is recorded."""
        self.transport.arrive(self.message(line))
        await self.recorded()

    async def recorded(self) -> None:
        """Wait until all that has arrived is in the store."""
        for each in self.daemon.lines:
            await each.pipeline.inbox.drained()

    async def receipt(self, external_id: ExternalId, status: Status) -> None:
        """A customer's phone tells what became of a message of the bot."""
        sent = {m.external_id: m.to for m in self.transport.sent}
        chat = Address(jid=sent.get(external_id, phone_jid(CUSTOMER)))
        self.transport.arrive(
            Receipt(chat=chat, external_ids=(external_id,), status=status, at=self._clock.now())
        )
        await self.recorded()

    async def knows(self, external_id: ExternalId) -> bool:
        """Whether a message of this id was sent, in this run or in an earlier one on the same database."""
        if any(m.external_id == external_id for m in self.transport.sent):
            return True
        return await is_known(self._database, external_id)

    def type(self, chat: str, typing: bool) -> None:
        """A customer starts or stops composing."""
        self.transport.arrive(Typing(chat=Address(jid=phone_jid(chat)), typing=typing))

    def message(self, line: Line) -> InboundMessage:
        own = phone_jid(self.owner)
        chat = Jid(f"{line.group}@{GROUP_SERVER}") if line.group else phone_jid(line.chat)
        from_me = line.who == "owner"
        sender = own if from_me else phone_jid(line.sender or line.chat)
        return InboundMessage(
            external_id=line.external_id,
            chat=Address(jid=chat),
            sender=Address(jid=sender),
            sent_at=line.at or self._clock.now(),
            from_me=from_me,
            to_self=from_me and chat == own,
            is_group=line.group is not None,
            sender_device=line.device if from_me else 0,
            # The clock stands still between lines: only a time of its own makes one follow upon another.
            metadata={"typed": True} if from_me and line.at is None else {},
            push_name=line.name,
            type=line.type,
            text=line.text,
            mentions_me=line.mentions_me,
            reply_to=line.reply_to,
            reply_to_me=line.reply_to is not None
            and any(m.external_id == line.reply_to for m in self.transport.sent),
        )


def number_of(jid: Jid) -> str:
    """A phone address as people write it; a group's id as it is."""
    user, _, server = jid.partition("@")
    return f"+{user}" if server == PHONE_SERVER else user


@asynccontextmanager
async def simulated(
    config: Config, database: Database, clock: Clock, events: Events
) -> AsyncIterator[Simulation]:
    """A running daemon of the configuration's first tenant, over the memory transport."""
    transports: list[MemoryTransport] = []

    def make(account: Account) -> MemoryTransport:
        transports.append(MemoryTransport(clock.now, own=(phone_jid(config.tenants[0].owner),)))
        return transports[-1]

    first = config.model_copy(update={"tenants": config.tenants[:1]})
    async with wire(first, database, clock, make, _NobodyPairs(), events=events) as daemon, daemon.running():
        await asyncio.sleep(0)  # the transport connects with its task's first step
        # What a killed one has left is under way before anybody asks whether anything is.
        for line in daemon.lines:
            await line.pipeline.outbox.take_up()
        yield Simulation(config, daemon, transports, clock, database)
