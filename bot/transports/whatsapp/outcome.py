"""Tells from neonize's error texts what became of a send; the only place that reads them.

Go hands its errors over as text. whatsmeow wraps whatever fails on the way to the socket ("failed to …");
what it reports bare happened after the message had been written.
"""

import re

from bot.transports.base import NotConnected, SendRefused, SendUnconfirmed, TransportError
from bot.transports.whatsapp.library import redacted

_REFUSED = re.compile(r"server returned error (\d+)")
_NEVER_LEFT = (
    "client is nil",
    "the store doesn't contain a device JID",
    "failed to get user info",
    "failed to get LID for PN",
    "failed to get group members",
    "failed to get broadcast list members",
    "failed to get device list",
    "failed to fetch LID mappings",
    "failed to prefetch sessions",
    "failed to save cached sessions",
    "failed to send message node: websocket not connected",
    "failed to send message node: frame socket is closed",
)
_IMPOSSIBLE = (
    "no LID found for",
    "can't send message to unknown server",
    "message recipient must be a user JID",
    "failed to marshal message",
    "failed to send message node: frame too large",
)
_NOT_UPLOADED_YET = ("websocket", "timed out", "refresh media connections")


def of_send(text: str) -> TransportError:
    """What a failed send means. Anything unknown may have gone out."""
    if refused := _REFUSED.search(text):
        return SendRefused(f"WhatsApp refused the message (error {refused[1]})", code=int(refused[1]))
    if text.startswith(_NEVER_LEFT):
        return NotConnected(redacted(text))
    if text.startswith("no LID found for"):
        return SendRefused("this number is not on WhatsApp")
    if text.startswith(_IMPOSSIBLE):
        return SendRefused(redacted(text))
    return SendUnconfirmed(redacted(text))


def of_upload(text: str) -> TransportError:
    """What a failed upload means. Nothing has been sent in any case."""
    if any(hint in text for hint in _NOT_UPLOADED_YET):
        return NotConnected(redacted(text))
    return SendRefused(f"the media could not be uploaded: {redacted(text)}")
