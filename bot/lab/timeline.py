"""A list that can be waited on: what happened so far, and what a test expects next; it makes nothing happen."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from bot.lab.errors import Unheard

T = TypeVar("T")

PATIENCE = 60.0  # seconds; a test that is right waits for milliseconds, on a machine that is not busy

# Of what came instead, a reader wants the end, and no upload of eight hundred keys.
_SHOWN, _WIDEST = 20, 500


class Timeline(list[T]):
    """Everything that happened, in order. `expect` hands out each item once, so a story can wait line by line."""

    def __init__(self) -> None:
        super().__init__()
        self._taken: set[int] = set()
        self._waiters: set[asyncio.Future[None]] = set()

    def note(self, item: T) -> None:
        self.append(item)
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def expect(
        self,
        matches: Callable[[T], bool] = lambda item: True,
        *,
        within: float = PATIENCE,
        what: str = "this",
    ) -> T:
        """The first matching item not handed out yet; Unheard if none comes within so many seconds."""
        try:
            async with asyncio.timeout(within):
                while (found := self._next(matches)) is None:
                    await self._change()
        except TimeoutError as exc:
            raise Unheard(f"{what} did not come within {within} s; what came: {self._latest()}") from exc
        self._taken.add(found)
        return self[found]

    async def expect_none(self, matches: Callable[[T], bool] = lambda item: True, *, during: float) -> None:
        """AssertionError if a matching item comes that was not handed out before."""
        try:
            item = await self.expect(matches, within=during)
        except Unheard:
            return
        raise AssertionError(f"nothing was to come, but this did: {item!r}")

    def _next(self, matches: Callable[[T], bool]) -> int | None:
        return next((i for i, item in enumerate(self) if i not in self._taken and matches(item)), None)

    def _latest(self) -> str:
        items = [repr(item) for item in self[-_SHOWN:]]
        cut = (item if len(item) <= _WIDEST else f"{item[:_WIDEST]}…" for item in items)
        return f"{'… ' if len(self) > _SHOWN else ''}[{', '.join(cut)}]"

    async def _change(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)
