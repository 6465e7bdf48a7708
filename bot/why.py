"""`sidestep why`: tells what happened to one message; reads only."""

from __future__ import annotations

from typing import Any

import orjson
import typer

from bot.commands import store_of
from bot.config import Config
from flows.speakers import who_spoke
from storage.decisions import explain, in_quarantine
from storage.models import (
    CHANGES,
    Action,
    Author,
    Change,
    Explanation,
    Message,
    MessageType,
    OutboxEntry,
    Quarantined,
)
from storage.sessions import SessionStore
from storage.tenants import TenantStore


async def tell(config: Config, reference: str, *, as_json: bool) -> bool:
    """Print every event that the reference may mean; False when there is none."""
    found: list[Explanation | Quarantined] = []
    async with store_of(config) as database:
        tenants = TenantStore(database)
        for wanted in config.tenants:
            if (tenant := await tenants.find(wanted.instance_name)) is not None:
                sessions = SessionStore(database, tenant)
                found += await explain(database, sessions, tenant.tenant_id, reference)
                found += await in_quarantine(database, tenant.tenant_id, reference)
    if not found:
        typer.echo(f"No message has the id {reference!r}.", err=True)
    for one in found:
        typer.echo(orjson.dumps(_as_json(one)).decode() if as_json else _as_text(one))
    return bool(found)


def _as_text(found: Explanation | Quarantined) -> str:
    return _put_aside(found) if isinstance(found, Quarantined) else _story(found)


def _put_aside(found: Quarantined) -> str:
    return (
        f"{found.external_id}, {found.received_at:%Y-%m-%d %H:%M:%S} UTC\n"
        f"  message: {Action.QUARANTINED} ({found.error}); it is kept whole in sidestep.quarantine"
    )


def _story(explanation: Explanation) -> str:
    message, chat = explanation.message, explanation.chat
    lines = [
        f"{message.external_id or message.id} ({who_spoke(message)}; {_kind(message)}) "
        f"in {chat.name or chat.phone or chat.jid}, {message.sent_at:%Y-%m-%d %H:%M:%S} UTC",
    ]
    if message.author is not Author.BOT:
        lines.append(f"  {_event(explanation)}: {_decision(explanation)}")
    lines += [f"  {_happened(change)}" for change in explanation.changes]
    for reply in explanation.replies:
        lines.append(f"  {_name(reply, message)}: {_fate(reply)}")
        lines += [f"    {_happened(change)}" for change in reply.changes]
    return "\n".join(lines)


def _name(reply: OutboxEntry, message: Message) -> str:
    if reply.id == message.id:
        return "itself"
    return f"{'revoke' if reply.type is MessageType.REVOKE else 'reply'} {reply.id}"


def _kind(message: Message) -> str:
    return f"{message.type} of {message.reply_to}" if message.type in CHANGES else message.type


def _event(explanation: Explanation) -> str:
    # The clock's decisions are numbered, as a chat may be resumed many times.
    if explanation.event_type.startswith("back:"):
        return "asked again"
    return "by the clock" if explanation.event_type.startswith("clock:") else explanation.event_type


def _decision(explanation: Explanation) -> str:
    if explanation.action is None:
        return "not decided yet"
    detail = f" ({explanation.detail})" if explanation.detail else ""
    return f"{explanation.action}{detail}, {explanation.decided_at:%H:%M:%S}"


def _fate(reply: OutboxEntry) -> str:
    words = [f"{reply.status} ({reply.error})" if reply.error else reply.status]
    moments = (("sent", reply.sent_at), ("delivered", reply.delivered_at), ("read", reply.read_at))
    words += [f"{name} at {at:%H:%M:%S}" for name, at in moments if at is not None]
    if reply.waited:
        words.append(reply.waited)
    if reply.overlapped:
        words.append("while a human was writing")
    if reply.inferred:
        words.append("by a receipt that could mean nothing else")
    return ", ".join(words)


def _happened(change: Change) -> str:
    by = f"by the {change.author} at {change.at:%H:%M:%S}"
    match change.type:
        case MessageType.EDIT:
            return f"edited {by}" + (", the new text could not be read" if change.text is None else "")
        case MessageType.REVOKE:
            return f"revoked {by}"
        case _:
            return f"reaction {change.text} {by}"


def _change_as_json(change: Change) -> dict[str, Any]:
    told = {"type": change.type, "author": change.author, "at": change.at}
    return told | ({"emoji": change.text} if change.type is MessageType.REACTION else {})


def _as_json(found: Explanation | Quarantined) -> dict[str, Any]:
    return _put_aside_as_json(found) if isinstance(found, Quarantined) else _story_as_json(found)


def _put_aside_as_json(found: Quarantined) -> dict[str, Any]:
    """The keys of a story; of what could not be recorded most are not known."""
    unknown = dict.fromkeys(("id", "chat", "author", "origin", "device", "type", "reply_to", "sent_at"))
    return unknown | {
        "external_id": found.external_id,
        "event": "message",
        "action": Action.QUARANTINED,
        "detail": found.error,
        "decided_at": found.received_at,
        "changes": [],
        "replies": [],
    }


def _story_as_json(explanation: Explanation) -> dict[str, Any]:
    message = explanation.message
    return {
        "id": str(message.id),
        "external_id": message.external_id,
        "chat": explanation.chat.jid,
        "author": message.author,
        "origin": message.origin,
        "device": message.sender_device,
        "type": message.type,
        "reply_to": message.reply_to,
        "sent_at": message.sent_at,
        "event": explanation.event_type,
        "action": explanation.action,
        "detail": explanation.detail,
        "decided_at": explanation.decided_at,
        "changes": [_change_as_json(change) for change in explanation.changes],
        "replies": [
            {
                "id": str(reply.id),
                "type": reply.type,
                "external_id": reply.external_id,
                "status": reply.status,
                "error": reply.error,
                "waited": reply.waited,
                "overlapped": reply.overlapped,
                "inferred": reply.inferred,
                "queued_at": reply.queued_at,
                "sent_at": reply.sent_at,
                "delivered_at": reply.delivered_at,
                "read_at": reply.read_at,
                "changes": [_change_as_json(change) for change in reply.changes],
            }
            for reply in explanation.replies
        ],
    }
