"""Links that have been left: heard for a while longer, then given up; they are never connected again.

What the library has opened at the moment of a disconnection it cannot open twice, so WhatsApp's repeating it is of no
use. On its way to us it may be held up by a store that answers slowly, which is one of the reasons for leaving. And a
link that is left while it connects may still do so, and take what has waited for us, before the library comes to stop
it.
"""

import asyncio

from bot.transports.whatsapp.link import Link

_LATE_SECONDS = 15.0


class Departures:
    def __init__(self) -> None:
        self._left: set[asyncio.Task[None]] = set()

    def add(self, link: Link) -> None:
        self._left.add(task := asyncio.create_task(self._see_off(link)))
        task.add_done_callback(self._left.discard)

    async def end(self) -> None:
        """Gives all up at once: nobody hears any more."""
        if left := list(self._left):
            # A task that is cancelled before its first step would close nothing.
            await asyncio.sleep(0)
            for task in left:
                task.cancel()
            await asyncio.wait(left)

    async def _see_off(self, link: Link) -> None:
        try:
            await asyncio.sleep(_LATE_SECONDS)
        finally:
            await link.close()
            link.stop_hearing()
