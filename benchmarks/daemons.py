"""The whole daemon over the memory transport, and fifty customers whose phones answer for themselves."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import perf_counter

from benchmarks.plain import busy
from benchmarks.slices import Slice
from bot.clock import SystemClock
from bot.config import Config
from bot.events import Decided, Event, Events, Said, StatusMoved
from bot.roles import phone_jid
from bot.simulation import Line, Simulation, simulated
from bot.transports.memory import MemoryTransport
from storage.database import Database
from storage.models import Action, Address, ExternalId, Jid, Receipt, Status

# Each word has an answer of its own, so that the order of answers shows.
WORDS = ("alpha", "bravo", "charlie", "delta", "echo")
CONNECTIONS = 12  # as in `sidestep run`

_ids = itertools.count()


def config(*, debounce: str = "0s") -> Config:
    """A shop with a keyword flow, without pacing, and with patience for customers who are quick and say the same."""
    return Config.model_validate(
        {
            "tenants": [{"instance_name": "shop", "owner": "+5511999990000", "auto_resume_after": "2h"}],
            "flows": {"keywords": [{"match": [word], "answer": f"answer {word}"} for word in WORDS]},
            "answer": {"loop_rounds": None, "loop_repeats": None, "same_answer": "never"},
            "pace": {
                "debounce": debounce,
                "typing": False,
                "per_chat": None,
                "per_account": None,
                "daily": None,
            },
        }
    )


def number(chat: int) -> str:
    """The chat's customer."""
    return f"+551198{chat:07d}"


class Customers:
    """Everybody who writes to one daemon; each phone says `delivered` as soon as it has a reply."""

    def __init__(self, simulation: Simulation, events: Events, clock: SystemClock) -> None:
        self._simulation = simulation
        self._clock = clock
        self._delivered: dict[Jid, asyncio.Future[None]] = {}
        self._said_at: dict[Jid, float] = {}
        self._chats: dict[int, Jid] = {}
        self.decisions: Counter[Action] = Counter()
        events.listen(self._hear)

    @property
    def transport(self) -> MemoryTransport:
        return self._simulation.transport

    async def converse(self, chats: int, seconds: float) -> Slice:
        """All write at once, each the next message once the last one's answer has arrived; until the time is up.

        A message's latency is from its arrival to its answer's way out. Raises when one is not answered.
        """
        waits: list[float] = []

        async def message(chat: int, _: int) -> None:
            jid = phone_jid(number(chat))
            self._delivered[jid] = asyncio.get_running_loop().create_future()
            begun = perf_counter()
            self.say(chat, WORDS[0])
            async with asyncio.timeout(60):
                await self._delivered[jid]
            waits.append(self._said_at[jid] - begun)

        self.transport.sent.clear()
        self.transport.started.clear()
        whole = await busy(chats, seconds, message)
        if len(self.transport.sent) != len(whole.latencies):
            raise AssertionError(f"{len(whole.latencies)} messages, {len(self.transport.sent)} answers")
        return Slice(seconds=whole.seconds, latencies=waits)

    def say(self, chat: int, text: str) -> None:
        line = Line(who="customer", text=text, external_id=ExternalId(f"C{next(_ids)}"), chat=number(chat))
        self.transport.arrive(self._simulation.message(line))

    async def burst(self, chats: int) -> Sequence[Sequence[str]]:
        """Each says all words at once; returns what each has got, once nothing is under way any more."""
        self.transport.sent.clear()
        self.decisions.clear()
        for chat in range(chats):
            for word in WORDS:
                self.say(chat, word)
        async with asyncio.timeout(300):
            await self._simulation.recorded()
            await self._clock.settle()
        got: dict[Jid, list[str]] = {phone_jid(number(chat)): [] for chat in range(chats)}
        for message in self.transport.sent:
            got[message.to].append(message.content.text)
        return list(got.values())

    def _hear(self, event: Event) -> None:
        match event:
            case Decided():
                self.decisions[event.action] += 1
            case Said():
                jid = event.due.to
                self._said_at[jid] = perf_counter()
                self._chats[event.due.chat_id] = jid
                self.transport.arrive(
                    Receipt(
                        chat=Address(jid=jid),
                        external_ids=(event.external_id,),
                        status=Status.DELIVERED,
                        at=self._clock.now(),
                    )
                )
            case StatusMoved(status=Status.DELIVERED):
                waiting = self._delivered.get(self._chats[event.chat_id])
                if waiting is not None and not waiting.done():
                    waiting.set_result(None)
            case StatusMoved():
                pass


@asynccontextmanager
async def customers(dsn: str, *, debounce: str = "0s") -> AsyncIterator[Customers]:
    """A daemon on this database, with its customers."""
    database = await Database.open(dsn, max_size=CONNECTIONS)
    try:
        clock, events = SystemClock(), Events()
        async with simulated(config(debounce=debounce), database, clock, events) as simulation:
            yield Customers(simulation, events, clock)
    finally:
        await database.close()
