"""The wiring: the only module that names every concrete class, and hands each room what it needs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog

from bot.clock import Clock
from bot.config import Config
from bot.daemon import Daemon, Pairing
from bot.desk import Stores
from bot.events import Events
from bot.metrics import Metrics, TokenKind
from bot.pipeline import Pipeline
from bot.policy import Policy
from bot.reader import StoreReader
from bot.scheduler import Scheduler
from bot.storewatch import Line, StoreWatch
from bot.telling import tell_log, tell_metrics
from bot.transports.base import Transport
from flows.ai.chat import ChatFlow
from flows.ai.model import Usage
from flows.ai.providers import build_model
from flows.keywords import KeywordFlow, KeywordRule
from flows.registry import Flows
from storage.database import Database
from storage.hold import Hold
from storage.messages import MessageStore
from storage.models import Account, Tenant, TenantId
from storage.outbox import OutboxStore
from storage.sessions import SessionStore
from storage.tenants import TenantStore

log = structlog.get_logger(__name__)

_FOR_EVER = timedelta(days=36_500)

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
) -> AsyncIterator[Daemon]:
    """A daemon for every account of the configuration's tenants, ready to run.

    Raises AccountInUse when another daemon serves one of them, and flows.errors.ConfigError.
    """
    events, metrics = events or Events(), metrics or Metrics()
    events.listen(tell_log())
    events.listen(tell_metrics(metrics, clock))
    tenants = TenantStore(database)
    flows = build_flows(config, metrics)
    lines: list[Line] = []
    served = [(t, a) for t in await seed(config, tenants, clock) for a in await tenants.accounts(t.tenant_id)]
    async with hold(database, [account for _, account in served]) as held:
        for tenant, account in served:
            transport = make_transport(account)
            stores = _stores(database, tenants, tenant, account)
            pipeline = Pipeline(
                account=account, tenant=tenant, stores=stores, transport=transport, flows=flows, clock=clock,
                policy=policy_of(config), events=events, metrics=metrics,
            )  # fmt: skip
            lines.append(Line(transport=transport, pipeline=pipeline))
        scheduler = Scheduler([line.pipeline for line in lines], clock, metrics)
        watch = StoreWatch(database, held, lines, clock)
        try:
            yield Daemon(lines, tenants, scheduler, watch, clock, metrics, pairing)
        finally:
            await close_flows(flows)


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
            model=model, on_usage=count, max_tokens=config.ai.max_tokens, history=config.ai.history
        )
    return Flows(keywords=keywords, ai=ai)


async def close_flows(flows: Flows) -> None:
    """Close the connections to the models."""
    for flow in flows.ai.values():
        if isinstance(flow, ChatFlow):
            await flow.model.aclose()


def whatsapp(config: Config, database: Database, clock: Clock) -> MakeTransport:
    """Makes WhatsApp transports whose sessions live in our database."""
    # Loading the library takes a second and 30 MB: only what connects needs it.
    from bot.transports.whatsapp.client import WhatsAppTransport

    proxy = config.whatsapp.proxy

    def make(account: Account) -> Transport:
        return WhatsAppTransport(
            account=account.name,
            store_dsn=database.address.url,
            jid=account.jid,
            proxy=proxy.get_secret_value() if proxy else None,
            clock=clock.now,
        )

    return make


def policy_of(config: Config) -> Policy:
    """The path's numbers, from the configuration's."""
    return Policy(
        debounce=config.pace.debounce,
        longest_debounce=config.pace.max_debounce,
        max_age=config.answer.max_age or _FOR_EVER,
        typing_speed=config.pace.chars_per_second if config.pace.typing else None,
        longest_typing=config.pace.max_typing,
        groups=config.answer.groups == "mention",
        takeover_in_groups=config.takeover.groups,
    )


def _stores(database: Database, tenants: TenantStore, tenant: Tenant, account: Account) -> Stores:
    messages, sessions = MessageStore(database), SessionStore(database, tenant)
    return Stores(
        database=database,
        tenants=tenants,
        messages=messages,
        sessions=sessions,
        outbox=OutboxStore(database, account),
        reader=StoreReader(database, messages, sessions, tenant),
    )


@asynccontextmanager
async def hold(database: Database, accounts: Sequence[Account]) -> AsyncIterator[Hold]:
    """Keep other processes from serving these accounts. Raises AccountInUse."""
    held = Hold(database, accounts)
    try:
        if (account := await held.take()) is not None:
            raise AccountInUse(
                f"the account {account.name!r} is already served by another sidestep on this database: "
                "stop that one first"
            )
        yield held
    finally:
        await held.release()
