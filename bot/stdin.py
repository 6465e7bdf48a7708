"""Reads standard input without holding anybody up: a line at a terminal may never come, and the exit must not wait."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator

_CHUNK_BYTES = 1 << 16


async def lines(longest: int) -> AsyncIterator[bytes]:
    """Each line without its end. Of one that is longer than so many bytes, a part that is longer, and no rest."""
    held, dropping = b"", False
    while some := await _read():
        *complete, held = (held + some).split(b"\n")
        for line in complete:
            if not dropping:
                yield line
            dropping = False
        if len(held) > longest:
            if not dropping:
                yield held
            held, dropping = b"", True
    if held and not dropping:
        yield held


async def _read() -> bytes:
    """What there is; empty at the end, or where there is no input at all."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[bytes] = loop.create_future()

    def give(some: bytes) -> None:
        if not result.done():
            result.set_result(some)

    def work() -> None:
        try:
            # Not sys.stdin, which the interpreter wants to lock when it ends, and gives up the process over it.
            some = os.read(0, _CHUNK_BYTES)
        except OSError:
            some = b""
        # The loop may be closed by now: nobody waits any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(give, some)

    # Not one of asyncio's own threads, which are joined at the exit.
    threading.Thread(target=work, daemon=True, name="stdin").start()
    return await result
