"""How much memory the daemon takes: run as a process of its own, it prints its peak, and what it has loaded."""

from __future__ import annotations

import asyncio
import json
import resource
import sys

from benchmarks.daemons import customers
from bot import logs

SDKS = ("anthropic", "openai")


async def measure(dsn: str, chats: int, seconds: float) -> dict[str, object]:
    """A slice of conversations in this process."""
    async with customers(dsn) as people:
        done = await people.converse(chats, seconds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        # Linux counts in KiB, macOS in bytes.
        "peak_bytes": peak * (1 if sys.platform == "darwin" else 1024),
        "messages": len(done.latencies),
        "sdks": [name for name in SDKS if name in sys.modules],
    }


if __name__ == "__main__":
    logs.setup(level="info", format="json")
    print(json.dumps(asyncio.run(measure(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))))
