"""What goes wrong, at random: one trouble after the other, of every kind that the lab knows."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random

from bot.lab.lab import Lab
from tests.lab.soak.shop import Shop
from tests.lab.soak.traffic import Traffic

# Restarts belong to the middle of the run: before and after it, the daemon's memory is watched.
_RESTARTS_FROM, _RESTARTS_TO = 0.35, 0.6
_CONNECT_SECONDS = 90.0


class Trouble:
    """`counts` tells how often what went wrong."""

    def __init__(self, lab: Lab, shop: Shop, traffic: Traffic, random: Random) -> None:
        self.counts: Counter[str] = Counter()
        self._lab, self._shop, self._traffic, self._random = lab, shop, traffic, random
        self._faults: list[Callable[[], Awaitable[None]]] = [
            self._drop,
            self._outage,
            self._server_restart,
            self._held_acks,
            self._refused_sends,
            self._refused_connections,
            self._cut_logins,
            self._slow_network,
            self._black_hole,
            self._duplicates,
            self._reordered,
            self._lost_acks,
            self._told_of_the_past,
        ]

    async def run(self, seconds: float) -> None:
        began = time.monotonic()
        restarts = self._restarts(seconds)
        while (passed := time.monotonic() - began) < seconds - 15:
            if restarts and passed >= restarts[0]:
                restarts.pop(0)
                await self._restart()
            else:
                fault = self._random.choice(self._faults)
                self.counts[fault.__name__.lstrip("_")] += 1
                await fault()
            await asyncio.sleep(self._random.uniform(2, 12))

    def _restarts(self, seconds: float) -> list[float]:
        number = max(2, round(seconds / 240))
        spread = (_RESTARTS_TO - _RESTARTS_FROM) / number
        return [seconds * (_RESTARTS_FROM + i * spread) for i in range(number)]

    async def _restart(self) -> None:
        done = self.counts["restart_by_sigterm"] + self.counts["restart_by_kill_9"]
        number = signal.SIGKILL if done % 2 == 0 else signal.SIGTERM
        self.counts["restart_by_kill_9" if number is signal.SIGKILL else "restart_by_sigterm"] += 1
        # In the middle of a rush, so that it catches as much as it can.
        rush = asyncio.create_task(self._traffic.rush())
        await asyncio.sleep(self._random.uniform(0, 0.3))
        await self._shop.end(number)
        await rush
        await asyncio.sleep(self._random.uniform(0, 3))
        await self._shop.start()
        await self._shop.wait_until_connected(_CONNECT_SECONDS)

    async def _drop(self) -> None:
        await self._lab.drop()

    async def _outage(self) -> None:
        async with self._lab.outage():
            await asyncio.sleep(self._random.uniform(1, 12))

    async def _server_restart(self) -> None:
        owner = self._random.choice(list(self._shop.owners.values()))
        for device in owner.linked:
            self._lab.close_stream(device, code="503")

    async def _held_acks(self) -> None:
        with self._lab.hold_acks():
            await asyncio.sleep(self._random.uniform(0.5, 4))

    async def _refused_sends(self) -> None:
        unlucky = self._random.choice(self._traffic.customers)
        with self._lab.refuse_sends(self._random.choice((463, 479)), to=unlucky):
            await asyncio.sleep(self._random.uniform(3, 8))

    async def _refused_connections(self) -> None:
        self._lab.refuse_connections(self._random.randint(1, 15))
        await self._lab.drop()

    async def _cut_logins(self) -> None:
        with self._lab.cut_after_login(times=self._random.randint(1, 15)):
            await self._lab.drop()
            await asyncio.sleep(self._random.uniform(2, 6))

    async def _slow_network(self) -> None:
        latency, rate = self._random.uniform(0.05, 0.6), self._random.uniform(8_000, 60_000)
        with self._lab.slow_network(latency=latency, bytes_per_second=rate):
            await self._lab.drop()
            await asyncio.sleep(self._random.uniform(5, 20))
        await self._lab.drop()

    async def _black_hole(self) -> None:
        """What was said meanwhile is lost on the way, and comes again with the next connection."""
        with self._lab.silence():
            await asyncio.sleep(self._random.uniform(2, 10))
        await self._lab.drop()

    async def _duplicates(self) -> None:
        with self._lab.duplicates():
            await asyncio.sleep(self._random.uniform(1, 6))

    async def _reordered(self) -> None:
        with self._traffic.without_order(), self._lab.reorders():
            await asyncio.sleep(self._random.uniform(0.2, 1.5))

    async def _lost_acks(self) -> None:
        """All of it comes again."""
        with self._lab.loses_acks():
            await asyncio.sleep(self._random.uniform(1, 4))
        await self._lab.drop()

    async def _told_of_the_past(self) -> None:
        """All that a phone has seen: of what is known, nothing may be recorded or answered again."""
        name = self._random.choice(list(self._shop.owners))
        with suppress(ConnectionError):
            await self._shop.owners[name].syncs_history(self._shop.devices[name])
