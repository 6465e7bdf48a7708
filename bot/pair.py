"""Pairing: shows a number's QR code, or a code to type in, to whoever holds the phone, and knows when it is linked."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from typing import Any

import orjson
import segno
from pydantic import TypeAdapter, ValidationError

from bot.clock import Clock, SystemClock
from bot.commands import store_of
from bot.config import Config
from bot.config.values import PhoneNumber
from bot.daemon import stop_on_signals
from bot.elsewhere import refusal_to_pair
from bot.keeping import Keeper
from bot.transports.base import (
    Connection,
    ConnectionChanged,
    ConnectionState,
    NotConnected,
    PairBy,
    Paired,
    PairingCode,
    PairingFailed,
    Transport,
    TransportEvent,
)
from bot.transports.states import MEANINGS
from bot.wiring import AccountInUse, hold, policy_of, seed, whatsapp
from storage.database import Database
from storage.errors import NumberTaken
from storage.messages import MessageStore
from storage.models import PHONE_SERVER, Account, Jid
from storage.outbox import OutboxStore
from storage.tenants import TenantStore

# WhatsApp closes the connection after each pairing, and the library is back in a moment: no news for who pairs.
_PASSING = MEANINGS[ConnectionState.RECONNECTING].advice
_TRYING = "It is tried again and again, until you press Ctrl+C."


class TerminalPairing:
    """Codes on stderr: stdout is for results."""

    def show(self, account: Account, code: PairingCode) -> None:
        """Draw one, or spell it."""
        if code.by is PairBy.CODE:
            _say(
                f"Enter this code on the phone of {account.name!r}: {code.text}\n"
                "There: Settings > Linked devices > Link a device > Link with phone number instead "
                "(on Android: ⋮ > Linked devices)."
            )
            return
        _say(
            f"Scan this with the phone of {account.name!r}: Settings > Linked devices > Link a device "
            "(on Android: ⋮ > Linked devices)."
        )
        segno.make_qr(code.text).terminal(out=sys.stderr, compact=True)


class _Progress:
    """What `sidestep pair` prints, and how it ends."""

    def __init__(self, account: Account, clock: Clock, *, as_json: bool) -> None:
        self._account = account
        self._clock = clock
        self._as_json = as_json
        self.done = asyncio.Event()
        self.paired: Paired | None = None
        self.connected = False
        self._told: str | None = None

    def deliver(self, event: TransportEvent) -> None:
        match event:
            case PairingCode() if self._as_json:
                expires_in = round((event.expires_at - self._clock.now()).total_seconds())
                self._print({"kind": event.by, event.by.value: event.text, "expires_in": expires_in})
            case PairingCode():
                TerminalPairing().show(self._account, event)
            case Paired():
                self.paired = event
            case ConnectionChanged() if event.connection.state is ConnectionState.CONNECTED:
                self.connected = True
                self.done.set()
            case ConnectionChanged() if event.connection.state is ConnectionState.PAIRING:
                self._told = None  # the code is shown, with what to do
            case ConnectionChanged():
                self._tell(event.connection)
            case _:
                pass

    def _tell(self, connection: Connection) -> None:
        """What is in the way, once, however often it is tried again."""
        if connection.advice in (None, self._told, _PASSING):
            return
        self._told = connection.advice
        goes_on = not MEANINGS[connection.state].ends
        _say(f"{connection.advice}. {_TRYING}" if goes_on else connection.advice)

    def finish(self, refusal: str | None) -> None:
        """Say how it ended."""
        linked = self.connected and refusal is None
        if refusal is not None:
            _say(refusal)
        if self._as_json:
            reason = {} if refusal is None else {"reason": refusal}
            self._print(
                {"kind": "paired" if linked else "not_paired", "account": self._account.name, **reason}
            )
        elif linked:
            print(f"{self._account.name} is linked. Start the bot with: sidestep run")  # noqa: T201
        else:
            _say(f"{self._account.name} was not linked.")

    @staticmethod
    def _print(value: dict[str, Any]) -> None:
        sys.stdout.write(orjson.dumps(value).decode() + "\n")
        sys.stdout.flush()


def _number_of(text: str) -> str:
    """A phone number as somebody writes it, in E.164. Raises PairingFailed."""
    try:
        return TypeAdapter[str](PhoneNumber).validate_python(text)
    except ValidationError as exc:
        raise PairingFailed(
            "--phone should be a phone number with its country code, like +5511999990000"
        ) from exc


async def pair(
    config: Config, name: str | None, *, phone: str | None = None, again: bool = False, as_json: bool
) -> bool:
    """Link one account, by QR code or by a code for `phone`; True once it is connected.

    An account that is linked already only connects. Raises PairingFailed for what cannot be a number, and for an
    account whose link is in another database, unless it is to be linked `again`.
    """
    clock, number = SystemClock(), None if phone is None else _number_of(phone)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(store_of(config))
        stop = await stack.enter_async_context(stop_on_signals())
        tenants = TenantStore(database)
        accounts = [
            a for t in await seed(config, tenants, clock) for a in await tenants.accounts(t.tenant_id)
        ]
        account = chosen(accounts, name)
        if account.moved_to is not None and not again:
            raise PairingFailed(refusal_to_pair(account))
        await stack.enter_async_context(hold(database, [account]))
        if number is not None:
            wanted = Jid(f"{number.removeprefix('+')}@{PHONE_SERVER}")
            if account.jid not in (None, wanted):
                raise PairingFailed(
                    f"{account.name} is linked to another number: "
                    f"take that off first with `sidestep account unlink {account.name}`"
                )
            await tenants.require_free(account, wanted)
        progress = _Progress(account, clock, as_json=as_json)
        transport = whatsapp(config, database, clock, phone=number, attended=True)(account)
        keeper = await keeper_of(config, database, account, clock)
        running = asyncio.create_task(transport.run(keeper.beside(progress.deliver)))
        refusal = None
        try:
            await _first_of(running, progress.done, stop)
            if progress.paired is not None:
                await tenants.set_paired(account, progress.paired.jid, progress.paired.lid, clock.now())
        except NumberTaken as taken:
            refusal = f"{taken}\n{await _take_back(transport)}"
        except PairingFailed as failed:
            refusal = str(failed)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        if progress.connected and refusal is None:
            await keeper.record()
        progress.finish(refusal)
        return progress.connected and refusal is None


async def keeper_of(config: Config, database: Database, account: Account, clock: Clock) -> Keeper:
    """Keeps what is heard beside the command's own work."""
    tenant = await TenantStore(database).get(account.tenant_id)
    stores = MessageStore(database), OutboxStore(database, account)
    return Keeper(account, tenant, *stores, clock, policy_of(config))


async def _first_of(running: asyncio.Task[None], *events: asyncio.Event) -> None:
    """Raises what the run has ended with."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait([running, *waits], return_when=asyncio.FIRST_COMPLETED)
    for task in waits:
        task.cancel()
    if running.done():
        running.result()


async def _take_back(transport: Transport) -> str:
    try:
        await transport.unlink()
    except NotConnected:
        return "Remove the new device on the phone: Settings > Linked devices."
    return "The new device was taken off the phone's list again."


def chosen(accounts: list[Account], name: str | None) -> Account:
    """The account of this name, or the only one. Raises AccountInUse."""
    names = ", ".join(a.name for a in accounts)
    if not accounts:
        raise AccountInUse("there is no number yet: `sidestep account add NAME` adds one")
    if name is None and len(accounts) > 1:
        raise AccountInUse(f"there are several accounts ({names}): say which with --account")
    for account in accounts:
        if name in (None, account.name):
            return account
    raise AccountInUse(f"there is no account {name!r}; there is: {names}")


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201
