"""Takes batches of messages from other systems in: records them as the past, each once; answers and sends nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from bot.importing.addresses import phone_jid, region_of, variants
from bot.importing.batch import BatchRefused, messages_of, read_message
from bot.importing.items import Item, Tally
from bot.importing.jsonlines import BadMessage
from bot.importing.recorder import Recorder
from bot.metrics import Metrics
from storage.imported import Conversation
from storage.imports import ImportStore
from storage.models import PHONE_SERVER, Account, Action, Address, Channel, Jid, Tenant
from storage.tenants import TenantStore


@dataclass(slots=True)
class Errors:
    """What was refused: the number of a message in its batch, and why."""

    found: dict[int, str] = field(default_factory=dict)

    def add(self, number: int, reason: str) -> None:
        self.found.setdefault(number, reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What became of a batch."""

    accepted: int
    duplicates: int
    errors: Mapping[int, str]
    conversations: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    conversation: Conversation
    called: str
    items: list[Item]


class Ingest:
    """Batches for the tenants of one configuration, by their names."""

    def __init__(
        self,
        store: ImportStore,
        tenants: TenantStore,
        names: Sequence[str],
        now: Callable[[], datetime],
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._tenants = tenants
        self._names = names
        self._now = now
        self._metrics = metrics

    async def take(self, body: object) -> Taken:
        """Record what can be. Raises BatchRefused where nothing can, and StoreUnavailable: it can be repeated."""
        tenant = await self._tenant(body)
        region, errors = region_of(tenant.owner), Errors()
        groups: dict[tuple[Channel, Jid], _Group] = {}
        known: dict[Jid, Jid] = {}
        for number, value in enumerate(messages_of(body)):
            try:
                conversation, item = read_message(value, number, region, self._now())
            except BadMessage as exc:
                errors.add(number, str(exc))
                continue
            conversation, item = await self._known(tenant, conversation, item, known)
            called = str((value or {}).get("external_conversation_id"))
            group = groups.setdefault(
                (conversation.channel, conversation.jid),
                _Group(conversation=conversation, called=called, items=[]),
            )
            group.items.append(item)
        account_name = body.get("account") if isinstance(body, Mapping) else None
        # Whose they are is known of all before anything is recorded.
        accounts = [await self._account(tenant, channel, account_name) for channel, _ in groups]
        told = [
            await self._record(account, group, errors)
            for account, group in zip(accounts, groups.values(), strict=True)
        ]
        accepted = sum(t["accepted"] for t in told)
        self._metrics.count_decision(Action.IMPORTED, accepted)
        return Taken(
            accepted=accepted,
            duplicates=sum(t["duplicates"] for t in told),
            errors=errors.found,
            conversations=told,
        )

    async def _tenant(self, body: object) -> Tenant:
        name = body.get("tenant") if isinstance(body, Mapping) else None
        if name is None and len(self._names) == 1:
            name = self._names[0]
        tenant = await self._tenants.find(name) if isinstance(name, str) and name in self._names else None
        if tenant is None:
            raise BatchRefused(f"tenant: say whose messages these are, one of {', '.join(self._names)}")
        return tenant

    async def _known(
        self, tenant: Tenant, conversation: Conversation, item: Item, known: dict[Jid, Jid]
    ) -> tuple[Conversation, Item]:
        """The same with the number under which the person is known, where a country writes it in two ways."""
        sender = conversation.participant or item.message.event.sender.jid
        digits, _, server = sender.partition("@")
        if server != PHONE_SERVER or len(variants(digits)) == 1:
            return conversation, item
        if sender not in known:
            found = await self._store.known_phone(tenant.tenant_id, variants(digits))
            known[sender] = phone_jid(found) if found else sender
        jid, event = known[sender], item.message.event
        if jid == sender:
            return conversation, item
        event = replace(event, sender=Address(jid=jid))
        if conversation.participant is not None:
            at = jid if conversation.jid == sender else conversation.jid
            conversation = replace(conversation, jid=at, participant=jid)
            event = replace(event, chat=Address(jid=at))
        return conversation, replace(item, message=replace(item.message, event=event))

    async def _record(self, account: Account, group: _Group, errors: Errors) -> dict[str, Any]:
        tally = Tally()
        recorder = Recorder(self._store, account, group.conversation, self._now, problems=errors, tally=tally)
        for item in group.items:
            await recorder.add(item)
        await recorder.flush()
        return {
            "platform": str(group.conversation.channel),
            "external_conversation_id": group.called,
            "accepted": tally.new,
            "duplicates": tally.known,
        }

    async def _account(self, tenant: Tenant, channel: Channel, name: object) -> Account:
        if channel is not Channel.WHATSAPP:
            return await self._store.account_of(tenant, channel, self._now())
        accounts = await self._tenants.accounts(tenant.tenant_id)
        named = [account for account in accounts if name in (None, account.name)]
        if not named:
            raise BatchRefused(
                f"account: there is none of this name; there is: {', '.join(a.name for a in accounts)}"
            )
        return named[0]
