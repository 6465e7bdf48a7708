"""An account's connection as it is shown, and whom to tell when it changes; what to show is decided elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from bot.transports.base import Connection, ConnectionChanged, ConnectionState, Deliver
from bot.transports.states import shown
from bot.transports.whatsapp.ids import People
from bot.transports.whatsapp.patience import next_try_of_library


class State:
    """Starts out stopped. `own` of a change are the account's addresses as far as they are known.

    `quiet_phone`: the owner is told when nothing was heard of the phone for so long, since we run.
    """

    def __init__(
        self,
        clock: Callable[[], datetime],
        people: People,
        quiet_phone: timedelta = timedelta.max,
    ) -> None:
        self._clock = clock
        self._people = people
        self._deliver: Deliver | None = None
        self._lost_at: datetime | None = None
        self._quiet_phone = quiet_phone
        self._phone_heard_at = clock()
        self._phone_told = False
        self._connection = shown(ConnectionState.STOPPED, since=clock())

    @property
    def is_connected(self) -> bool:
        return self._connection.state is ConnectionState.CONNECTED

    @property
    def connection(self) -> Connection:
        if self.is_connected and self._connection.can_send and self._is_phone_quiet():
            return shown(
                ConnectionState.PHONE_OFFLINE,
                since=self._phone_heard_at,
                advice=f"nothing was heard of the phone since {self._phone_heard_at:%Y-%m-%d}: open WhatsApp on it, "
                "as a phone that is offline for two weeks loses its linked devices",
            )
        if self._lost_at is None:
            return self._connection
        return replace(self._connection, next_try=next_try_of_library(self._lost_at, self._clock()))

    def tell(self, deliver: Deliver | None) -> None:
        self._deliver = deliver

    def show(
        self, state: ConnectionState, advice: str | None = None, *, next_try: datetime | None = None
    ) -> None:
        self._lost_at = None
        self._change(shown(state, since=self._since(state), advice=advice, next_try=next_try))

    def show_library_reconnecting(self) -> None:
        """The link was lost, and whatsmeow mends it by itself. `next_try` is worked out at each look."""
        lost_at = self._lost_at or self._clock()
        self._lost_at = lost_at
        state = ConnectionState.RECONNECTING
        next_try = next_try_of_library(lost_at, self._clock())
        self._change(shown(state, since=self._since(state), next_try=next_try))

    def show_doubt(self, advice: str) -> None:
        """While connected: WhatsApp owes us an answer. Nothing more is sent; what comes is still heard."""
        if self.is_connected:
            self._change(replace(self._connection, can_send=False, advice=advice))

    def end_doubt(self) -> None:
        if self.is_connected:
            self.show(ConnectionState.CONNECTED)

    def phone_heard(self) -> None:
        """The owner's phone has shown a sign of life."""
        self._phone_heard_at = self._clock()
        self.look_for_phone()

    def look_for_phone(self) -> None:
        """To be called now and then: nothing happens at the moment in which a phone has been quiet for too long."""
        if self.is_connected and (quiet := self._is_phone_quiet()) is not self._phone_told:
            self._phone_told = quiet
            self._tell()

    def _is_phone_quiet(self) -> bool:
        return self._clock() - self._phone_heard_at > self._quiet_phone

    def _tell(self) -> None:
        if self._deliver is not None:
            self._deliver(ConnectionChanged(connection=self.connection, own=self._people.own))

    def _since(self, state: ConnectionState) -> datetime:
        return self._connection.since if state is self._connection.state else self._clock()

    def _change(self, connection: Connection) -> None:
        before, self._connection = self._connection, connection
        # That there is a next try is told; the moment then moves without a word.
        moved = before.next_try is not None and connection.next_try is not None
        was = replace(before, next_try=connection.next_try) if moved else before
        if was != connection:
            self._tell()
