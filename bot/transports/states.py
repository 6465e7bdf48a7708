"""What each state of a connection means to its owner, in one table; it changes no state and starts nothing.

docs/connection.md shows how one leads to the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from bot.transports.base import Connection, ConnectionState


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What works in a state, and what the owner can do about it.

    `ends`: the account does not come back by itself, only by what `advice` says; a ban that is for good ends too.
    A state may be told with an advice of its own, which knows more: how long a ban lasts, which error it was.
    """

    can_send: bool = False
    can_receive: bool = False
    ends: bool = False
    advice: str | None = None


MEANINGS: Mapping[ConnectionState, Meaning] = MappingProxyType(
    {
        ConnectionState.STANDBY: Meaning(
            advice="another sidestep serves this number: this one takes over when that one is gone"
        ),
        ConnectionState.STARTING: Meaning(),
        ConnectionState.PAIRING: Meaning(
            advice="not linked: scan the QR code that the daemon shows where it was started (on the phone: Settings > "
            "Linked devices > Link a device), or stop the daemon and run `sidestep pair`"
        ),
        ConnectionState.CONNECTED: Meaning(can_send=True, can_receive=True),
        ConnectionState.REACH_OUT_LIMITED: Meaning(
            can_send=True,
            can_receive=True,
            advice="WhatsApp lets this number write to nobody new for now: answer only, and write to nobody first",
        ),
        ConnectionState.PHONE_OFFLINE: Meaning(
            can_send=True,
            can_receive=True,
            advice="open WhatsApp on the phone: one that stays away for two weeks loses its linked devices",
        ),
        ConnectionState.RECONNECTING: Meaning(
            advice="the connection was lost, and is tried again by itself: if that lasts, check this machine's network"
        ),
        ConnectionState.SUSPENDED: Meaning(
            advice="the database cannot be written, so messages wait at the platform; "
            "the number comes back with the database"
        ),
        ConnectionState.REPLACED: Meaning(
            ends=True,
            advice="another program has taken over this session: stop it, then start the daemon again",
        ),
        ConnectionState.LOGGED_OUT: Meaning(
            ends=True,
            advice="the phone has removed this device: stop the daemon, and link it again with `sidestep pair`",
        ),
        ConnectionState.BANNED: Meaning(advice="WhatsApp has banned this number for a time: send less"),
        ConnectionState.OUTDATED: Meaning(
            ends=True, advice="WhatsApp no longer accepts this version: update Sidestep"
        ),
        ConnectionState.STOPPED: Meaning(),
    }
)


def shown(
    state: ConnectionState, *, since: datetime, advice: str | None = None, next_try: datetime | None = None
) -> Connection:
    """A connection in this state. `advice` takes the place of the table's."""
    meaning = MEANINGS[state]
    return Connection(
        state=state,
        since=since,
        can_send=meaning.can_send,
        can_receive=meaning.can_receive,
        advice=advice or meaning.advice,
        next_try=next_try,
    )
