"""Holding on while the store is away: what must be written is tried again until it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from storage.errors import StoreUnavailable

_RETRY_SECONDS = 0.2

T = TypeVar("T")


async def until_stored(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call that changes the same thing however often it is made, until the store takes it."""
    while True:
        try:
            return await call()
        except StoreUnavailable:
            # The machine's time, not the daemon's: a virtual clock does not make a server come back.
            await asyncio.sleep(_RETRY_SECONDS)
