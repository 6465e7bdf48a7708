"""What `sidestep export` does: a person's data, or all of a tenant's, as the JSON lines that `sidestep import` reads.

Lines of other kinds stand between the messages: what the export is, people, chats, and where files lie.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal

from bot.clock import SystemClock
from bot.commands import store_of
from bot.config import Config
from bot.importing.jsonlines import MessageLine, write_line
from bot.people import meant, tenant_of
from storage.database import Database
from storage.erasing import Erasing, Person
from storage.exporting import ExportedChat, ExportedMedium, ExportedMessage, Exporting
from storage.models import GROUP_SERVER, PHONE_SERVER, Author, Channel, Jid, Tenant
from storage.tenants import TenantStore

Line = dict[str, Any]

_WHO: dict[Author, Literal["customer", "owner", "bot"]] = {
    Author.CUSTOMER: "customer",
    Author.HUMAN: "owner",
    Author.BOT: "bot",
}


async def export(config: Config, reference: str | None, tenant_name: str | None) -> AsyncIterator[Line]:
    """Line by line, of one person or (None) of everybody. Raises PersonRefused and StorageError."""
    async with store_of(config) as database:
        tenant = await tenant_of(config, TenantStore(database), tenant_name)
        people: tuple[Person, ...] | None = None
        if reference is not None:
            erasing = Erasing(database, tenant.tenant_id, SystemClock().now)
            people = (await meant(erasing, tenant, reference)).people
        async for line in lines(database, tenant, people):
            yield line


async def lines(database: Database, tenant: Tenant, people: tuple[Person, ...] | None) -> AsyncIterator[Line]:
    """The whole file."""
    yield {"kind": "export", "format": 1, "tenant": tenant.instance_name, "exported_at": SystemClock().now()}
    for person in people or ():
        yield {
            "kind": "contact",
            "phone": None if person.phone is None else f"+{person.phone}",
            "jid": person.jid,
            "lid": person.lid,
            "name": person.name,
        }
    exporting = Exporting(
        database, tenant.tenant_id, None if people is None else [person.contact_id for person in people]
    )
    for written in await exporting.people():
        yield {"kind": "person", "name": written.name, "phone": written.phone, "username": written.username}
    for chat in await exporting.chats():
        yield _chat_line(chat)
        async for page in exporting.messages(chat):
            for message in page:
                yield message_line(chat, message)
            for medium in await exporting.media(chat, page):
                yield _medium_line(chat, medium)


def message_line(chat: ExportedChat, message: ExportedMessage) -> Line:
    """One message, as import reads it."""
    by_member = chat.is_group and message.author is Author.CUSTOMER
    return write_line(
        MessageLine.model_construct(
            channel=chat.channel,
            account=chat.account,
            chat=_chat_address(chat),
            participant=_participant(chat),
            group=chat.is_group and not _is_group_by_id(chat),
            chat_name=chat.name,
            id=message.external_id,
            who=_WHO[message.author],
            sender=_shown(message.sender[0], chat.channel) if by_member and message.sender else None,
            sender_name=message.sender_name if by_member else None,
            type=message.type,
            text=message.text,
            reply_to=message.reply_to,
            media_url=message.media_url,
            sent_at=message.sent_at,
            edited_at=message.edited_at,
            deleted_at=message.deleted_at,
            metadata=dict(message.metadata),
        )
    )


def _chat_line(chat: ExportedChat) -> Line:
    return {
        "kind": "chat",
        "channel": chat.channel,
        "account": chat.account,
        "chat": _chat_address(chat),
        "group": chat.is_group,
        "name": chat.name,
        "addresses": list(dict.fromkeys([chat.jid, *chat.person])),
        "since": chat.created_at,
    }


def _medium_line(chat: ExportedChat, medium: ExportedMedium) -> Line:
    return {
        "kind": "medium",
        "chat": _chat_address(chat),
        "message": str(medium.message_id),
        "type": medium.type,
        "status": medium.status,
        "mime": medium.mime,
        "size_bytes": medium.size_bytes,
        "name": medium.name,
        "url": medium.url,
        "moved_url": medium.moved_url,
    }


def _chat_address(chat: ExportedChat) -> str:
    if chat.channel is not Channel.WHATSAPP or chat.is_group:
        return str(chat.jid)
    return _shown(chat.person[0] if chat.person else chat.jid, chat.channel)


def _participant(chat: ExportedChat) -> str | None:
    if chat.is_group or chat.channel is Channel.WHATSAPP or not chat.person:
        return None
    return _shown(chat.person[0], chat.channel)


def _is_group_by_id(chat: ExportedChat) -> bool:
    return chat.jid.endswith(f"@{GROUP_SERVER}")


def _shown(jid: Jid, channel: Channel) -> str:
    """A number, or whatever else import takes for the same person."""
    user, _, server = jid.partition("@")
    if server == PHONE_SERVER:
        return f"+{user}"
    return user if channel is not Channel.WHATSAPP and server == channel else str(jid)
