"""Finds out whether WhatsApp is still there, once something speaks against it; it never starts a link by itself.

Quiet is not dead: a number may hear nothing for days. Only an unanswered keepalive, a send without an
acknowledgement, an error that the library does not know or a lost login raise the question, and only when
WhatsApp leaves it unanswered is the link given up.
"""

import asyncio
from contextlib import suppress

import structlog

from bot.transports.base import NotConnected
from bot.transports.whatsapp.link import Link
from bot.transports.whatsapp.patience import Patience
from bot.transports.whatsapp.state import State
from bot.transports.whatsapp.watch import Watch

_log = structlog.get_logger(__name__)

_NO_ACKNOWLEDGEMENT = "WhatsApp does not acknowledge what is sent"
_LOGIN_LOST = "the WhatsApp library has lost its login"


class Checkup:
    """Of one account, whose links come and go."""

    def __init__(self, account: str, state: State, patience: Patience) -> None:
        self._account = account
        self._state = state
        self._patience = patience
        self._link: Link | None = None
        self._watch: Watch | None = None
        self._asking: asyncio.Task[None] | None = None

    def attend(self, link: Link, watch: Watch) -> None:
        """From here on this is the account's link."""
        self._link, self._watch = link, watch

    def leave(self) -> None:
        self._link = self._watch = None
        if self._asking is not None:
            self._asking.cancel()

    def on_slow_send(self, link: Link) -> None:
        self.on_doubt(link, _NO_ACKNOWLEDGEMENT)

    def on_doubt(self, link: Link, reason: str) -> None:
        """Ask WhatsApp, unless it is being asked; meanwhile nothing more is sent."""
        if link is self._link and self._state.connection.can_send:
            self._state.show_doubt(reason)
            self._asking = asyncio.create_task(self._ask(link))

    async def keep_looking(self) -> None:
        """A reconnect within the library can fail without an event: after that nothing would ever be heard again."""
        while True:
            await asyncio.sleep(self._patience.look.total_seconds())
            self._state.look_for_phone()
            link = self._link
            if link is None or not self._state.connection.can_send:
                continue
            with suppress(NotConnected):
                if not (await link.is_logged_in() and await link.is_there()):
                    self.on_doubt(link, _LOGIN_LOST)

    async def _ask(self, link: Link) -> None:
        answered = await link.answers(within=self._patience.answer.total_seconds())
        _log.info("whatsapp_asked", account=self._account, answered=answered)
        if answered:
            # What is on its way holds up whatever comes after it; it has a time limit of its own.
            with suppress(NotConnected):
                await link.ready_to_send()
        if not self._state.is_connected:
            return  # an event has told more meanwhile
        if answered:
            self._state.end_doubt()
        elif self._watch is not None:
            self._watch.give_up()
