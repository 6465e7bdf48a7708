"""Tells from neonize's error texts what became of a call; the only place that reads them.

Go hands its errors over as text. whatsmeow wraps whatever fails on the way to the socket ("failed to …");
what it reports bare happened after the message had been written.
"""

import re

from bot.transports.base import (
    MediaDamaged,
    MediaExpired,
    NotConnected,
    PairingFailed,
    ReachOutLimited,
    SendPostponed,
    SendRefused,
    SendUnconfirmed,
    TransportError,
)
from bot.transports.whatsapp.library import redacted

_REFUSED = re.compile(r"server returned error (\d+)")
# In the server's acknowledgement: nothing of such a message has been delivered to anybody.
_LIMITED = {
    463: "WhatsApp lets this number write to nobody new for now",
    475: "this number has reached WhatsApp's limit of new chats",
}
_POSTPONED = {
    429: "WhatsApp takes no more messages of this number for the moment",
    500: "WhatsApp has trouble of its own",
    503: "WhatsApp has trouble of its own",
}
_FINAL = {
    400: "it is not as WhatsApp wants it",
    401: "this number may not write there",
    403: "this number may not write there",
    404: "there is nobody there",
    406: "WhatsApp does not accept it",
    410: "there is nobody there any more",
    421: "the group has changed how its members are addressed",
    479: "the keys of one of the recipient's devices are out of date",
}
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
_ANSWERED = re.compile(r"info query returned status (\d+)")
_WRONG_NUMBER = ("phone number too short", "international phone number required")
# 403: the address that the message names is valid no longer.
_GONE = (403, 404, 410)
_SPOILT = (
    "hash of media",
    "hash of unencrypted media",
    "invalid media hmac",
    "file too short",
    "failed to decrypt file",
    "invalid checksum length",
    "no url present",
    "does not start with slash",
    "didn't find any attachments",
)
_NOT_UPLOADED_YET = (
    "websocket",
    "timed out",
    "refresh media connections",
    "failed to execute request",
    "status code 5",
)


def of_send(text: str) -> TransportError:
    """What a failed send means. Anything unknown may have gone out."""
    if refused := _REFUSED.search(text):
        return of_refusal(int(refused[1]))
    if text.startswith(_NEVER_LEFT):
        return NotConnected(redacted(text))
    if text.startswith("no LID found for"):
        return SendRefused("this number is not on WhatsApp")
    if text.startswith(_IMPOSSIBLE):
        return SendRefused(redacted(text))
    return SendUnconfirmed(redacted(text))


def of_download(text: str) -> TransportError:
    """What a failed download means. Trying again can do no harm, but it is of no use where a file is lost."""
    if any(f"status code {code}" in text for code in _GONE):
        return MediaExpired("WhatsApp keeps this file no longer")
    if any(hint in text for hint in _SPOILT):
        return MediaDamaged(f"the file cannot be opened: {redacted(text)}")
    return NotConnected(redacted(text))


def of_refusal(code: int) -> TransportError:
    """What an error in the server's acknowledgement means."""
    if code in _LIMITED:
        return ReachOutLimited(f"{_LIMITED[code]} (error {code})", code=code)
    if code in _POSTPONED:
        return SendPostponed(f"{_POSTPONED[code]} (error {code})")
    reason = f": {_FINAL[code]}" if code in _FINAL else ""
    return SendRefused(f"WhatsApp refused the message{reason} (error {code})", code=code)


def of_upload(text: str) -> TransportError:
    """What a failed upload means. Nothing has been sent in any case."""
    if any(hint in text for hint in _NOT_UPLOADED_YET):
        return NotConnected(redacted(text))
    return SendRefused(f"the media could not be uploaded: {redacted(text)}")


def of_pairing_code(text: str) -> TransportError:
    """What it means that there is no code to type in. NotConnected can be tried again."""
    if text.startswith(_WRONG_NUMBER):
        return PairingFailed("this is not a phone number with its country code, like +5511999990000")
    answered = _ANSWERED.search(text)
    if answered is None:
        return NotConnected(redacted(text))
    if answered[1] == "429":
        return PairingFailed(
            "WhatsApp gives out no more codes for this number for now: wait some hours, or scan a QR code instead"
        )
    if answered[1].startswith("4"):
        return PairingFailed(
            f"WhatsApp gives out no code for this number (error {answered[1]}): check that it is written with "
            "its country code and that it is on WhatsApp, or scan a QR code instead"
        )
    return NotConnected(f"WhatsApp cannot give out a code now (error {answered[1]})")
