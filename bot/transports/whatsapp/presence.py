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
from bot.transports.whatsapp.link import Link
from storage.models import Jid

_log = structlog.get_logger(__name__)

_TYPING_SECONDS = 2.0


async def announce(link: Link) -> None:
    """After each connect. Without a push name, which the phone sends some time after pairing, only the ticks work."""
    try:
        await link.acknowledge_deliveries()
        await link.be_seen(True)
        await link.be_seen(False)
    except NotConnected as exc:
        _log.info("whatsapp_presence_not_announced", reason=str(exc))


class Presence:
    def __init__(self) -> None:
        self._composing: set[Jid] = set()

    async def show_typing(self, link: Link, to: Jid, typing: bool) -> None:
        proto = to_proto(library.load().protocol, to)
        (self._composing.add if typing else self._composing.discard)(to)
        with suppress(NotConnected, TimeoutError):
            async with asyncio.timeout(_TYPING_SECONDS):
                if typing:
                    with suppress(NotConnected):
                        await link.be_seen(True)
                await link.show_typing(proto, typing)
                if not self._composing:
                    await link.be_seen(False)
