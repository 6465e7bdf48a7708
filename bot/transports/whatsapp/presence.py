"""What WhatsApp shows of us: two ticks, our name, "typing…"; failures here are of no consequence.

While a linked device is "online" the owner's phone gets no notifications. So we are online only to tell our
name and while we type, which customers see of nobody who is offline.
"""

import asyncio
from contextlib import suppress

import structlog

from bot.transports.base import NotConnected
from bot.transports.whatsapp import library
from bot.transports.whatsapp.ids import to_proto
from bot.transports.whatsapp.link import Link, Nameless
from storage.models import Jid

_log = structlog.get_logger(__name__)

_TYPING_SECONDS = 2.0
# The phone gives a new device its name when it gets round to it: mostly within seconds, but it may be off.
_NAME_PAUSES_SECONDS = (1, 2, 5, 15, 60, 300, 1800)


class Presence:
    """Of one account. What it tells WhatsApp it tells in turn, so that the last word holds."""

    def __init__(self) -> None:
        self._typing_to: set[Jid] = set()
        self._turn = asyncio.Lock()
        self._connects = 0

    async def announce(self, link: Link) -> None:
        """After each connect: two ticks at once, and our name as soon as we have one."""
        self._connects += 1
        this_connect = self._connects
        self._typing_to.clear()
        try:
            await link.acknowledge_deliveries()
            for pause in _NAME_PAUSES_SECONDS:
                with suppress(Nameless):
                    await self._tell_name(link)
                    return
                await asyncio.sleep(pause)
                if this_connect != self._connects:
                    return
            _log.info(
                "whatsapp_name_unknown",
                account=link.account,
                advice="open WhatsApp on the phone; the name shown may be old",
            )
        except NotConnected as exc:
            _log.info("whatsapp_presence_not_announced", account=link.account, reason=str(exc))

    async def show_typing(self, link: Link, to: Jid, typing: bool, *, sent_to: Jid) -> None:
        """`to` is whom the caller means, `sent_to` the address that WhatsApp is told."""
        proto = to_proto(library.load().protocol, sent_to)
        (self._typing_to.add if typing else self._typing_to.discard)(to)
        with suppress(NotConnected, TimeoutError):
            async with asyncio.timeout(_TYPING_SECONDS), self._turn:
                if typing:
                    with suppress(Nameless):
                        await link.be_seen(True)
                await link.show_typing(proto, typing)
                await self._leave(link)

    def is_typing(self, to: Jid) -> bool:
        return to in self._typing_to

    async def has_sent(self, link: Link, to: Jid) -> None:
        """A message ends "typing…" on the customer's phone by itself, and with it our reason to be online."""
        self._typing_to.discard(to)
        with suppress(NotConnected, TimeoutError):
            async with asyncio.timeout(_TYPING_SECONDS), self._turn:
                await self._leave(link)

    async def _tell_name(self, link: Link) -> None:
        async with self._turn:
            await link.be_seen(True)
            await self._leave(link)

    async def _leave(self, link: Link) -> None:
        if not self._typing_to:
            await link.be_seen(False)
