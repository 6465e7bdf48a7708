"""The nouns of an import: a conversation of any channel, a message of the past, what stands near it; pure data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from storage.models import Author, Channel, ChatId, ExternalId, InboundMessage, Jid, MessageId, MessageType

PREFIX = "import-"
"""Begins the ids that an import makes itself, where the file has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Where imported messages were said. `participant` is the other side's address, None of a group.

    On WhatsApp the two addresses are one; elsewhere `jid` is the platform's own name of the conversation.
    """

    channel: Channel
    jid: Jid
    participant: Jid | None
    name: str | None = None

    @property
    def is_group(self) -> bool:
        return self.participant is None


@dataclass(frozen=True, slots=True, kw_only=True)
class PastMessage:
    """A message of an import, with what only an import tells of it. `author` may be the bot."""

    event: InboundMessage
    author: Author
    media_url: str | None = None
    edited_at: datetime | None = None
    deleted_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearby:
    """A recorded message of about the same time as an imported one. `jids`, `name`: of who wrote it, none for ours."""

    id: MessageId
    external_id: ExternalId | None
    is_ours: bool
    author: Author
    type: MessageType
    text: str | None
    at: datetime
    is_deleted: bool
    jids: tuple[Jid, ...]
    name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """A recorded message, and whether its file is kept."""

    external_id: ExternalId
    chat_id: ChatId
    message_id: MessageId
    has_file: bool
