"""JSON lines, as `sidestep import` reads and `sidestep export` writes them: one message a line; no I/O here.

docs/import.md is the format's specification.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from bot.importing.addresses import LONGEST_ID
from bot.importing.export import LONGEST_TEXT
from storage.models import CHANGES, Channel, MessageType


class BadMessage(ValueError):
    """A line that is no message; the text says what is wrong with it, and quotes nothing of it."""


def _storable(value: str) -> str:
    if "\0" in value or (not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value)):
        raise ValueError("holds a sign that no message can")
    return value


def _time_text(value: object) -> object:
    # pydantic alone would also take a number for seconds since 1970.
    if isinstance(value, str | datetime):
        return value
    raise ValueError("should be a time such as 2026-01-31T12:00:00Z")


Id = Annotated[str, Field(min_length=1, max_length=LONGEST_ID), AfterValidator(_storable)]
Name = Annotated[str, Field(max_length=LONGEST_ID), AfterValidator(_storable)]
Text = Annotated[str, Field(max_length=LONGEST_TEXT), AfterValidator(_storable)]
Url = Annotated[str, Field(max_length=4096), AfterValidator(_storable)]
Time = Annotated[AwareDatetime, BeforeValidator(_time_text)]


class MessageLine(BaseModel):
    """One message. Only `chat`, `from` and `sent_at` must be there."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, populate_by_name=True, frozen=True)

    kind: Literal["message"] = "message"
    channel: Channel = Channel.WHATSAPP
    account: Name | None = None
    chat: Id
    participant: Id | None = None
    group: bool = False
    chat_name: Name | None = None
    id: Id | None = None
    who: Literal["customer", "owner", "bot"] = Field(alias="from")
    sender: Id | None = None
    sender_name: Name | None = None
    type: MessageType = MessageType.TEXT
    text: Text | None = None
    reply_to: Id | None = None
    media_url: Url | None = None
    sent_at: Time
    edited_at: Time | None = None
    deleted_at: Time | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)


def read_line(value: object) -> MessageLine | None:
    """The message of a line that is JSON; None for a line of another kind. Raises BadMessage."""
    if not isinstance(value, Mapping):
        raise BadMessage("it is no JSON object")
    if value.get("kind", "message") != "message":
        return None
    try:
        line = MessageLine.model_validate(value)
    except ValidationError as exc:
        raise BadMessage(told(exc)) from None
    if line.type in CHANGES and line.reply_to is None and line.type is not MessageType.REVOKE:
        raise BadMessage(f"reply_to: should name the message that this {line.type} is about")
    return line


def write_line(line: MessageLine) -> dict[str, Any]:
    """What stands in the file: only what is known."""
    return line.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def told(exc: ValidationError) -> str:
    """What is wrong, with its place and without its value."""
    return "; ".join(
        f"{'.'.join(str(part) for part in error['loc'])}: {error['msg'].removeprefix('Value error, ')}"
        for error in exc.errors(include_url=False, include_input=False, include_context=False)[:5]
    )
