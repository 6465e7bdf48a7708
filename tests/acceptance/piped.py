"""`python -m tests.acceptance.piped DSN CONFIG`: a daemon whose platform is whoever holds its pipes.

All of `sidestep run` but WhatsApp and the HTTP port. It reads a line for each message that arrives, `{"id", "chat",
"text"}`, and writes one for all that the platform sees: `{"connected": true}`, and `{"sent": text, "chat": number}` at
the start of a send. To `{"ready": true}` it answers as /readyz would.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import orjson

from bot import logs
from bot.clock import SystemClock
from bot.config import load
from bot.daemon import Daemon, stop_on_signals
from bot.http.health import read_readiness
from bot.roles import phone_jid
from bot.simulation import number_of
from bot.transports.base import ConnectionChanged, Content, Deliver, PairingCode, Sent, TransportEvent
from bot.transports.memory import MemoryTransport
from bot.wiring import wire
from storage.database import Database
from storage.models import Account, Address, ExternalId, InboundMessage, Jid


class PipedTransport(MemoryTransport):
    """Tells the pipe what a server would see of it."""

    async def run(self, deliver: Deliver) -> None:
        def tell(event: TransportEvent) -> None:
            deliver(event)
            if isinstance(event, ConnectionChanged):
                _say(connected=event.connection.can_receive)

        await super().run(tell)

    async def send(self, to: Jid, prepared: object) -> Sent:
        assert isinstance(prepared, Content)
        _say(sent=prepared.text, chat=number_of(to))
        return await super().send(to, prepared)


class NobodyPairs:
    def show(self, account: Account, code: PairingCode) -> None:
        """This platform needs no phone."""


def _say(**line: Any) -> None:
    # At once, so that a kill finds nothing unsaid.
    sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
    sys.stdout.flush()


async def main(dsn: str, config_file: Path) -> None:
    logs.setup(format="json")
    clock = SystemClock()
    transports: list[PipedTransport] = []

    def make(account: Account) -> PipedTransport:
        transports.append(PipedTransport(clock.now))
        return transports[-1]

    database = await Database.open(dsn)
    config = load(config_file, environ={}, dotenv=config_file.with_name("none"))
    try:
        async with (
            stop_on_signals() as stop,
            wire(config, database, clock, make, NobodyPairs(), stand_by=True) as daemon,
        ):
            reading = asyncio.create_task(_read(daemon, transports, clock))
            await daemon.run(stop)
            reading.cancel()
    finally:
        await database.close()


async def _read(daemon: Daemon, transports: list[PipedTransport], clock: SystemClock) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        told = orjson.loads(line)
        if "ready" in told:
            _say(**(await read_readiness(daemon)).as_json())
            continue
        chat = Address(jid=phone_jid(told["chat"]))
        transports[-1].arrive(
            InboundMessage(
                external_id=ExternalId(told["id"]),
                chat=chat,
                sender=chat,
                text=told["text"],
                sent_at=clock.now(),
            )
        )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
