"""Holding on while the store is away: what must be written is tried again until it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeVar

from storage.errors import StoreUnavailable

_RETRY_SECONDS = 0.2

T = TypeVar("T")

# Since when each call of this process fails that is tried again now, and how it did last.
_held: dict[object, tuple[float, StoreUnavailable]] = {}


async def until_stored(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call that changes the same thing however often it is made, until the store takes it."""
    key = object()
    try:
        while True:
            try:
                return await call()
            except StoreUnavailable as exc:
                since, _ = _held.get(key, (monotonic(), None))
                _held[key] = (since, exc)
                # The machine's time, not the daemon's: a virtual clock does not make a server come back.
                await asyncio.sleep(_RETRY_SECONDS)
    finally:
        _held.pop(key, None)


def held_for(seconds: float) -> StoreUnavailable | None:
    """Why the call that has failed longest does, if it has for so long."""
    since, trouble = min(_held.values(), key=lambda held: held[0], default=(monotonic(), None))
    return trouble if monotonic() - since >= seconds else None
