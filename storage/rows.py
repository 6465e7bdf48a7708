"""Rows and nouns: how messages, arrivals and decisions stand in PostgreSQL's columns, both ways; runs no query."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from storage.models import (
    MEDIA,
    Account,
    AccountId,
    Action,
    Arrival,
    Author,
    Changed,
    Channel,
    ChatId,
    Decision,
    Direction,
    InboundMessage,
    Jid,
    Message,
    MessageId,
    MessageType,
    Recorded,
    TenantId,
    ThreadId,
)

_OLDEST = datetime(2009, 1, 1, tzinfo=UTC)  # WhatsApp did not exist before


def decision_columns(decisions: Sequence[Decision]) -> tuple[list[int], list[str], list[str | None]]:
    """Decisions as the parallel arrays that sidestep.decide takes."""
    return (
        [d.message_id for d in decisions],
        [d.action for d in decisions],
        [d.detail for d in decisions],
    )


def message_of(row: asyncpg.Record) -> Message:
    """A message from the columns that every query of messages here selects."""
    return Message(
        tenant_id=TenantId(row["tenant_id"]),
        account_id=AccountId(row["account_id"]),
        chat_id=ChatId(row["chat_id"]),
        chat_jid=Jid(row["chat_jid"]),
        sender_jids=tuple(Jid(j) for j in (row["jid"], row["lid"]) if j),
        id=MessageId(row["id"]),
        thread_id=ThreadId(row["thread_id"]),
        direction=Direction(row["direction"]),
        author=Author(row["author"]),
        type=MessageType(row["type"]),
        external_id=row["external_id"],
        text=row["text"],
        media_url=row["media_url"],
        is_group=row["is_group"],
        addressed=row["addressed"],
        reply_to=row["reply_to"],
        command=row["command"],
        metadata=row["metadata"] or {},
        sent_at=row["sent_at"],
        edited_at=row["edited_at"],
        deleted_at=row["deleted_at"],
        sender_device=row["sender_device"],
    )


def remembered(row: asyncpg.Record) -> Message:
    """The same, with what was last decided about it."""
    action = row["last_action"]
    return replace(message_of(row), action=Action(action) if action else None)


def arrival_columns(arrivals: Sequence[Arrival], now: datetime) -> tuple[list[Any], ...]:
    """The arrivals as the parallel arrays that sidestep.record takes."""
    told = [a.takes_over for a in arrivals], [a.action for a in arrivals]
    return (*message_columns(arrivals, now), *told)


def message_columns(arrivals: Sequence[Arrival], now: datetime) -> tuple[list[Any], ...]:
    """What is said in the arrivals, as the parallel arrays that sidestep.record_past takes."""
    events = [a.event for a in arrivals]
    return (
        [e.chat.jid for e in events],
        [None if e.from_me else e.sender.jid for e in events],
        [e.sender_device for e in events],
        [e.external_id for e in events],
        [a.author for a in arrivals],
        [e.type for e in events],
        [e.is_group for e in events],
        [e.text for e in events],
        [e.reply_to for e in events],
        [addressed(e) for e in events],
        [a.command for a in arrivals],
        [clamped(e.sent_at, now) for e in events],
        [e.raw for e in events],
        [e.reply_to_me for e in events],
        [e.reply_to_sender for e in events],
        [dict(e.metadata) or None for e in events],
    )


def addressed(event: InboundMessage) -> bool:
    """Whether a message is meant for us: always in a private chat, by mention or reply in a group."""
    return not event.is_group or event.mentions_me or event.reply_to_me


def medium_of(event: InboundMessage) -> MessageType | None:
    """The type of a message whose file can be fetched. What is to be seen once is seen on the phone, and not kept."""
    is_kept = event.raw is not None and not {"view_once", "unavailable"} & event.metadata.keys()
    return event.type if event.type in MEDIA and is_kept else None


def clamped(at: datetime, now: datetime) -> datetime:
    """The platform's time, or the nearest that can be."""
    return min(max(at, _OLDEST), now + timedelta(days=1))


def recorded_of(account: Account, arrival: Arrival, row: asyncpg.Record, now: datetime) -> Recorded:
    event = arrival.event
    message = Message(
        tenant_id=account.tenant_id,
        account_id=account.account_id,
        chat_id=ChatId(row["chat_id"]),
        chat_jid=event.chat.jid,
        sender_jids=() if event.from_me else event.sender.jids,
        id=MessageId(row["id"]),
        thread_id=ThreadId(row["thread_id"]),
        direction=Direction.OUTBOUND if arrival.author is Author.HUMAN else Direction.INBOUND,
        author=arrival.author,
        type=event.type,
        external_id=event.external_id,
        text=event.text,
        is_group=event.is_group,
        addressed=addressed(event),
        reply_to=event.reply_to,
        command=arrival.command,
        metadata=event.metadata,
        # What is said again was written when it was said first.
        sent_at=row["sent_at"] or clamped(event.sent_at, now),
        sender_device=event.sender_device if event.from_me else None,
    )
    action, changed = row["action_taken"], _changed(row)
    return Recorded(
        arrival=arrival,
        # Its own id stands there when a change of it came first.
        message=message if changed is None else changed.of(message),
        is_new=row["is_new"],
        action=Action(action) if action else None,
        changed=None if changed is None or changed.message_id == message.id else changed,
    )


def _changed(row: asyncpg.Record) -> Changed | None:
    if row["changed_id"] is None:
        return None
    return Changed(
        message_id=MessageId(row["changed_id"]),
        text=row["text"],
        edited_at=row["edited_at"],
        deleted_at=row["deleted_at"],
    )


def printable(text: str) -> str:
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def event_json(event: InboundMessage) -> bytes:
    # json.dumps escapes what is no valid Unicode; orjson would refuse it.
    return json.dumps(asdict(event), default=str).encode()


def account_of(row: asyncpg.Record) -> Account:
    """An account from a row with all its columns."""
    return Account(
        tenant_id=TenantId(row["tenant_id"]),
        account_id=AccountId(row["account_id"]),
        name=row["name"],
        channel=Channel(row["channel"]),
        jid=row["jid"],
        lid=row["lid"],
        is_departing=row["is_departing"],
        moved_to=row["moved_to"],
    )
