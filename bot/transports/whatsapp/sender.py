"""Makes a reply into a WhatsApp message and sends it over a link; decides neither whether nor when."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bot.transports.base import Content, NotConnected, SendRefused, SendUnconfirmed, Sent
from bot.transports.whatsapp import library, media, outcome
from bot.transports.whatsapp.convert import moment
from bot.transports.whatsapp.ids import to_proto
from bot.transports.whatsapp.link import Link
from storage.models import ExternalId, Jid

# whatsmeow gives up after 75 seconds. But what it has sent again after a drop it awaits for ever, and every
# later send of the account waits behind it.
LONGEST_SEND = timedelta(seconds=80)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A message that is ready to go out; what it shows has been uploaded."""

    message: Any


class Sender:
    """`on_stuck` is told of a link whose send does not come back: only another link helps."""

    def __init__(
        self, clock: Callable[[], datetime], longest_send: timedelta, on_stuck: Callable[[Link], None]
    ) -> None:
        self._clock = clock
        self._longest_send = longest_send
        self._on_stuck = on_stuck

    async def prepare(self, content: Content, link: Link | None) -> Prepared:
        if content.media_url is None:
            prepared = _text(content.text)
        elif link is None:
            raise NotConnected("media can only be uploaded while WhatsApp is connected")
        else:
            found = await media.fetch(content)
            prepared = Prepared(message=await media.build(library.load(), found, content.text, link.upload))
        if link is not None:
            await link.sent_all()
        return prepared

    async def send(self, link: Link, to: Jid, prepared: object) -> Sent:
        # Up to `link.send`, which hands the call over, nothing here awaits: who has just looked whether the
        # human is speaking must not find out that the send began later.
        message = _message_of(prepared)
        if link.sending:
            raise NotConnected("an earlier send is still on its way")
        neonize = library.load()
        watchdog = asyncio.get_running_loop().call_later(
            self._longest_send.total_seconds(), self._look_after, link, link.sends + 1
        )
        try:
            response = await link.send(to_proto(neonize.protocol, to), message)
        except neonize.errors.NeonizeError as exc:
            raise outcome.of_send(str(exc)) from exc
        except NotConnected:
            raise
        except Exception as exc:
            raise SendUnconfirmed("WhatsApp's answer could not be read") from exc
        finally:
            # A cancelled caller leaves its send on the way, and the watchdog with it.
            if not link.sending:
                watchdog.cancel()
        return self._sent(response)

    def _sent(self, response: Any) -> Sent:
        if not response.ID:
            raise SendUnconfirmed("WhatsApp's answer names no message")
        now = self._clock()
        at = moment(response.Timestamp, per_second=1, now=now) if response.Timestamp > 0 else now
        return Sent(external_id=ExternalId(response.ID), at=at)

    def _look_after(self, link: Link, number: int) -> None:
        if link.sending and link.sends == number:
            self._on_stuck(link)


def _message_of(prepared: object) -> Any:
    if isinstance(prepared, Content) and prepared.media_url is None:
        return _text(prepared.text).message
    if isinstance(prepared, Prepared):
        return prepared.message
    raise TypeError("media must be prepared before they can be sent")


def _text(text: str) -> Prepared:
    if not text:
        raise SendRefused("there is nothing to send")
    # Never neonize's own str: it makes mentions of "@digits" and asks WhatsApp for the groups first.
    return Prepared(message=library.load().messages.Message(conversation=text))
