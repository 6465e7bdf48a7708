"""What WhatsApp's refusals mean: for each way to end a link, the state, the advice, and how the link has ended.

Pure: it reads neonize's events and acts on nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import Any

from bot.transports.base import ConnectionState
from flows.commands.times import span_in_words


class End(Enum):
    """Why a link is over. FAILED: no answer; REJECTED: the answer was no, for now; FINAL: no, for good."""

    QR_EXPIRED = auto()
    FAILED = auto()
    REJECTED = auto()
    SUSPENDED = auto()
    BANNED = auto()
    FINAL = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`advice` None: the table's. `ban` is zero when WhatsApp names no end of it."""

    end: End
    state: ConnectionState
    advice: str | None = None
    ban: timedelta = timedelta(0)


REPLACED = Verdict(end=End.FINAL, state=ConnectionState.REPLACED)
OUTDATED = Verdict(end=End.FINAL, state=ConnectionState.OUTDATED)
UNLINKED = Verdict(
    end=End.FINAL,
    state=ConnectionState.LOGGED_OUT,
    advice="this device has been taken off the phone's list: link it again with `sidestep pair`",
)
UNREACHABLE = Verdict(
    end=End.FAILED,
    state=ConnectionState.RECONNECTING,
    advice="WhatsApp cannot be reached: check the network and the proxy",
)
UNSTABLE = Verdict(
    end=End.REJECTED,
    state=ConnectionState.RECONNECTING,
    advice="WhatsApp closes the connection again and again: see whether another program uses this session",
)

_PHONE_GONE = (
    "WhatsApp on the phone itself was logged out, or the account is locked: open it there, then link it again with "
    "`sidestep pair`"
)
_BANNED_FOR_GOOD = (
    "WhatsApp has banned this number: open WhatsApp on the phone, where a review can be asked for"
)
_BAN_REASONS = {
    "SEND_TO_TOO_MANY_PEOPLE": "messages to strangers",
    "BLOCKED_BY_USERS": "readers have blocked it",
    "CREATED_TOO_MANY_GROUPS": "groups of strangers",
    "SENT_TOO_MANY_SAME_MESSAGE": "one text for many readers",
    "BROADCAST_LIST": "broadcast lists",
}
_UNKNOWN_BAN_REASON = "WhatsApp gives no reason that we know"

_LIBRARY_FAILED = "the WhatsApp library could not pass on an event and is started anew"
# How neonize ends when an event has a value for which it has no name. Such a client never says anything again.
_UNTOLD = re.compile(r"required field neonize\.(\w+)\.\w+ not set")


def life_over(error: str, *, had_logged_in: bool) -> Verdict:
    """Neonize has ended by itself, with this error: it did not get through, or could not tell what it was told."""
    untold = _UNTOLD.search(error)
    match untold and untold[1]:
        case "TemporaryBan":
            return _ban(timedelta(0), _UNKNOWN_BAN_REASON)
        case "ConnectFailure":
            return _rejection("unknown")
    if not untold and not had_logged_in:
        return UNREACHABLE
    return Verdict(end=End.FAILED, state=ConnectionState.RECONNECTING, advice=_LIBRARY_FAILED)


def logged_out(event: Any) -> Verdict:
    """401: the phone removed us; 403 and 406: the account is in trouble. The session is gone from the store, too."""
    match _reason_name(event):
        case "MAIN_DEVICE_GONE":
            return Verdict(end=End.FINAL, state=ConnectionState.LOGGED_OUT, advice=_PHONE_GONE)
        case "UNKNOWN_LOGOUT":
            return Verdict(end=End.FINAL, state=ConnectionState.BANNED, advice=_BANNED_FOR_GOOD)
        case _:
            return Verdict(end=End.FINAL, state=ConnectionState.LOGGED_OUT)


def banned(event: Any) -> Verdict:
    name = event.TempBanReason.Name(event.Code) if event.HasField("Code") else ""
    return _ban(timedelta(seconds=max(event.Expire, 0)), _BAN_REASONS.get(name, _UNKNOWN_BAN_REASON))


def rejected(event: Any) -> Verdict:
    """A login that was refused for a reason which whatsmeow does not act on."""
    if _reason_name(event) == "BAD_USER_AGENT":
        return OUTDATED
    return _rejection(
        next((a.text or str(a.integer) for a in event.Raw.Attrs if a.name == "reason"), "unknown")
    )


def _ban(ban: timedelta, reason: str) -> Verdict:
    how_long = f"for {span_in_words(ban)}" if ban else "for a time that we are not told"
    advice = f"WhatsApp has banned this number {how_long} ({reason}): send less, and let nothing else use it"
    return Verdict(end=End.BANNED, state=ConnectionState.BANNED, advice=advice, ban=ban)


def _rejection(number: str) -> Verdict:
    advice = f"WhatsApp rejects the login (error {number}); it is tried again, more and more rarely"
    return Verdict(end=End.REJECTED, state=ConnectionState.RECONNECTING, advice=advice)


def _reason_name(event: Any) -> str:
    # A number that neonize does not know leaves the field empty, and would read as the first name.
    if not event.HasField("Reason"):
        return ""
    names = event.DESCRIPTOR.fields_by_name["Reason"].enum_type.values_by_number
    return str(names[event.Reason].name)
