"""Marks: which chats a human has just spoken in, known at once, before anything of it is stored.

The store's epoch is the durable fence; a mark closes the gap between a human's event being seen and
its commit, and the gap between a claim's commit and the start of its send.
"""

from __future__ import annotations

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
    """The marks of one account. Every method is synchronous: a mark takes effect between two steps of the loop."""

    def __init__(self) -> None:
        self._count = 0
        self._traces: dict[Jid, _Trace] = {}
        self._alts: dict[Jid, Jid] = {}

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
        self._count += 1
        for jid in jids:
            trace = self._traces.setdefault(jid, _Trace())
            trace.last = self._count
            trace.pending += 1
        mark = Mark(jids=jids, held=tuple(held))
        for each in mark.held:
            each.hold()
        return mark

    def settle(self, mark: Mark) -> None:
        """What the mark stood for is committed (or was nothing new): from here on the epoch tells."""
        for jid in mark.jids:
            self._traces[jid].pending -= 1
        for each in mark.held:
            each.release()
        if len(self._traces) > _KEPT:
            self._forget()

    def stamp(self) -> int:
        """Take this before a claim, to ask after it whether a human has spoken since."""
        return self._count

    def human_since(self, jids: Iterable[Jid], stamp: int) -> bool:
        """Whether a human spoke in the chat after the stamp, or before it without being committed yet."""
        named = set(jids)
        named.update(self._alts[jid] for jid in tuple(named) if jid in self._alts)
        traces = (self._traces.get(jid) for jid in named)
        return any(t is not None and (t.pending > 0 or t.last > stamp) for t in traces)

    def _forget(self) -> None:
        # Only ones far behind every claim that can still be open.
        horizon = self._count - _KEPT // 2
        self._traces = {j: t for j, t in self._traces.items() if t.pending or t.last > horizon}
