"""For scripts and jobs outside the daemon: queue a message, and the running daemon sends it within a second.

from bot.config import load
from bot.script import send_and_log
asyncio.run(send_and_log(load(), "+5511988880001", "Your cake is ready."))
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from bot.commands import store_of
from bot.config import Config
from bot.roles import phone_jid
from storage.database import Database
from storage.models import Account, MessageId, MessageType, Origin, Outgoing
from storage.outbox import OutboxStore
from storage.tenants import TenantStore


class NobodyThere(LookupError):
    """There is no such chat: Sidestep writes to nobody first."""


async def send_and_log(
    config: Config,
    to: str,
    text: str = "",
    *,
    media_url: str | None = None,
    media_type: MessageType = MessageType.TEXT,
    metadata: Mapping[str, Any] | None = None,
    fenced: bool = True,
    by_human: bool = False,
) -> MessageId:
    """Record a message to a customer who has written before, or to whom you have, and leave it to the daemon to send.

    `to` is a phone number. A fenced message is dropped when the chat is paused, or a human speaks there,
    before it has gone out; a message that must arrive all the same is sent with `fenced=False`.
    `by_human`: a person wrote it, in a program of yours: it goes out, and takes the chat over as from the phone.
    Returns its id, with which `sidestep why` and the outbox know it. Raises NobodyThere, StorageError.
    """
    outgoing = Outgoing(
        text=text, type=media_type, media_url=media_url, metadata={**(metadata or {}), "origin": Origin.API},
        fenced=fenced,
    )  # fmt: skip
    async with store_of(config) as database:
        for account in await _accounts(config, database):
            store = OutboxStore(database, account)
            chat_id = await store.chat_at(phone_jid(to))
            if chat_id is not None and by_human:
                return await store.speak(chat_id, outgoing, datetime.now(UTC))
            if chat_id is not None:
                epoch = await store.epoch(chat_id) if fenced else None
                return await store.enqueue(chat_id, outgoing, datetime.now(UTC), epoch=epoch)
    raise NobodyThere(
        "nobody with this number has written to you yet, nor you to them, and Sidestep writes to nobody first"
    )


async def _accounts(config: Config, database: Database) -> list[Account]:
    tenants = TenantStore(database)
    found = [await tenants.find(tenant.instance_name) for tenant in config.tenants]
    return [a for tenant in found if tenant is not None for a in await tenants.accounts(tenant.tenant_id)]
