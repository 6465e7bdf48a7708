"""What `sidestep account` does: lists the numbers, adds one, takes one off WhatsApp, moves it, gives it up.

Each of them refuses an account that a daemon serves: a session has one user at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

from pydantic import TypeAdapter, ValidationError

from bot.clock import Clock, SystemClock
from bot.commands import store_of
from bot.config import Config
from bot.config.values import Name
from bot.elsewhere import told
from bot.pair import keeper_of
from bot.transports.base import ConnectionChanged, ConnectionState, NotConnected, TransportEvent
from bot.wiring import hold, seed, session_tables, whatsapp
from storage.accounts import AccountOverview, AccountRefused, AccountStore
from storage.address import read_address
from storage.database import Database
from storage.errors import BadDatabaseUrl
from storage.models import Account, Channel, Jid, Tenant
from storage.store import open_store
from storage.tenants import TenantStore

_REACH_SECONDS = 15.0
# After a login comes what has waited: it is all here when nothing has come for so long, and at most so long is waited.
_QUIET_SECONDS, _LONGEST_WAIT_SECONDS = 2.0, 10.0
# On the way to an answer: what comes next may be any other.
_UNDECIDED = (ConnectionState.STARTING, ConnectionState.RECONNECTING, ConnectionState.STOPPED)
_ON_THE_PHONE = "on the phone: Settings > Linked devices"


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """One database, with the configuration's tenants in it."""

    database: Database
    tenants: TenantStore
    accounts: AccountStore
    clock: Clock

    async def find(self, name: str) -> AccountOverview:
        """Raises AccountRefused."""
        overviews = await self.accounts.list()
        for overview in overviews:
            if overview.account.name == name:
                return overview
        names = ", ".join(overview.account.name for overview in overviews)
        if not names:
            raise AccountRefused("there is no number yet: `sidestep account add NAME` adds one")
        raise AccountRefused(f"there is no account {name!r}; there is: {names}")


@asynccontextmanager
async def books(config: Config) -> AsyncIterator[Books]:
    """The configured database's."""
    clock = SystemClock()
    async with store_of(config) as database:
        tenants = TenantStore(database)
        await seed(config, tenants, clock)
        yield Books(database=database, tenants=tenants, accounts=AccountStore(database), clock=clock)


async def overview(config: Config) -> list[str]:
    """A line for each account, or what to do when there is none."""
    async with books(config) as kept:
        lines = [_line(each) for each in await kept.accounts.list()]
    return lines or ["there is no number: sidestep account add NAME adds one"]


def _line(each: AccountOverview) -> str:
    account = each.account
    parts = [account.name, f"tenant {each.tenant}", _state(each)]
    if account.jid is not None:
        parts.append(masked(account.jid))
    if each.has_session and each.paired_at is not None:
        parts.append(f"since {each.paired_at:%Y-%m-%d %H:%M} UTC")
    return " · ".join(parts)


def _state(each: AccountOverview) -> str:
    account = each.account
    if account.channel is not Channel.WHATSAPP:
        return f"{account.channel}: recorded for, by import and POST /api/messages, and not served"
    if account.is_departing:
        return "on its way to another database: repeat `sidestep account move`"
    if (elsewhere := told(account)) is not None:
        return elsewhere
    if each.has_session:
        return "linked"
    link = f"link it with `sidestep pair --account {account.name}`"
    return f"not linked: {link}" if account.jid is None else f"logged out: {link}"


def masked(jid: Jid) -> str:
    """Enough of a number to tell it from one's others."""
    digits = jid.partition("@")[0]
    return f"+{digits[:2]}…{digits[-4:]}"


async def add(config: Config, name: str, tenant_name: str | None) -> str:
    try:
        TypeAdapter[str](Name).validate_python(name)
    except ValidationError as exc:
        reason = exc.errors(include_input=False, include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise AccountRefused(f"the name {reason}") from exc
    async with books(config) as kept:
        tenant = await _tenant(kept, config, tenant_name)
        await kept.accounts.add(tenant.tenant_id, name, kept.clock.now())
    return (
        f"{name} is an account of {tenant.instance_name} now. Link its number: sidestep pair --account {name}. "
        "A daemon that runs already serves it once it is started again."
    )


async def _tenant(kept: Books, config: Config, name: str | None) -> Tenant:
    names = [tenant.instance_name for tenant in config.tenants]
    if name is None and len(names) != 1:
        raise AccountRefused(f"there are several tenants ({', '.join(names)}): say whose with --tenant")
    tenant = await kept.tenants.find(name or names[0])
    if tenant is None:
        raise AccountRefused(f"there is no tenant {name!r}; there is: {', '.join(names)}")
    return tenant


async def remove(config: Config, name: str) -> str:
    async with books(config) as kept:
        found = await kept.find(name)
        async with hold(kept.database, [found.account]):
            if found.account.jid is not None:
                raise AccountRefused(
                    f"{name} is linked: first take it off, with sidestep account unlink {name}"
                )
            await kept.accounts.remove(found.account, kept.clock.now())
    return f"{name} is not served any more; its messages stay. sidestep account add {name} brings it back."


async def unlink(config: Config, name: str, *, force: bool) -> str:
    async with books(config) as kept:
        account = (await kept.find(name)).account
        # What is on its way to another database may have arrived there: only who knows better gives it up here.
        async with hold(kept.database, [_at_rest(account) if force else account]):
            if account.jid is None:
                return f"{name} is not linked."
            linked = await kept.accounts.session_device(account.jid) is not None
            if account.moved_to is not None and not force:
                raise AccountRefused(
                    f"the link of {name} is in {account.moved_to}: unlink it there, or forget it here with --force"
                )
            elsewhere = account.is_departing or account.moved_to is not None
            is_told = await _tell_whatsapp(config, kept, account) if linked else not elsewhere
            if not is_told and not force:
                raise AccountRefused(
                    f"WhatsApp could not be told that {name} is unlinked; nothing has changed. Try again, or forget it "
                    f"here alone with --force and then remove the device {_ON_THE_PHONE}"
                )
            await kept.accounts.forget(account)
    if not is_told:
        return f"{name} is forgotten here. WhatsApp does not know: remove the device {_ON_THE_PHONE}."
    return f"{name} is unlinked. Link a number again: sidestep pair --account {name}"


async def _tell_whatsapp(config: Config, kept: Books, account: Account) -> bool:
    """Whether WhatsApp has taken the device off, or had done so before."""
    decided: asyncio.Future[ConnectionState] = asyncio.get_running_loop().create_future()
    heard = asyncio.Event()

    def deliver(event: TransportEvent) -> None:
        heard.set()
        match event:
            case ConnectionChanged() if event.connection.state not in _UNDECIDED and not decided.done():
                decided.set_result(event.connection.state)
            case _:
                pass

    transport = whatsapp(config, kept.database, kept.clock)(account)
    keeper = await keeper_of(config, kept.database, account, kept.clock)
    running = asyncio.create_task(transport.run(keeper.beside(deliver)))
    try:
        async with asyncio.timeout(_REACH_SECONDS):
            state = await decided
        if state is ConnectionState.CONNECTED:
            # WhatsApp delivers first what has waited, and after the end of the link never again.
            await _quiet(heard)
        async with asyncio.timeout(_REACH_SECONDS):
            if state is ConnectionState.CONNECTED:
                await transport.unlink()
            elif state is not ConnectionState.LOGGED_OUT:
                # The library shows codes where WhatsApp has taken the device off before.
                return state is ConnectionState.PAIRING
            # To its own end, since what WhatsApp has delivered by now is still on its way through the library.
            await running
            return True
    except (TimeoutError, NotConnected):
        return False
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await keeper.record()


async def _quiet(heard: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(_LONGEST_WAIT_SECONDS):
            while True:
                heard.clear()
                await asyncio.wait_for(heard.wait(), _QUIET_SECONDS)


async def move(config: Config, name: str, to: str) -> str:
    """The session leaves this database before it is in the other, where it arrives once: repeat what broke off."""
    try:
        there = read_address(to).place
    except BadDatabaseUrl as exc:
        raise AccountRefused(f"the database that --to names cannot be read: it {exc.problem}") from exc
    async with books(config) as kept, open_store(to, config.database.dir) as database:
        found = await kept.find(name)
        if there == kept.database.address.place:
            raise AccountRefused(f"{name} is in {there} already")
        # The library makes and upgrades its tables: on both sides, so that they are alike.
        for each in (kept.database, database):
            await session_tables(each)
        async with hold(kept.database, [_at_rest(found.account)]):
            tenants, accounts = TenantStore(database), AccountStore(database)
            target = await _counterpart(kept, found, tenants, accounts)
            async with hold(database, [target]):
                if not found.account.is_departing and found.account.jid is not None:
                    await accounts.require_room(target, found.account.jid)
                await accounts.arrive(target, await kept.accounts.depart(found.account, there))
                await kept.accounts.forget(found.account, moved_to=there)
    return (
        f"{name} is in {there} now, and served here no more. Start the daemon with that DATABASE_URL: it goes on "
        "without a new pairing."
    )


def _at_rest(account: Account) -> Account:
    """Who finishes a move may hold the account, and nobody else."""
    return replace(account, is_departing=False)


async def _counterpart(
    kept: Books, found: AccountOverview, tenants: TenantStore, accounts: AccountStore
) -> Account:
    """The account of the same name over there, made if there is none."""
    there = {each.account.name: each for each in await accounts.list()}
    same = there.get(found.account.name)
    if same is not None:
        return same.account
    tenant = await tenants.find(found.tenant)
    if tenant is None:
        tenant, _ = await tenants.seed(await kept.tenants.get(found.account.tenant_id), kept.clock.now())
        # It comes with an account of its own name.
        return await _counterpart(kept, found, tenants, accounts)
    return await accounts.add(tenant.tenant_id, found.account.name, kept.clock.now())
