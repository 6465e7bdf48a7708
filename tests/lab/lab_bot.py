"""The daemon in this process: the real neonize, the pipeline and PostgreSQL, with the lab for WhatsApp.

All of `sidestep run` but its process, its HTTP port and its timers. Stop one and make another with the same
database for a restart.
"""

import asyncio
import datetime as dt
from typing import Any

from bot.clock import SystemClock
from bot.config import Config
from bot.daemon import Daemon
from bot.events import Decided, Event, Events, StatusMoved
from bot.lab.lab import Lab
from bot.lab.people import Owner
from bot.lab.timeline import PATIENCE, Timeline
from bot.transports.base import (
    ConnectionChanged,
    ConnectionState,
    Deliver,
    PairingCode,
    Transport,
    TransportEvent,
)
from bot.transports.whatsapp.client import WhatsAppTransport
from bot.transports.whatsapp.sender import LONGEST_SEND
from bot.wiring import wire
from storage.database import Database
from storage.decisions import explain
from storage.models import Account, Explanation, OutboxEntry, Status
from storage.sessions import SessionStore
from storage.tenants import TenantStore

_FLOWS = {"keywords": [{"match": ["price"], "answer": "From 10 to 50."}], "default": "Hello!"}
# Customers here are quick, and say the same.
_ANSWER = {"loop_rounds": None, "loop_repeats": None, "same_answer": "never"}
_PACE = {"debounce": "0s", "typing": False, "per_chat": None, "per_account": None, "daily": None}


class _Watched(WhatsAppTransport):
    """Notes what it delivers."""

    def __init__(self, heard: Timeline[TransportEvent], **details: Any) -> None:
        super().__init__(**details)
        self._heard_events = heard

    async def run(self, deliver: Deliver) -> None:
        def note_and_deliver(event: TransportEvent) -> None:
            deliver(event)
            self._heard_events.note(event)

        await super().run(note_and_deliver)


class LabBot:
    """One run of the daemon. `owners`: a number for each tenant's name; further sections as in config.yaml.

    `told` is what the pipeline says of decisions and statuses; `heard`, what each transport has delivered.
    """

    def __init__(
        self,
        dsn: str,
        lab: Lab,
        *,
        owners: dict[str, str] | None = None,
        longest_send: dt.timedelta = LONGEST_SEND,
        **sections: Any,
    ) -> None:
        numbers = owners or {"shop": "+5511999990000"}
        tenants = [{"instance_name": name, "owner": number} for name, number in numbers.items()]
        self.config = Config.model_validate(
            {"tenants": tenants, "flows": _FLOWS, "pace": _PACE, "answer": _ANSWER, **sections}
        )
        self.told: Timeline[Event] = Timeline()
        self.heard: dict[str, Timeline[TransportEvent]] = {name: Timeline() for name in numbers}
        self.codes: dict[str, Timeline[str]] = {name: Timeline() for name in numbers}
        self._dsn, self._lab, self._longest_send = dsn, lab, longest_send
        self._clock = SystemClock()
        self._up: asyncio.Future[tuple[Database, Daemon]] | None = None
        self._stop = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._up = asyncio.get_running_loop().create_future()
        self._stop.clear()
        # A task of its own: task groups have to end in the task where they began, and fixtures change theirs.
        self._running = asyncio.create_task(self._run(self._up))
        both: list[asyncio.Future[Any]] = [self._running, self._up]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if self._running.done():
            self._running.result()

    async def stop(self) -> None:
        """Ends it as SIGTERM would. Raises what has gone wrong in one of its rooms."""
        if self._running is not None:
            self._stop.set()
            await self._running

    async def _run(self, up: "asyncio.Future[tuple[Database, Daemon]]") -> None:
        database = await Database.open(self._dsn)
        events = Events()
        events.listen(self.told.note)
        try:
            async with (
                wire(self.config, database, self._clock, self._transport, self, events=events) as daemon,
                daemon.running(),
            ):
                up.set_result((database, daemon))
                await self._stop.wait()
        finally:
            await database.close()

    def _transport(self, account: Account) -> Transport:
        return _Watched(
            self.heard[account.name],
            account=account.name,
            store_dsn=self._dsn,
            jid=account.jid,
            proxy=self._lab.proxy_url,  # without one neonize would dial the real WhatsApp
            clock=self._clock.now,
            longest_send=self._longest_send,
        )

    def show(self, account: Account, code: PairingCode) -> None:
        """The daemon shows a QR code here."""
        self.codes[account.name].note(code.text)

    @property
    def daemon(self) -> Daemon:
        return self._ready[1]

    @property
    def database(self) -> Database:
        return self._ready[0]

    @property
    def _ready(self) -> tuple[Database, Daemon]:
        assert self._up is not None, "start it first"
        return self._up.result()

    def transport(self, account: str = "shop") -> Transport:
        lines = (line for line in self.daemon.lines if line.pipeline.account.name == account)
        return next(lines).transport

    async def pair(self, owner: Owner, account: str = "shop") -> None:
        await owner.scan(await self.codes[account].expect(what="a QR code"))
        await self.connected(account)

    async def connected(self, account: str = "shop", *, within: float = PATIENCE) -> None:
        """Waits for the next time that the account gets connected."""
        await self.heard[account].expect(
            lambda event: (
                isinstance(event, ConnectionChanged) and event.connection.state is ConnectionState.CONNECTED
            ),
            within=within,
            what="a connection",
        )

    async def decided(self, message_id: str, *, within: float = PATIENCE) -> Decided:
        """Waits until it is decided what becomes of this message."""
        event = await self.told.expect(
            lambda event: isinstance(event, Decided) and event.external_id == message_id,
            within=within,
            what=f"a decision on {message_id}",
        )
        assert isinstance(event, Decided)
        return event

    async def moves(self, *statuses: Status, external_id: str | None = None) -> StatusMoved:
        """Waits until a message of ours, or the one that WhatsApp knows by this id, gets one of these statuses."""
        event = await self.told.expect(
            lambda event: (
                isinstance(event, StatusMoved)
                and event.status in statuses
                and external_id in (None, event.external_id)
            ),
            within=PATIENCE,
            what=f"a status among {[str(status) for status in statuses]}",
        )
        assert isinstance(event, StatusMoved)
        return event

    async def knows(self, message_id: str) -> None:
        """Waits until the store knows a message of ours by this id: a phone may hear it before the send returns."""
        await self.moves(Status.SENT, external_id=message_id)

    async def why(self, message_id: str, tenant: str = "shop") -> list[Explanation]:
        """What the store has to say about this message: `sidestep why`."""
        found = await TenantStore(self.database).find(tenant)
        assert found is not None
        return await explain(self.database, SessionStore(self.database, found), found.tenant_id, message_id)

    async def reply_to(self, message_id: str, tenant: str = "shop") -> OutboxEntry:
        """What the store shows of the only reply to this message."""
        replies = {reply.id: reply for each in await self.why(message_id, tenant) for reply in each.replies}
        (reply,) = replies.values()
        return reply
