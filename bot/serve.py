"""`sidestep run`: the store, the accounts over WhatsApp, the scheduler and the HTTP port, until a signal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from bot.clock import Clock, SystemClock
from bot.commands import replica_of, store_of
from bot.config import Config, warnings
from bot.daemon import Daemon, stop_on_signals
from bot.http.app import build_app
from bot.http.ingest import ingest_route
from bot.http.server import listen
from bot.http.server import serve as serve_http
from bot.metrics import Metrics
from bot.pair import TerminalPairing
from bot.wiring import MakeTransport, ingest, keeper_of, whatsapp, wire
from storage.database import Database

log = structlog.get_logger(__name__)

_CONNECTIONS = 12

_STORE_SECONDS = 6.0
"""How long a stop waits for a database that hangs. With the embedded server's stop it stays below ten seconds."""

Platform = Callable[[Config, Database, Clock], MakeTransport]


async def serve(config: Config, platform: Platform = whatsapp) -> None:
    """Run until SIGTERM or SIGINT. Raises what the command line tells: a busy port, a database, an account in use."""
    for warning in warnings(config):
        log.warning("configuration", place=warning.place, problem=warning.message, hint=warning.hint)
    listening = listen(config.http.host, config.http.port)
    log.info("http_listening", host=config.http.host, port=listening.getsockname()[1])
    clock, metrics = SystemClock(), Metrics()
    with listening:
        async with (
            store_of(config, connections=_CONNECTIONS) as database,
            replica_of(config) as replica,
            stop_on_signals() as stop,
        ):
            make = platform(config, database, clock)
            keeper = keeper_of(config, database)
            pairing = TerminalPairing()
            async with wire(
                config,
                database,
                clock,
                make,
                pairing,
                metrics=metrics,
                keeper=keeper,
                replica=replica,
                # Our own PostgreSQL ends with whoever runs it: nobody could take over from that one.
                stand_by=config.database.url is not None,
            ) as daemon:
                token = config.http.token
                routes = [ingest_route(ingest(config, database, clock, metrics), token)]
                app = build_app(
                    health=daemon, metrics=metrics, cron=daemon.scheduler.cron, token=token, routes=routes
                )
                http = asyncio.create_task(serve_http(app, listening, stop), name="http")
                deadline = asyncio.create_task(_set_deadline(database, stop), name="deadline")
                try:
                    await _until_stopped(daemon, stop, http)
                finally:
                    stop.set()
                    await asyncio.gather(http, deadline)
    log.info("sidestep_stopped")


async def _set_deadline(database: Database, stop: asyncio.Event) -> None:
    await stop.wait()
    database.break_in(_STORE_SECONDS)


async def _until_stopped(daemon: Daemon, stop: asyncio.Event, http: asyncio.Task[None]) -> None:
    # A web server that dies takes the daemon with it: a bot that nobody can watch is not running well.
    http.add_done_callback(lambda _: stop.set())
    await daemon.run(stop)
