"""Pairing: shows a number's QR code to whoever holds the phone, and knows when it has been scanned."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from typing import Any

import orjson
import segno

from bot.cli import store_of
from bot.clock import SystemClock
from bot.config import Config
from bot.daemon import stop_on_signals
from bot.transports.base import ConnectionChanged, ConnectionState, Paired, PairingCode, TransportEvent
from bot.wiring import AccountInUse, hold, seed, whatsapp
from storage.models import Account
from storage.tenants import TenantStore


class TerminalPairing:
    """QR codes on stderr: stdout is for results."""

    def show(self, account: Account, code: PairingCode) -> None:
        """Draw one. On a phone: Settings, Linked devices, Link a device."""
        print(f"Scan this with the phone of {account.name!r}: Settings > Linked devices.", file=sys.stderr)  # noqa: T201
        segno.make_qr(code.qr).terminal(out=sys.stderr, compact=True)


class _Progress:
    """What `sidestep pair` prints, and how it ends."""

    def __init__(self, account: Account, *, as_json: bool) -> None:
        self._account = account
        self._as_json = as_json
        self.done = asyncio.Event()
        self.paired: Paired | None = None
        self.connected = False

    def deliver(self, event: TransportEvent) -> None:
        match event:
            case PairingCode() if self._as_json:
                self._print({"kind": "qr", "qr": event.qr})
            case PairingCode():
                TerminalPairing().show(self._account, event)
            case Paired():
                self.paired = event
            case ConnectionChanged() if event.connection.state is ConnectionState.CONNECTED:
                self.connected = True
                self.done.set()
            case ConnectionChanged() if event.connection.advice:
                print(event.connection.advice, file=sys.stderr)  # noqa: T201
            case _:
                pass

    def finish(self) -> None:
        """Say how it ended."""
        if self._as_json:
            self._print({"kind": "paired" if self.connected else "not_paired", "account": self._account.name})
        elif self.connected:
            print(f"{self._account.name} is linked. Start the bot with: sidestep run")  # noqa: T201
        else:
            print(f"{self._account.name} was not linked.", file=sys.stderr)  # noqa: T201

    @staticmethod
    def _print(value: dict[str, Any]) -> None:
        sys.stdout.write(orjson.dumps(value).decode() + "\n")
        sys.stdout.flush()


async def pair(config: Config, name: str | None, *, as_json: bool) -> bool:
    """Link one account; True once it is connected. An account that is linked already only connects."""
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(store_of(config))
        stop = await stack.enter_async_context(stop_on_signals())
        tenants = TenantStore(database)
        accounts = [
            a for t in await seed(config, tenants, clock) for a in await tenants.accounts(t.tenant_id)
        ]
        account = _chosen(accounts, name)
        await stack.enter_async_context(hold(database, [account]))
        progress = _Progress(account, as_json=as_json)
        running = asyncio.create_task(whatsapp(config, database, clock)(account).run(progress.deliver))
        waits = [asyncio.create_task(e.wait()) for e in (progress.done, stop)]
        await asyncio.wait([running, *waits], return_when=asyncio.FIRST_COMPLETED)
        for task in (running, *waits):
            task.cancel()
        await asyncio.gather(running, *waits, return_exceptions=True)
        if progress.paired is not None:
            await tenants.set_paired(account, progress.paired.jid, progress.paired.lid, clock.now())
        progress.finish()
        return progress.connected


def _chosen(accounts: list[Account], name: str | None) -> Account:
    names = ", ".join(a.name for a in accounts)
    if name is None and len(accounts) > 1:
        raise AccountInUse(f"there are several accounts ({names}): say which with --account")
    for account in accounts:
        if name in (None, account.name):
            return account
    raise AccountInUse(f"there is no account {name!r}; there is: {names}")
