"""A file of JSON lines: each line becomes a message of its conversation, or a problem with its place."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson

from bot.importing.addresses import conversation_of, person_jid
from bot.importing.chatfile import OLDEST, Ordinals
from bot.importing.errors import Problems
from bot.importing.items import Item, content_key
from bot.importing.jsonlines import BadMessage, MessageLine, read_line
from bot.importing.text import Readable, lines
from storage.imported import PREFIX, Conversation, PastMessage
from storage.models import Address, Author, ExternalId, InboundMessage

_AUTHORS = {"customer": Author.CUSTOMER, "owner": Author.HUMAN, "bot": Author.BOT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A message and where it was said. `account`: the name that its line has for the account, if any."""

    account: str | None
    conversation: Conversation
    item: Item


def placed(
    stream: Readable, region: str | None, now: datetime, problems: Problems, ordinals: Ordinals
) -> Iterator[Placed]:
    """Every message of the file. Lines of other kinds are passed over."""
    for number, text in enumerate(lines(stream), 1):
        if not text.strip():
            continue
        try:
            line = read_line(_json(text))
            if line is not None:
                yield place(line, number, region, now, ordinals)
        except BadMessage as exc:
            problems.add(number, str(exc))


def _json(text: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise BadMessage(f"it is not JSON: {exc.msg}") from None


def place(line: MessageLine, number: int, region: str | None, now: datetime, ordinals: Ordinals) -> Placed:
    """A line's message as it is to be recorded. Raises BadMessage."""
    try:
        conversation = conversation_of(
            line.channel, line.chat, participant=line.participant, is_group=line.group, name=line.chat_name,
            region=region,
        )  # fmt: skip
        sender = conversation.participant
        if line.who == "customer" and conversation.is_group:
            sender = person_jid(line.channel, line.sender or line.sender_name or "", region)
    except ValueError as exc:
        raise BadMessage(str(exc)) from None
    if line.sent_at > now + timedelta(days=1):
        raise BadMessage("sent_at: it is still to come")
    if line.sent_at.replace(tzinfo=None) < OLDEST:
        raise BadMessage("sent_at: it is before there was WhatsApp")
    author = _AUTHORS[line.who]
    event = InboundMessage(
        external_id=ExternalId(line.id) if line.id else _identify(line, conversation, ordinals),
        chat=Address(jid=conversation.jid),
        sender=Address(jid=sender or conversation.jid),
        sent_at=line.sent_at,
        from_me=author is not Author.CUSTOMER,
        is_group=conversation.is_group,
        type=line.type,
        text=line.text,
        reply_to=ExternalId(line.reply_to) if line.reply_to else None,
        is_history=True,
        metadata=line.metadata,
    )
    message = PastMessage(
        event=event,
        author=author,
        media_url=line.media_url,
        edited_at=line.edited_at,
        deleted_at=line.deleted_at,
    )
    item = Item(line=number, message=message, is_made=line.id is None, sender_name=_name(line))
    return Placed(account=line.account, conversation=conversation, item=item)


def _name(line: MessageLine) -> str | None:
    if line.who != "customer":
        return None
    return line.sender_name or (None if line.group else line.chat_name)


def _identify(line: MessageLine, conversation: Conversation, ordinals: Ordinals) -> ExternalId:
    who = line.who if line.who != "customer" else line.sender or ""
    minute = line.sent_at.replace(second=0, microsecond=0).timestamp()
    parts = (line.channel, conversation.jid, who, str(minute), *content_key(line.type, line.text))
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "replace"))
    number = ordinals.next(digest.digest())
    digest.update(f"\0{number}".encode())
    return ExternalId(f"{PREFIX}{digest.hexdigest()[:32]}")
