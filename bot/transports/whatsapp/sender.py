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
from bot.transports.whatsapp.timers import Timers
from storage.models import ExternalId, Jid, Quoted

# whatsmeow gives up after 75 seconds. But what it has sent again after a drop it awaits for ever, and every
# later send of the account waits behind it.
LONGEST_SEND = timedelta(seconds=80)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A message that is ready to go out; what it shows has been uploaded."""

    message: Any
    revokes: bool = False


class Sender:
    """`on_slow` is told of a link whose send is not acknowledged for long, while it may still be.

    `on_stuck` is told of a link whose send does not come back: only another link helps.
    """

    def __init__(
        self,
        clock: Callable[[], datetime],
        longest_send: timedelta,
        timers: Timers,
        on_stuck: Callable[[Link], None],
        slow_after: timedelta,
        on_slow: Callable[[Link], None],
    ) -> None:
        self._clock = clock
        self._timers = timers
        self._watchdogs = ((slow_after, on_slow), (longest_send, on_stuck))

    async def prepare(self, content: Content, link: Link | None) -> Prepared:
        if content.revokes is not None:
            prepared = Prepared(message=_revoke(content.revokes), revokes=True)
        elif content.media_url is None:
            prepared = _text(content)
        elif link is None:
            raise NotConnected("media can only be uploaded while WhatsApp is connected")
        else:
            found = await media.fetch(content)
            built = await media.build(library.load(), found, content.text, link.upload)
            prepared = Prepared(message=_quoting(built, content.quoted))
        if link is not None:
            await link.ready_to_send()
        return prepared

    async def send(self, link: Link, to: Jid, prepared: object) -> Sent:
        # Up to `link.send`, which hands the call over, nothing here awaits: who has just looked whether the
        # human is speaking must not find out that the send began later.
        message = self._timers.applied(to, _message_of(prepared))
        if isinstance(prepared, Prepared) and prepared.revokes:
            message.protocolMessage.key.remoteJID = to
        if link.sending:
            raise NotConnected("an earlier send is still on its way")
        neonize = library.load()
        loop, number = asyncio.get_running_loop(), link.sends + 1
        watchdogs = [
            loop.call_later(after.total_seconds(), self._look_after, link, number, tell)
            for after, tell in self._watchdogs
        ]
        try:
            response = await link.send(to_proto(neonize.protocol, to), message)
        except neonize.errors.NeonizeError as exc:
            raise outcome.of_send(str(exc)) from exc
        except NotConnected:
            raise
        except Exception as exc:
            raise SendUnconfirmed("WhatsApp's answer could not be read") from exc
        finally:
            # A cancelled caller leaves its send on the way, and the watchdogs with it.
            if not link.sending:
                for watchdog in watchdogs:
                    watchdog.cancel()
        return self._sent(response)

    def _sent(self, response: Any) -> Sent:
        if not response.ID:
            raise SendUnconfirmed("WhatsApp's answer names no message")
        now = self._clock()
        at = moment(response.Timestamp, per_second=1, now=now) if response.Timestamp > 0 else now
        return Sent(external_id=ExternalId(response.ID), at=at)

    @staticmethod
    def _look_after(link: Link, number: int, tell: Callable[[Link], None]) -> None:
        if link.sending and link.sends == number:
            tell(link)


def _message_of(prepared: object) -> Any:
    if isinstance(prepared, Content) and prepared.media_url is None:
        return _text(prepared).message
    if isinstance(prepared, Prepared):
        return prepared.message
    raise TypeError("media must be prepared before they can be sent")


def _text(content: Content) -> Prepared:
    if not content.text:
        raise SendRefused("there is nothing to send")
    # Never neonize's own str: it makes mentions of "@digits" and asks WhatsApp for the groups first.
    message = library.load().messages.Message(conversation=content.text)
    return Prepared(message=_quoting(message, content.quoted))


def _revoke(external_id: ExternalId) -> Any:
    # The library tells from `fromMe` that we take back what is ours; whose chat it is, only the send knows.
    messages = library.load().messages
    message = messages.Message()
    message.protocolMessage.type = messages.ProtocolMessage.REVOKE
    message.protocolMessage.key.fromMe = True
    message.protocolMessage.key.ID = external_id
    return message


def _quoting(message: Any, quoted: Quoted | None) -> Any:
    if quoted is None:
        return message
    if message.HasField("conversation"):
        # A bare text has no place for it.
        text = message.conversation
        message.ClearField("conversation")
        message.extendedTextMessage.text = text
    for _, content in message.ListFields():
        if hasattr(content, "contextInfo"):
            content.contextInfo.stanzaID = quoted.external_id
            content.contextInfo.participant = quoted.sender
            content.contextInfo.quotedMessage.conversation = quoted.text
    return message
