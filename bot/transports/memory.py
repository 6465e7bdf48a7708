"""A platform in memory, shipped for `sidestep chat`, demos and tests: it behaves like WhatsApp and reaches nobody.

Whoever plays the phones calls `arrive` for what customers and owners do, and reads `sent` for what the
bot has said. It passes the same contract tests as the real transport.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from bot.transports.base import (
    Connection,
    ConnectionChanged,
    ConnectionState,
    Content,
    Deliver,
    MediaExpired,
    MediaTooLarge,
    Medium,
    NotConnected,
    SendRefused,
    Sent,
    TransportError,
    TransportEvent,
)
from bot.transports.states import shown
from storage.models import ExternalId, Jid


@dataclass(frozen=True, slots=True, kw_only=True)
class SentMessage:
    """A message as a phone received it."""

    to: Jid
    content: Content
    external_id: ExternalId
    at: datetime


class MemoryTransport:
    """One account. `now` is the daemon's clock.

    `refuse` makes the next send end with this error; a send waits while `blocked` is set, as one whose
    acknowledgement does not come, and `lag` seconds for each acknowledgement. `files` are what messages
    carry, by their raw event.
    """

    def __init__(self, now: Callable[[], datetime] | None = None, *, own: tuple[Jid, ...] = ()) -> None:
        self._now = now or (lambda: datetime.now(UTC))
        self._own = own
        # As on the platform, no id comes twice, not even from the same account after a restart.
        self._run_id = secrets.token_hex(3).upper()
        self._ids = itertools.count(1)
        self._connection = shown(ConnectionState.STARTING, since=self._now())
        self._deliver: Deliver | None = None
        self._queued: list[TransportEvent] = []
        self._blocked = asyncio.Event()
        self._blocked.set()
        self._unlinked = asyncio.Event()
        self.sent: list[SentMessage] = []
        self.started: list[SentMessage] = []
        self.typing: set[Jid] = set()
        self.refuse: TransportError | None = None
        self.lag = 0.0
        self.files: dict[str, Medium] = {}

    @property
    def connection(self) -> Connection:
        return self._connection

    @property
    def one_at_a_time(self) -> bool:
        return False

    def arrive(self, event: TransportEvent) -> None:
        """Something happens on the platform; while disconnected it waits there, as WhatsApp queues it."""
        if self._deliver is None or self._connection.state is not ConnectionState.CONNECTED:
            self._queued.append(event)
        else:
            self._deliver(event)

    def block(self) -> None:
        """From now on sends start, and are not acknowledged until `unblock`."""
        self._blocked.clear()

    def unblock(self) -> None:
        """Acknowledge what was started."""
        self._blocked.set()

    async def run(self, deliver: Deliver) -> None:
        """Be connected until cancelled or unlinked."""
        self._deliver = deliver
        self._connect()
        try:
            await self._unlinked.wait()
        finally:
            if not self._unlinked.is_set():
                self._change(ConnectionState.STOPPED)
            self._deliver = None

    async def prepare(self, content: Content) -> Content:
        """A medium is taken by its address, never fetched: nothing here reaches the network."""
        url = content.media_url
        if url is not None and not url.startswith(("http://", "https://")):
            raise SendRefused("media must be an http or https URL")
        return content

    async def send(self, to: Jid, prepared: object) -> Sent:
        if not self._connection.can_send:
            raise NotConnected("not connected")
        if not isinstance(prepared, Content):
            raise TypeError("send takes what prepare returned")
        message = SentMessage(
            to=to,
            content=prepared,
            external_id=ExternalId(f"3EB0{self._run_id}{next(self._ids):06d}"),
            at=self._now(),
        )
        self.started.append(message)
        if self.lag:
            await asyncio.sleep(self.lag)
        await self._blocked.wait()
        if self.refuse is not None:
            error, self.refuse = self.refuse, None
            raise error
        self.typing.discard(to)
        self.sent.append(message)
        return Sent(external_id=message.external_id, at=message.at)

    async def set_typing(self, to: Jid, typing: bool) -> None:
        if typing:
            self.typing.add(to)
        else:
            self.typing.discard(to)

    async def download(self, raw: str, *, most_bytes: int) -> Medium:
        if not self._connection.can_receive:
            raise NotConnected("not connected")
        medium = self.files.get(raw)
        if medium is None:
            raise MediaExpired("this platform keeps no such file")
        if len(medium.data) > most_bytes:
            raise MediaTooLarge(f"the file has {len(medium.data)} bytes, and {most_bytes} are the most")
        return medium

    async def suspend(self) -> None:
        self._change(ConnectionState.SUSPENDED)

    async def resume(self) -> None:
        if self._deliver is not None:
            self._connect()

    async def unlink(self) -> None:
        if not self._connection.can_send:
            raise NotConnected("not connected")
        self._change(ConnectionState.LOGGED_OUT)
        self._unlinked.set()

    def _connect(self) -> None:
        self._change(ConnectionState.CONNECTED)
        queued, self._queued = self._queued, []
        for event in queued:
            self.arrive(event)

    def _change(self, state: ConnectionState) -> None:
        self._connection = shown(state, since=self._now())
        if self._deliver is not None:
            self._deliver(ConnectionChanged(connection=self._connection, own=self._own))
