"""`sidestep why`: tells what happened to one message; reads only."""

from __future__ import annotations

from typing import Any

import orjson
import typer

from bot.cli import store_of
from bot.config import Config
from storage.decisions import explain
from storage.models import Explanation, OutboxEntry
from storage.sessions import SessionStore
from storage.tenants import TenantStore


async def tell(config: Config, reference: str, *, as_json: bool) -> bool:
    """Print every event that the reference may mean; False when there is none."""
    found: list[Explanation] = []
    async with store_of(config) as database:
        tenants = TenantStore(database)
        for wanted in config.tenants:
            if (tenant := await tenants.find(wanted.instance_name)) is not None:
                sessions = SessionStore(database, tenant)
                found += await explain(database, sessions, tenant.tenant_id, reference)
    if not found:
        typer.echo(f"No message has the id {reference!r}.", err=True)
    for explanation in found:
        typer.echo(orjson.dumps(_as_json(explanation)).decode() if as_json else _as_text(explanation))
    return bool(found)


def _as_text(explanation: Explanation) -> str:
    message, chat = explanation.message, explanation.chat
    lines = [
        f"{message.external_id or message.id} ({message.author}, {message.type}) "
        f"in {chat.name or chat.phone or chat.jid}, {message.sent_at:%Y-%m-%d %H:%M:%S} UTC",
        f"  {explanation.event_type}: {_decision(explanation)}",
    ]
    lines += [f"  reply {reply.id}: {_fate(reply)}" for reply in explanation.replies]
    return "\n".join(lines)


def _decision(explanation: Explanation) -> str:
    if explanation.action is None:
        return "not decided yet"
    detail = f" ({explanation.detail})" if explanation.detail else ""
    return f"{explanation.action}{detail}, {explanation.decided_at:%H:%M:%S}"


def _fate(reply: OutboxEntry) -> str:
    words = [f"{reply.status},"]
    if reply.error:
        words.append(f"({reply.error})")
    moments = (("sent", reply.sent_at), ("delivered", reply.delivered_at), ("read", reply.read_at))
    words += [f"{name} at {at:%H:%M:%S}" for name, at in moments if at is not None]
    if reply.overlapped:
        words.append("while a human was writing")
    if reply.inferred:
        words.append("by a receipt that could mean nothing else")
    return " ".join(words)


def _as_json(explanation: Explanation) -> dict[str, Any]:
    message = explanation.message
    return {
        "id": str(message.id),
        "external_id": message.external_id,
        "chat": explanation.chat.jid,
        "author": message.author,
        "type": message.type,
        "sent_at": message.sent_at,
        "event": explanation.event_type,
        "action": explanation.action,
        "detail": explanation.detail,
        "decided_at": explanation.decided_at,
        "replies": [
            {
                "id": str(reply.id),
                "external_id": reply.external_id,
                "status": reply.status,
                "error": reply.error,
                "overlapped": reply.overlapped,
                "inferred": reply.inferred,
                "queued_at": reply.queued_at,
                "sent_at": reply.sent_at,
                "delivered_at": reply.delivered_at,
                "read_at": reply.read_at,
            }
            for reply in explanation.replies
        ],
    }
