"""Batches: what many ask of the store at once becomes one call; it knows no statement and keeps nothing.

One call at a time and no timer: whatever has gathered while the last one was under way is the next. A call
alone costs what it costs; when there are many, so does each of them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from storage.errors import StorageError, StoreUnavailable

_LARGEST = 200

A = TypeVar("A")
R = TypeVar("R")


class NotInCompany(StorageError):
    """Stands in the place of one result: it has to be asked for alone, so that the others need not wait for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry(Generic[A, R]):
    item: A
    key: Hashable
    result: asyncio.Future[R]


class Batch(Generic[A, R]):
    """`call` takes many items and returns a result for each, in their order, or raises for all.

    It has no two items of one `key` at a time; those come in the order in which they were asked for. Without a
    key any may come together. What
    fails in company, but for a store that is away, is tried again alone: by raising, all of it; by a
    NotInCompany in a result's place, that one.
    """

    def __init__(
        self,
        call: Callable[[Sequence[A]], Awaitable[Sequence[R | NotInCompany]]],
        key: Callable[[A], Hashable] | None = None,
    ) -> None:
        self._call = call
        self._key = key or (lambda _: object())
        self._waiting: deque[_Entry[A, R]] = deque()
        self._busy: set[Hashable] = set()
        self._flusher: asyncio.Task[None] | None = None
        self._alone: set[asyncio.Task[None]] = set()

    async def ask(self, item: A) -> R:
        """Part of the next call. A caller who is cancelled does not take back what is under way."""
        result: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Entry(item=item, key=self._key(item), result=result))
        self._wake()
        return await result

    def _wake(self) -> None:
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush())

    async def _flush(self) -> None:
        try:
            while entries := self._next():
                await self._do(entries)
        finally:
            # No await between the last look and here, or what was asked for meanwhile would wait for ever.
            self._flusher = None

    def _next(self) -> list[_Entry[A, R]]:
        taken: list[_Entry[A, R]] = []
        later: deque[_Entry[A, R]] = deque()
        keys = set(self._busy)
        while self._waiting and len(taken) < _LARGEST:
            entry = self._waiting.popleft()
            if entry.result.done():  # whoever asked has gone
                continue
            (later if entry.key in keys else taken).append(entry)
            keys.add(entry.key)
        self._waiting.extendleft(reversed(later))
        return taken

    async def _do(self, entries: list[_Entry[A, R]]) -> None:
        is_alone = len(entries) == 1
        try:
            results = await self._call([entry.item for entry in entries])
            pairs = list(zip(entries, results, strict=True))
        except Exception as exc:  # noqa: BLE001  it is handed to whoever asked
            if is_alone or isinstance(exc, StoreUnavailable):
                for entry in entries:
                    _settle(entry.result, exc)
            else:
                self._do_alone(entries)
            return
        for entry, result in pairs:
            if is_alone or not isinstance(result, NotInCompany):
                _settle(entry.result, result)
        self._do_alone([e for e, result in pairs if not is_alone and isinstance(result, NotInCompany)])

    def _do_alone(self, entries: Sequence[_Entry[A, R]]) -> None:
        for entry in entries:
            self._busy.add(entry.key)
            self._alone.add(task := asyncio.create_task(self._do([entry])))
            task.add_done_callback(partial(self._done_alone, entry.key))

    def _done_alone(self, key: Hashable, task: asyncio.Task[None]) -> None:
        self._alone.discard(task)
        self._busy.discard(key)
        if self._waiting:
            self._wake()


def _settle(future: asyncio.Future[R], result: R | Exception) -> None:
    if future.done():  # whoever asked has gone
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
