"""Busy chats whose owner walks in at random moments: how soon the bot has stepped aside, and what it says then."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from time import perf_counter

from benchmarks.daemons import CONNECTIONS, WORDS, config, number
from bot.clock import SystemClock
from bot.events import Decided, Event, Events
from bot.roles import phone_jid
from bot.simulation import Line, Simulation, simulated
from storage.database import Database
from storage.models import Action, ExternalId
from storage.sessions import SessionStore
from storage.tenants import TenantStore

_ids = itertools.count()


@dataclass(slots=True)
class Races:
    """What came of them. `seconds`: from the owner's line, as it is seen, to the commit of its pause, one a race.

    `late` counts the bot's sends that began after that line and before it was called back; `caught` the races in which
    the answer had not begun to leave when the owner came.
    """

    seconds: list[float] = field(default_factory=list)
    late: int = 0
    caught: int = 0

    @property
    def count(self) -> int:
        return len(self.seconds)

    def milliseconds(self, percent: int) -> float:
        """What so many percent of the races do not exceed."""
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(self.count * percent // 100, self.count - 1)]


class Shop:
    """One daemon, its customers, and its owner."""

    def __init__(
        self,
        simulation: Simulation,
        sessions: SessionStore,
        database: Database,
        clock: SystemClock,
        events: Events,
    ) -> None:
        self._simulation = simulation
        self._sessions = sessions
        self._database = database
        self._clock = clock
        self._deciding: dict[ExternalId, asyncio.Future[Decided]] = {}
        self._random = Random(1)  # noqa: S311  no secret
        self._longest = 0.0
        events.listen(self._hear)

    async def meet(self, chats: int) -> None:
        """Everybody asks for the first time, all at once; how long the last one waits is how long an answer takes."""
        began = perf_counter()
        for decided in [self._write("customer", chat, WORDS[0]) for chat in range(chats)]:
            await decided
        await self._clock.settle()
        self._longest = perf_counter() - began

    async def race(self, chats: int, races: int, *, lag: float) -> Races:
        """So many races, in all chats at once; the platform takes `lag` seconds to acknowledge a send."""
        self._simulation.transport.lag = lag
        done = Races()
        turns = iter(range(races))

        async def customer(chat: int) -> None:
            for _ in turns:
                await self._race(chat, done, lag)

        async with asyncio.TaskGroup() as group:
            for chat in range(chats):
                group.create_task(customer(chat))
        return done

    async def _race(self, chat: int, done: Races, lag: float) -> None:
        started, jid = self._simulation.transport.started, phone_jid(number(chat))
        asked_at = len(started)
        asked = self._write("customer", chat, WORDS[0])
        await asyncio.sleep(self._random.random() * (self._longest + lag))
        seen_at, seen = len(started), perf_counter()
        human = await self._write("owner", chat, "I am here")
        done.seconds.append(perf_counter() - seen)
        ignored = await self._write("customer", chat, WORDS[1])
        await asked
        if (human.action, ignored.action) != (Action.PAUSED, Action.IGNORED_PAUSED):
            raise AssertionError(f"the owner: {human.action}; the customer after that: {ignored.action}")
        done.caught += all(message.to != jid for message in started[asked_at:seen_at])
        done.late += sum(message.to == jid for message in started[seen_at:])
        now = self._clock.now()
        async with self._database.transaction() as connection:
            await self._sessions.resume(connection, ignored.chat_id, ignored.message_id, now, now)

    def _write(self, who: str, chat: int, text: str) -> asyncio.Future[Decided]:
        """Somebody writes now; what is decided about it."""
        line = Line(who=who, text=text, external_id=ExternalId(f"R{next(_ids)}"), chat=number(chat))
        self._deciding[line.external_id] = decided = asyncio.get_running_loop().create_future()
        self._simulation.transport.arrive(self._simulation.message(line))
        return decided

    def _hear(self, event: Event) -> None:
        if isinstance(event, Decided) and event.external_id in self._deciding:
            self._deciding.pop(event.external_id).set_result(event)


@asynccontextmanager
async def shop(dsn: str) -> AsyncIterator[Shop]:
    """A daemon on this database, with its owner."""
    database = await Database.open(dsn, max_size=CONNECTIONS)
    try:
        clock, events = SystemClock(), Events()
        async with simulated(config(), database, clock, events) as simulation:
            tenant = await TenantStore(database).find("shop")
            assert tenant is not None
            yield Shop(simulation, SessionStore(database, tenant), database, clock, events)
    finally:
        await database.close()
