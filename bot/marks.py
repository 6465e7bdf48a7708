"""Marks: which chats a human has just spoken in, known at once, before anything of it is stored.

The store's epoch is the durable fence; a mark closes the gap between a human's event being seen and
its commit, and the gap between a claim's commit and the start of its send.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

from storage.models import Address, Jid

_KEPT = 100_000


@dataclass(slots=True)
class _Trace:
    last: int = 0
    pending: int = 0


class Held(Protocol):
    """What stops working while a mark stands, and goes on when it is settled."""

    def hold(self) -> None: ...

    def release(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One human message on its way to the store. `raised_at` is monotonic seconds."""

    jids: tuple[Jid, ...]
    held: tuple[Held, ...] = ()
    raised_at: float = field(default_factory=monotonic)


class HumanMarks:
    """The marks of one account. A mark takes effect between two steps of the loop: nothing about it awaits."""

    def __init__(self) -> None:
        self._count = 0
        self._traces: dict[Jid, _Trace] = {}
        self._alts: dict[Jid, Jid] = {}
        self._waiting: list[asyncio.Future[None]] = []

    def __len__(self) -> int:
        return len(self._traces)

    def learn(self, address: Address) -> None:
        """An event named a chat by both its forms: a mark on one counts for the other, before the store knows it."""
        if address.alt is not None:
            if len(self._alts) > _KEPT:
                self._alts.clear()
            self._alts[address.jid], self._alts[address.alt] = address.alt, address.jid

    def put(self, jids: tuple[Jid, ...], held: Iterable[Held] = ()) -> Mark:
        """A human has been seen speaking in the chat with these addresses; stops what is to be held."""
        for jid in jids:
            self._traces.setdefault(jid, _Trace()).pending += 1
        mark = Mark(jids=jids, held=tuple(held))
        for each in mark.held:
            each.hold()
        return mark

    def settle(self, mark: Mark) -> None:
        """What the mark stood for is committed (or was nothing new): from here on the epoch tells."""
        # A claim that was granted before the commit may be heard of after it, when the epoch does not tell: its stamp
        # may be younger than the mark, but not than this.
        self._count += 1
        for jid in mark.jids:
            self._traces[jid].last = self._count
        self.withdraw(mark)

    def withdraw(self, mark: Mark) -> None:
        """What the mark stood for was no human: all goes on as if nothing had been seen."""
        for jid in mark.jids:
            self._traces[jid].pending -= 1
        for each in mark.held:
            each.release()
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()
        if len(self._traces) > _KEPT:
            self._forget()

    async def settled(self, jids: Iterable[Jid]) -> bool:
        """Wait until it is known of all that was seen in a chat whether it was a human's word; False: nothing was."""
        named, has_waited = tuple(jids), False
        while any(trace.pending for trace in self._traces_of(named)):
            self._waiting.append(waiting := asyncio.get_running_loop().create_future())
            await waiting
            has_waited = True
        return has_waited

    def stamp(self) -> int:
        """Take this before a claim, to ask after it whether a human has spoken since."""
        return self._count

    def human_since(self, jids: Iterable[Jid], stamp: int) -> bool:
        """Whether a human spoke in the chat after the stamp, or before it without being committed yet."""
        return any(trace.pending > 0 or trace.last > stamp for trace in self._traces_of(jids))

    def _traces_of(self, jids: Iterable[Jid]) -> list[_Trace]:
        named = set(jids)
        named.update(self._alts[jid] for jid in tuple(named) if jid in self._alts)
        return [self._traces[jid] for jid in named if jid in self._traces]

    def _forget(self) -> None:
        # Only ones far behind every claim that can still be open.
        horizon = self._count - _KEPT // 2
        self._traces = {j: t for j, t in self._traces.items() if t.pending or t.last > horizon}
