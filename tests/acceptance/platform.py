"""The other end of a piped daemon: its platform, who writes to it, what it has sent, and what its port tells."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from signal import Signals
from typing import Any, NamedTuple

import httpx2

from storage.models import Status
from tests.acceptance.conversation import CONFIG, Shop
from tests.acceptance.invariants import assert_all_is_well, outbox_by_status, recorded_ids
from tests.acceptance.program import DEADLINE_SECONDS, Finished, Program, started
from tests.conftest import connected, until

# A real clock ticks here: nobody has to look human.
QUICK = f"""{CONFIG}
pace: {{debounce: 0s, typing: false, per_account: null}}
"""
OPEN = "SELECT count(*) FROM sidestep.decisions WHERE action_taken IS NULL"


class Said(NamedTuple):
    """A send that has started."""

    chat: str
    text: str


@dataclass
class Process:
    """A daemon, and what the platform has seen of it."""

    program: Program
    port: int
    said: list[Said] = field(default_factory=list)
    is_connected: bool = False
    reading: asyncio.Task[None] = field(init=False)

    def __post_init__(self) -> None:
        self.reading = asyncio.create_task(self.read())

    async def read(self) -> None:
        """Hear what it tells its platform, to its end."""
        async for line in self.program.lines():
            told = json.loads(line)
            if "connected" in told:
                self.is_connected = told["connected"]
            else:
                self.said.append(Said(told["chat"], told["sent"]))
        self.is_connected = False

    async def ends(self, number: Signals, seconds: float = DEADLINE_SECONDS) -> Finished:
        """Its end by this signal, when all that it has told is heard."""
        self.program.signal(number)
        async with asyncio.timeout(seconds):
            await self.reading
            return await self.program.finished()

    @property
    def sent(self) -> list[str]:
        """The chats of what it has begun to send, in order."""
        return [said.chat for said in self.said]

    async def connects(self) -> None:
        await eventually(lambda: self.is_connected)

    async def disconnects(self) -> None:
        await eventually(lambda: not self.is_connected)

    async def page(self, path: str, method: str = "GET") -> httpx2.Response:
        """What its port answers; it has to, whatever else goes wrong."""
        async with httpx2.AsyncClient(trust_env=False, timeout=DEADLINE_SECONDS) as client:
            return await client.request(method, f"http://127.0.0.1:{self.port}{path}")

    async def readiness(self) -> dict[str, Any]:
        told: dict[str, Any] = (await self.page("/readyz")).json()
        return told

    async def is_ready(self) -> bool:
        """As of its last look, a quarter of a second ago at most."""
        return bool((await self.readiness())["ready"])

    def hear(self, *lines: bytes) -> None:
        """People write; what comes in one call comes together."""
        self.program.write(b"".join(lines))


@dataclass
class Platform:
    """Keeps what its customers write until a daemon has recorded it, and gives it to whoever is connected."""

    shop: Shop
    waiting: dict[str, str] = field(default_factory=dict)

    def write(self, *numbers: int) -> None:
        """Each of these customers writes once."""
        self.waiting |= {f"M{n}": number(n) for n in numbers}

    def deliver(self, process: Process) -> None:
        process.hear(*(customer(chat, message_id) for message_id, chat in self.waiting.items()))

    async def forget_recorded(self) -> None:
        recorded = await recorded_ids(self.shop.dsn)
        self.waiting = {i: chat for i, chat in self.waiting.items() if i not in recorded}


def number(customer: int) -> str:
    return f"+55119777700{customer:03}"


def customer(chat: str, message_id: str, text: str = "price") -> bytes:
    """What a customer writes."""
    return _line(id=message_id, chat=chat, text=text)


def owner(chat: str, message_id: str, text: str = "I am here") -> bytes:
    """What the owner writes in a customer's chat."""
    return _line(id=message_id, chat=chat, text=text, **{"from": "owner"})


def _line(**keys: str) -> bytes:
    return json.dumps(keys).encode() + b"\n"


@asynccontextmanager
async def process(shop: Shop, *, dsn: str = "", **variables: str) -> AsyncIterator[Process]:
    """A daemon on the shop's configuration and database, that may be standing by. `dsn`: its own login there."""
    arguments = (dsn or shop.dsn, shop.folder / "config.yaml")
    piped = started(*arguments, cwd=shop.folder, variables=variables, module="tests.acceptance.piped")
    async with piped as program:
        made = Process(program, (await program.logged("http_listening"))["port"])
        try:
            yield made
        finally:
            made.reading.cancel()
            await asyncio.gather(made.reading, return_exceptions=True)


async def eventually(condition: Callable[[], bool]) -> None:
    async def holds() -> bool:
        return condition()

    await until(holds)


async def all_is_recorded(shop: Shop, ids: Iterable[str]) -> None:
    """Wait until each of these messages of customers is in the store."""
    wanted = set(ids)

    async def are_recorded() -> bool:
        return wanted <= set(await recorded_ids(shop.dsn))

    await until(are_recorded)


async def all_is_answered(shop: Shop) -> None:
    """Wait until whatever is recorded is decided, and nothing is queued or half sent."""

    async def at_rest() -> bool:
        async with connected(shop.dsn) as connection:
            is_decided = await connection.fetchval(OPEN) == 0
        statuses = await outbox_by_status(shop.dsn)
        return is_decided and not {Status.QUEUED, Status.SENDING} & set(statuses)

    await until(at_rest)


async def assert_each_was_answered_once(shop: Shop, customers: int, *processes: Process) -> None:
    """At rest, of so many customers who have asked once each: by the database, and by what the platform has seen."""
    await assert_all_is_well(shop.dsn)
    sent = Counter(chat for each in processes for chat in each.sent)
    assert [chat for chat, times in sent.items() if times > 1] == []
    statuses = await outbox_by_status(shop.dsn)
    assert sum(statuses.values()) == customers
    # Of these the platform may have one more than it has said: it was killed before it could write down which.
    assert len(sent) + statuses.get(Status.UNKNOWN, 0) >= customers
