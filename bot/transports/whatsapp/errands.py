"""What is asked on the side, while events go on arriving: a person's other address, a group, what a vote says.

Nothing waits for the answers, and an errand that fails is dropped.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import structlog

from bot.transports.base import NotConnected
from bot.transports.whatsapp.ids import People, server_of
from bot.transports.whatsapp.link import Link
from storage.models import PHONE_SERVER, Jid

_log = structlog.get_logger(__name__)

_MOST_LOOKUPS = 50

T = TypeVar("T")


class Errands:
    """One account's errands, over the link that it has at the time."""

    def __init__(self, people: People) -> None:
        self._people = people
        self._link: Link | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._looking_up: set[Jid] = set()
        self._asked: set[Jid] = set()  # of whom WhatsApp was asked over this link

    def attend(self, link: Link | None) -> None:
        self._link = link
        self._asked.clear()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self._start(work)

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, NotConnected):
            _log.error("whatsapp_errand_failed", exc_info=error)

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    def confirm_connection(self, link: Link, then: Callable[[], None]) -> None:
        """Calls back if the library has a connection."""

        async def ask() -> None:
            if await link.is_there():
                then()

        self.run(ask())

    def look_up(self, jid: Jid) -> None:
        if self._link is None or jid in self._looking_up or len(self._looking_up) >= _MOST_LOOKUPS:
            return
        self._looking_up.add(jid)
        self.run(self._learn_other_form(jid, self._link))

    def describe(self, group: Jid, then: Callable[[Any], None]) -> None:
        """Calls back with what WhatsApp says of a group; asks for each only once over a link."""
        if self._link is None or group in self._asked:
            return
        self._asked.add(group)
        self.run(self._describe(group, self._link, then))

    async def _describe(self, group: Jid, link: Link, then: Callable[[Any], None]) -> None:
        described = await link.describe(group)
        if described is not None:
            then(described)

    def open_vote(self, event: Any, then: Callable[[Sequence[bytes] | None], None]) -> None:
        """Calls back in any case: what has arrived is recorded, whether it could be read or not."""
        if self._link is None:
            then(None)
            return

        def on_done(task: asyncio.Task[Sequence[bytes] | None]) -> None:
            opened = not task.cancelled() and task.exception() is None
            then(task.result() if opened else None)

        self._start(self._link.open_vote(event)).add_done_callback(on_done)

    async def _learn_other_form(self, jid: Jid, link: Link) -> None:
        try:
            with suppress(NotConnected):
                other = await link.other_form(jid)
                if other is None and server_of(jid) == PHONE_SERVER and jid not in self._asked:
                    self._asked.add(jid)
                    other = await link.ask_for_lid(jid)
                if other is not None:
                    self._people.pair(jid, other)
        finally:
            self._looking_up.discard(jid)
