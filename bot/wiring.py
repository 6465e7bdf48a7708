"""The wiring: the only module that names every concrete class, and hands each room what it needs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog

from bot.clock import Clock
from bot.config import Config
from bot.config.models import Rate as RateKeys
from bot.daemon import Daemon, lines_of
from bot.desk.stores import Stores
from bot.elsewhere import refusal_to_serve, told
from bot.events import Events
from bot.importing.ingest import Ingest
from bot.line import Line, Pairing
from bot.media.fetcher import MediaFetcher
from bot.media.keeper import Keeper
from bot.media.shelf import Shelf
from bot.metrics import Metrics, TokenKind
from bot.pipeline import Pipeline
from bot.policy import Loops, Pace, Policy, Rate
from bot.post import Post
from bot.reader import StoreReader
from bot.scheduler import Scheduler
from bot.storewatch import StoreWatch
from bot.telling import tell_log, tell_metrics
from bot.transports.base import Transport
from flows.ai.chat import ChatFlow
from flows.ai.model import Usage
from flows.ai.providers import build_model
from flows.keywords import KeywordFlow, KeywordRule
from flows.registry import Flows
from storage.automatic import AutomaticStore
from storage.database import Database
from storage.imports import ImportStore
from storage.lease import Lease, Leases
from storage.messages import MessageStore
from storage.models import Account, ResumeMode, Tenant, TenantId
from storage.outbox import OutboxStore
from storage.reading.source import Replica
from storage.sessions import SessionStore
from storage.tenants import TenantStore

log = structlog.get_logger(__name__)

_FOR_EVER = timedelta(days=36_500)

_LEASE = timedelta(seconds=5)
"""After so long without a word a daemon's accounts are another's; by then it has disconnected, see bot.storewatch."""
_ERRAND = timedelta(hours=1)
"""Longer than pairing or moving a number takes: nobody renews these, and who ends lets go."""

MakeTransport = Callable[[Account], Transport]


class AccountInUse(Exception):
    """This account cannot be served: another daemon has it, or there is none of this name."""


@asynccontextmanager
async def wire(
    config: Config,
    database: Database,
    clock: Clock,
    make_transport: MakeTransport,
    pairing: Pairing,
    *,
    events: Events | None = None,
    metrics: Metrics | None = None,
    keeper: Keeper | None = None,
    replica: Replica | None = None,
    stand_by: bool = False,
) -> AsyncIterator[Daemon]:
    """A daemon for every account of the configuration's tenants, ready to run. Without a keeper no media are fetched.

    Searches and statistics are read from the replica, if there is one. An account that another daemon serves is waited
    for by who may `stand_by`.

    Raises AccountInUse for it otherwise, and flows.errors.ConfigError.
    """
    events, metrics = events or Events(), metrics or Metrics()
    events.listen(tell_log())
    events.listen(tell_metrics(metrics, clock))
    tenants = TenantStore(database)
    flows = build_flows(config, metrics)
    served = await _to_serve(config, tenants, clock)
    tenant_of = {account.account_id: tenant for tenant, account in served}

    async def line_of(lease: Lease) -> Line:
        tenant, account = tenant_of[lease.account.account_id], await tenants.account(lease.account)
        transport = make_transport(account)
        media = None
        if keeper is not None:
            most_bytes = config.media.max_size if config.media.download else None
            media = MediaFetcher(account, transport, database, keeper, clock, metrics, most_bytes=most_bytes)
        pipeline = Pipeline(
            account=account, tenant=tenant, stores=_stores(database, tenants, tenant, lease, replica),
            transport=transport, flows=flows, clock=clock, policy=policy_of(config), events=events,
            metrics=metrics, media_noted=media.wake if media else lambda: None,
        )  # fmt: skip
        return Line(
            transport=transport, pipeline=pipeline, media=media, tenants=tenants, clock=clock,
            metrics=metrics, pairing=pairing,
        )  # fmt: skip

    accounts = [account for _, account in served]
    _require_settled(accounts)
    leases = Leases(database, accounts, _LEASE, to_serve=True)
    try:
        await leases.keep()
        if not stand_by:
            _require_all(leases)
        posts = [Post(lease, line_of, clock, metrics) for lease in leases.each]
        scheduler = Scheduler(lambda: [line.pipeline for line in lines_of(posts)], clock, metrics)
        watch = StoreWatch(database, leases, lambda: lines_of(posts), clock)
        yield Daemon(posts, scheduler, watch, clock)
    finally:
        await leases.release()
        await close_flows(flows)


async def _to_serve(config: Config, tenants: TenantStore, clock: Clock) -> list[tuple[Tenant, Account]]:
    """Raises AccountInUse where there is none: none at all, or the links of all are in other databases."""
    here: list[tuple[Tenant, Account]] = []
    moved: list[Account] = []
    for tenant in await seed(config, tenants, clock):
        for account in await tenants.accounts(tenant.tenant_id):
            if account.moved_to is None:
                here.append((tenant, account))
            else:
                moved.append(account)
                log.warning(
                    "account_served_elsewhere",
                    account=account.name,
                    place=account.moved_to,
                    advice=told(account),
                )
    if not here:
        raise AccountInUse(refusal_to_serve(moved))
    return here


async def seed(config: Config, tenants: TenantStore, clock: Clock) -> list[Tenant]:
    """Bring the configuration's tenants into the database; says where the database has overruled it."""
    seeded = []
    for wanted in config.tenants:
        tenant, overruled = await tenants.seed(
            Tenant(
                tenant_id=TenantId(0),
                instance_name=wanted.instance_name,
                owner=wanted.owner,
                admins=wanted.admins,
                system_prompt=wanted.system_prompt,
                llm_provider=wanted.llm_provider,
                auto_resume_after=wanted.auto_resume_after,
                timezone=wanted.timezone,
                hours=wanted.hours.as_hours() if wanted.hours else None,
                retention=wanted.retention,
                notify=wanted.notify.as_notify(),
                resume_mode=ResumeMode(wanted.resume_mode) if wanted.resume_mode else None,
            ),
            clock.now(),
        )
        if overruled:
            log.warning("config_overruled_by_database", tenant=tenant.instance_name, keys=list(overruled))
        seeded.append(tenant)
    return seeded


def build_flows(config: Config, metrics: Metrics) -> Flows:
    """The flows that the configuration asks for. A provider without a key is left out: its tenants get the default."""
    keywords = KeywordFlow(
        [KeywordRule(match=rule.match, answer=rule.answer) for rule in config.flows.keywords],
        config.flows.default,
    )

    def count(provider: str, model: str, usage: Usage) -> None:
        metrics.count_tokens(provider, model, TokenKind.INPUT, usage.input_tokens)
        metrics.count_tokens(provider, model, TokenKind.CACHED, usage.cached_tokens)
        metrics.count_tokens(provider, model, TokenKind.CACHE_WRITE, usage.cache_write_tokens)
        metrics.count_tokens(provider, model, TokenKind.OUTPUT, usage.output_tokens)

    ai: dict[str, ChatFlow] = {}
    for provider in {tenant.llm_provider for tenant in config.tenants} - {"none"}:
        if not config.ai.is_usable(provider):
            log.warning("model_not_configured", provider=provider, answer="flows.default")
            continue
        key = config.ai.api_key(provider)
        model = build_model(
            provider,
            api_key=key.get_secret_value() if key else None,
            model=config.ai.model,
            base_url=config.ai.base_url.get_secret_value() if config.ai.base_url else None,
            api=config.ai.api,
            effort=config.ai.effort,
            deadline=config.ai.deadline,
        )
        ai[provider] = ChatFlow(
            model=model,
            on_usage=count,
            max_tokens=config.ai.max_tokens,
            history=config.ai.history,
            hand_off=model.knows_tools if config.ai.hand_off is None else config.ai.hand_off,
            fallback=config.flows.default.strip() if config.ai.fallback == "default" else "",
        )
    return Flows(keywords=keywords, ai=ai, texts=config.flows.texts.as_texts())


async def close_flows(flows: Flows) -> None:
    """Close the connections to the models."""
    for flow in flows.ai.values():
        if isinstance(flow, ChatFlow):
            await flow.model.aclose()


def whatsapp(
    config: Config, database: Database, clock: Clock, *, phone: str | None = None, attended: bool = False
) -> MakeTransport:
    """Makes WhatsApp transports whose sessions live in our database.

    `phone`: pair by a code for this number. `attended`: whoever pairs stands by, and is told when it takes too long.
    """
    # Loading the library takes a second and 30 MB: only what connects needs it.
    from bot.transports.whatsapp.client import WhatsAppTransport

    proxy = config.whatsapp.proxy

    def make(account: Account) -> Transport:
        return WhatsAppTransport(
            account=account.name,
            store_dsn=database.address.url,
            jid=account.jid,
            proxy=proxy.get_secret_value() if proxy else None,
            history=config.whatsapp.history,
            clock=clock.now,
            phone=phone,
            attended=attended,
        )

    return make


def ingest(config: Config, database: Database, clock: Clock, metrics: Metrics) -> Ingest:
    """Takes other systems' batches in, for the configuration's tenants."""
    names = [tenant.instance_name for tenant in config.tenants]
    return Ingest(ImportStore(database), TenantStore(database), names, clock.now, metrics)


async def session_tables(database: Database) -> None:
    """Let the WhatsApp library make its tables in this database, or bring them up to its version."""
    from bot.transports.whatsapp.session import make_tables

    await make_tables(database.address.url)


def keeper_of(config: Config, database: Database) -> Keeper:
    """Who keeps the files of this database's media. Raises bot.media.places.PlaceRefused."""
    return Keeper(database, Shelf(config))


def policy_of(config: Config) -> Policy:
    """The path's numbers, from the configuration's."""

    def rate(wanted: RateKeys | None) -> Rate | None:
        return None if wanted is None else Rate(burst=wanted.burst, every=wanted.every)

    return Policy(
        debounce=config.pace.debounce,
        longest_debounce=config.pace.max_debounce,
        max_age=config.answer.max_age or _FOR_EVER,
        typing_speed=config.pace.chars_per_second if config.pace.typing else None,
        longest_typing=config.pace.max_typing,
        groups=config.answer.groups == "mention",
        takeover_in_groups=config.takeover.groups,
        takes_commands_back=config.takeover.revoke_commands,
        ignored_texts=config.takeover.ignore,
        learns_automatic=config.takeover.learn_automatic,
        retention=config.store.retention,
        raw_retention=config.store.raw_retention,
        index_json=config.store.index_json,
        loops=Loops(
            rounds=config.answer.loop_rounds,
            within=config.answer.loop_within,
            repeats=config.answer.loop_repeats,
            pause=config.answer.loop_pause,
            same_answer=config.answer.same_answer,
        ),
        pace=Pace(
            per_chat=rate(config.pace.per_chat),
            per_account=rate(config.pace.per_account),
            daily=config.pace.daily,
            first_day=config.pace.first_day,
        ),
    )


def _stores(
    database: Database, tenants: TenantStore, tenant: Tenant, lease: Lease, replica: Replica | None
) -> Stores:
    messages, sessions = MessageStore(database), SessionStore(database, tenant)
    return Stores(
        database=database,
        tenants=tenants,
        messages=messages,
        sessions=sessions,
        outbox=OutboxStore(database, lease.account, lease),
        automatic=AutomaticStore(database, lease.account.tenant_id),
        reader=StoreReader(database, messages, sessions, tenant, replica),
    )


@asynccontextmanager
async def hold(database: Database, accounts: Sequence[Account]) -> AsyncIterator[None]:
    """Keep other processes from serving these accounts. Raises AccountInUse."""
    _require_settled(accounts)
    leases = Leases(database, accounts, _ERRAND)
    try:
        await leases.keep()
        _require_all(leases)
        yield
    finally:
        await leases.release()


def _require_settled(accounts: Sequence[Account]) -> None:
    if departing := next((account for account in accounts if account.is_departing), None):
        raise AccountInUse(
            f"the account {departing.name!r} is on its way to another database: finish that first, by repeating "
            f"sidestep account move {departing.name} --to …"
        )


def _require_all(leases: Leases) -> None:
    if other := next((lease for lease in leases.each if not lease.is_ours), None):
        raise AccountInUse(
            f"the account {other.account.name!r} is already served by another sidestep (run, pair, …) on this "
            f"database: stop that one first. It is {other.holder}"
        )
