"""`python -m tests.acceptance.piped DSN CONFIG`: `sidestep run` whose platform is whoever holds its pipes.

It reads a line for each message that arrives, `{"id", "chat", "text"}`, with `"from": "owner"` where it is the owner's,
and writes one for all that the platform sees: `{"connected": true}`, and `{"sent": text, "chat": number}` at the start
of a send. Its HTTP port is a free one; the log tells which.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import orjson

from bot import logs
from bot.clock import Clock, SystemClock
from bot.config import Config, load
from bot.roles import phone_jid
from bot.serve import serve
from bot.simulation import number_of
from bot.transports.base import ConnectionChanged, Content, Deliver, Sent, TransportEvent
from bot.transports.memory import MemoryTransport
from bot.wiring import MakeTransport
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


def _say(**line: Any) -> None:
    # At once, so that a kill finds nothing unsaid.
    sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
    sys.stdout.flush()


async def main(dsn: str, config_file: Path) -> None:
    logs.setup(format="json")
    variables = {"DATABASE_URL": dsn, "SIDESTEP__HTTP__PORT": "0"}
    config = load(config_file, environ=variables, dotenv=config_file.with_name("none"))
    clock = SystemClock()
    transports: list[PipedTransport] = []

    def platform(_: Config, __: Database, ___: Clock) -> MakeTransport:
        def make(account: Account) -> PipedTransport:
            transports.append(PipedTransport(clock.now))
            return transports[-1]

        return make

    reading = asyncio.create_task(_read(transports, phone_jid(config.tenants[0].owner), clock))
    try:
        await serve(config, platform)
    finally:
        reading.cancel()


async def _read(transports: list[PipedTransport], owner: Jid, clock: SystemClock) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        told = orjson.loads(line)
        chat = Address(jid=phone_jid(told["chat"]))
        from_owner = told.get("from") == "owner"
        transports[-1].arrive(
            InboundMessage(
                external_id=ExternalId(told["id"]),
                chat=chat,
                sender=Address(jid=owner) if from_owner else chat,
                from_me=from_owner,
                text=told["text"],
                sent_at=clock.now(),
            )
        )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
