"""The batches of `POST /api/messages`: what each message says and where it was said, or why it is refused; no I/O.

A batch names the platform, the conversation and its participant once, for all its messages, or at each of them; one
body may hold several conversations. docs/import.md is the format's specification.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import orjson
from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from bot.importing.addresses import conversation_of, person_jid
from bot.importing.chatfile import OLDEST
from bot.importing.items import Item
from bot.importing.jsonlines import BadMessage, Id, Name, Text, Time, Url, told
from storage.imported import Conversation, PastMessage
from storage.models import CHANGES, Address, Author, Channel, ExternalId, InboundMessage, MessageType

MOST_MESSAGES = 1_000
"""In one request, over all its conversations."""

_SHARED = (
    "platform", "external_conversation_id", "participant", "participant_identifier", "participant_name", "group",
    "conversation_name",
)  # fmt: skip
_TYPES = {
    "photo": "image",
    "gif": "video",
    "voice": "audio",
    "ptt": "audio",
    "file": "document",
    "conversation": "text",
}
_DIRECTIONS = {"incoming": "inbound", "outgoing": "outbound", "received": "inbound", "sent": "outbound"}


class BatchRefused(Exception):
    """The body is no batch; nothing of it was recorded. The text says what is wrong with it."""


def _word(names: Mapping[str, str]) -> BeforeValidator:
    def read(value: object) -> object:
        word = value.strip().casefold() if isinstance(value, str) else value
        return names.get(word, word) if isinstance(word, str) else word

    return BeforeValidator(read)


def _text(value: object) -> object:
    # Some platforms number their messages, conversations and people.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


_AnyId = Annotated[Id, BeforeValidator(_text)]


class BatchMessage(BaseModel):
    """One message with what its batch says for all. Keys beyond these are kept in its payload."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    platform: Annotated[Channel, _word({})]
    external_conversation_id: _AnyId
    participant_identifier: _AnyId | None = Field(
        None, validation_alias=AliasChoices("participant_identifier", "participant")
    )
    participant_name: Name | None = None
    group: bool = False
    conversation_name: Name | None = None
    id: _AnyId
    direction: Annotated[Literal["inbound", "outbound"], _word(_DIRECTIONS)]
    type: Annotated[MessageType, _word(_TYPES)] = MessageType.TEXT
    content: Text | None = None
    media_url: Url | None = None
    sent_at: Time
    sender: _AnyId | None = None
    sender_name: Name | None = None
    reply_to: _AnyId | None = None


def messages_of(body: object) -> list[dict[str, Any] | None]:
    """Every message of a body, in order, each with what its batch says for all; None for what is no object.

    Raises BatchRefused.
    """
    found = list(_messages(body, {}, depth=0))
    if not found:
        raise BatchRefused("there are no messages in it")
    if len(found) > MOST_MESSAGES:
        raise BatchRefused(f"there are more than {MOST_MESSAGES} messages in it: send several batches")
    return found


def _messages(body: object, shared: Mapping[str, Any], *, depth: int) -> Iterator[dict[str, Any] | None]:
    if isinstance(body, Sequence) and not isinstance(body, str):
        for each in body:
            yield from _messages(each, shared, depth=depth + 1)
        return
    if not isinstance(body, Mapping):
        if depth == 0:
            raise BatchRefused("it should be an object with messages, or a list of such")
        yield None
        return
    inner = next(
        (body[key] for key in ("conversations", "messages") if isinstance(body.get(key), list)), None
    )
    if inner is not None and depth < 4:
        here = _flat({key: body[key] for key in _SHARED if body.get(key) is not None})
        yield from _messages(inner, {**shared, **here}, depth=depth + 1)
    elif depth == 0:
        raise BatchRefused("it has no list of messages")
    else:
        own = _flat(body)
        # Whoever names a participant anew means another one, by whichever key.
        named = {"participant", "participant_identifier"}
        kept = {key: value for key, value in shared.items() if not (key in named and named & own.keys())}
        yield {**kept, **own}


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """A participant may be an object, too."""
    flat = dict(values)
    person = flat.get("participant")
    if isinstance(person, Mapping):
        del flat["participant"]
        who = next(
            (person[key] for key in ("identifier", "phone", "username", "id") if person.get(key)), None
        )
        if who is not None:
            flat["participant_identifier"] = who
        if person.get("name") is not None:
            flat["participant_name"] = person["name"]
    return flat


def read_message(
    value: dict[str, Any] | None, number: int, region: str | None, now: datetime
) -> tuple[Conversation, Item]:
    """What is to be recorded of one message. Raises BadMessage."""
    if value is None:
        raise BadMessage("it is no JSON object")
    try:
        message = BatchMessage.model_validate(value)
    except ValidationError as exc:
        raise BadMessage(told(exc)) from None
    _check(message, now)
    try:
        conversation = conversation_of(
            message.platform, message.external_conversation_id, participant=message.participant_identifier,
            is_group=message.group, name=message.conversation_name, region=region,
        )  # fmt: skip
        sender = conversation.participant
        if sender is None:
            who = message.sender or message.participant_identifier or message.sender_name
            sender = person_jid(message.platform, who or "somebody", region)
    except ValueError as exc:
        raise BadMessage(str(exc)) from None
    return conversation, _item(message, value, conversation, Address(jid=sender), number)


def _item(
    message: BatchMessage, value: dict[str, Any], conversation: Conversation, sender: Address, number: int
) -> Item:
    from_me = message.direction == "outbound"
    event = InboundMessage(
        external_id=ExternalId(message.id),
        chat=Address(jid=conversation.jid),
        sender=sender,
        sent_at=message.sent_at,
        from_me=from_me,
        is_group=conversation.is_group,
        type=message.type,
        text=message.content,
        reply_to=ExternalId(message.reply_to) if message.reply_to else None,
        is_history=True,
        raw=orjson.dumps(value).decode(),
    )
    name = message.sender_name if conversation.is_group else message.participant_name
    return Item(
        line=number,
        message=PastMessage(
            event=event, author=Author.HUMAN if from_me else Author.CUSTOMER, media_url=message.media_url
        ),
        sender_name=name,
    )


def _check(message: BatchMessage, now: datetime) -> None:
    if message.sent_at > now + timedelta(days=1):
        raise BadMessage("sent_at: it is still to come")
    if message.sent_at.replace(tzinfo=None) < OLDEST:
        raise BadMessage(f"sent_at: it is before {OLDEST.year}")
    if message.type in CHANGES and message.reply_to is None:
        raise BadMessage(f"reply_to: should name the message that this {message.type} is about")
    if message.content is None and message.type is MessageType.TEXT and message.media_url is None:
        raise BadMessage("content: a text should say something")
