"""`sidestep chat --jsonl`: one JSON object a line in, one a line out; a whole daemon that a script can talk to.

Every line is recorded before the next is read; answering goes on meanwhile. The clock is virtual: it
moves by `advance`, and for debounce and typing at a `wait` and at the end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from bot.clock import VirtualClock
from bot.config import Config
from bot.config.values import Duration
from bot.events import Decided, Event, Events, Said, StatusMoved, TakenBack
from bot.roles import phone_jid
from bot.simulation import CUSTOMER, Line, Simulation, number_of, simulated
from storage.database import Database
from storage.leftovers import newest_at, unanswered
from storage.models import ExternalId, MessageId, MessageType, Status

LONGEST_LINE = 1 << 20
_END_OF_TIME = datetime(2200, 1, 1, tzinfo=UTC)  # message ids hold milliseconds, up to the year 2298

Write = Callable[[dict[str, Any]], None]


def _storable(value: str) -> str:
    if "\0" in value:
        raise ValueError("holds a NUL character, which no message of a chat can")
    return value


def _text_of_time(value: object) -> object:
    # pydantic alone would also take a number for seconds since 1970.
    if isinstance(value, str):
        return value
    raise ValueError("should be a time such as 2026-01-31T12:00:00Z")


Text = Annotated[str, AfterValidator(_storable)]
Id = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_storable)]
Time = Annotated[datetime, BeforeValidator(_text_of_time)]


def _number(value: str) -> str:
    digits = "".join(c for c in value if c not in " ()-.").removeprefix("+")
    if not (digits.isascii() and digits.isdigit() and 5 <= len(digits) <= 15):
        raise ValueError("should be a phone number with its country code, such as +5511988880001")
    return f"+{digits}"


# Any number that could be one: nobody is called here, so it need not exist.
Number = Annotated[str, AfterValidator(_number)]


def _group(value: str) -> str:
    user = value.removesuffix("@g.us")
    if not (5 <= len(user) <= 40 and user.isascii() and user.replace("-", "").isdigit()):
        raise ValueError(
            "should be a group's id: digits, such as 120363000000000001, also with @g.us behind them"
        )
    return user


Group = Annotated[str, AfterValidator(_group)]
# What says something without a word: a picture has a caption or none, a revoke takes words back.
_NEED_WORDS = (MessageType.TEXT, MessageType.EDIT, MessageType.REACTION)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class _Message(_Strict):
    who: Literal["customer", "owner", "admin"] = Field(alias="from")
    text: Annotated[Text | None, Field(validate_default=True)] = None
    chat: Number | None = None
    id: Id | None = None
    name: Text | None = None
    at: Time | None = None
    group: Group | None = None
    sender: Number | None = None
    type: MessageType = MessageType.TEXT
    mention: StrictBool = False
    reply_to: Id | None = None
    device: Annotated[StrictInt, Field(ge=0, le=99)] = 0

    @model_validator(mode="after")
    def _require_words(self) -> Self:
        if self.text is None and self.type in _NEED_WORDS:
            raise ValueError("text: is missing")
        return self


class _Wait(_Strict):
    wait: Literal["idle"]


class _Advance(_Strict):
    advance: Duration


class _Until(_Strict):
    until: Time


class _Receipt(_Strict):
    receipt: Literal["delivered", "read"]
    id: Id


class _Typing(_Strict):
    typing: StrictBool
    chat: Number = CUSTOMER


_FORMS: dict[str, type[_Strict]] = {
    "from": _Message,
    "wait": _Wait,
    "advance": _Advance,
    "until": _Until,
    "receipt": _Receipt,
    "typing": _Typing,
}


class BadLine(ValueError):
    """A line that is none of the forms; the text says what is wrong with it."""


async def chat(config: Config, database: Database, lines: AsyncIterator[bytes], write: Write) -> bool:
    """Play every line; True when none was refused."""
    # An earlier run on this database may have moved its own clock ahead of ours: nobody goes back in time.
    now = datetime.now(UTC)
    clock, events = VirtualClock(max(now, await newest_at(database) or now)), Events()
    printer = _Printer(config, write, await unanswered(database))
    events.listen(printer.tell)
    fine = True
    async with simulated(config, database, clock, events) as simulation:
        number = 0
        async for raw in lines:
            number += 1
            if not raw.strip():
                continue
            try:
                await _play(_parse(raw), number, simulation, clock)
            except BadLine as exc:
                fine = False
                write({"kind": "error", "line": number, "error": str(exc)})
        await clock.settle()
    return fine


def _parse(raw: bytes) -> _Strict:
    if len(raw) > LONGEST_LINE:
        raise BadLine(f"the line is longer than {LONGEST_LINE} bytes")
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        raise BadLine(f"not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise BadLine("not a JSON object")
    form = next((f for key, f in _FORMS.items() if key in value), None)
    if form is None:
        raise BadLine(f"none of the keys {', '.join(_FORMS)} is there")
    try:
        return TypeAdapter(form).validate_python(value)
    except ValidationError as exc:
        raise BadLine("; ".join(_told(error, form) for error in exc.errors(include_url=False))) from exc


def _told(error: Any, form: type[_Strict]) -> str:
    place = ".".join(str(part) for part in error["loc"])
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        keys = [field.alias or name for name, field in form.model_fields.items()]
        meant = get_close_matches(place, keys, n=1)
        hint = f"did you mean {meant[0]}?" if meant else f"known here: {', '.join(keys)}"
        message = f"is no key of such a line ({hint})"
    return f"{place}: {message}" if place else message


async def _play(step: _Strict, number: int, simulation: Simulation, clock: VirtualClock) -> None:
    match step:
        case _Message():
            await simulation.say(_line(step, number, simulation))
        case _Wait():
            await clock.settle()
        case _Advance():
            await _advance(step.advance, simulation, clock)
        case _Until():
            await _advance(_aware(step.until, "until") - clock.now(), simulation, clock)
        case _Receipt():
            if not await simulation.knows(ExternalId(step.id)):
                raise BadLine("id: no message with this id was sent")
            await simulation.receipt(ExternalId(step.id), Status(step.receipt))
        case _Typing():
            simulation.type(step.chat, step.typing)


async def _advance(duration: timedelta, simulation: Simulation, clock: VirtualClock) -> None:
    if duration < timedelta():
        raise BadLine(f"until: the clock is past that, it is {clock.now():%Y-%m-%dT%H:%M:%SZ}")
    if duration > _END_OF_TIME - clock.now():
        raise BadLine(f"advance: the clock ends with the year {_END_OF_TIME.year - 1}")
    await clock.advance(duration)
    await simulation.daemon.scheduler.run_due()


def _aware(at: datetime, key: str) -> datetime:
    if at.tzinfo is None:
        raise BadLine(f"{key}: needs a time zone, as in 2026-01-31T12:00:00Z")
    return at


def _line(step: _Message, number: int, simulation: Simulation) -> Line:
    chat = step.chat or CUSTOMER
    if step.who == "admin":
        if not simulation.admins:
            raise BadLine("from: there is no admin in the configuration")
        chat = simulation.admins[0]
    if step.group and step.who == "customer" and not step.sender:
        raise BadLine("sender: a group's message needs who wrote it")
    if step.at is not None:
        _aware(step.at, "at")
    return Line(
        who=step.who,
        text=step.text or "",
        external_id=ExternalId(step.id or f"line-{number}"),
        chat=chat,
        group=step.group,
        sender=step.sender or (chat if step.who == "admin" else None),
        name=step.name,
        at=step.at,
        type=step.type,
        mentions_me=step.mention,
        reply_to=ExternalId(step.reply_to) if step.reply_to else None,
        device=step.device,
    )


class _Printer:
    """The daemon's events as output lines."""

    def __init__(self, config: Config, write: Write, ids: Mapping[MessageId, ExternalId]) -> None:
        self._owner = phone_jid(config.tenants[0].owner)
        self._write = write
        self._ids = dict(ids)

    def tell(self, event: Event) -> None:
        match event:
            case Decided():
                if event.external_id is not None:
                    self._ids[event.message_id] = event.external_id
                self._write(
                    {
                        "kind": "decision",
                        "id": event.external_id or str(event.message_id),
                        "chat": number_of(event.jid),
                        "action": event.action,
                    }
                )
            case Said():
                self._said(event)
            case TakenBack():
                self._write({"kind": "revoke", "chat": number_of(event.due.to), "id": event.external_id})
            case StatusMoved():
                self._write(
                    {"kind": "status", "id": event.external_id or str(event.id), "status": event.status}
                )

    def _said(self, event: Said) -> None:
        due, to = event.due, number_of(event.due.to)
        if due.to == self._owner or "notice" in due.outgoing.metadata:
            told = "owner" if due.to == self._owner else to
            self._write({"kind": "notice", "to": told, "id": event.external_id, "text": due.outgoing.text})
            return
        answers = [self._ids.get(i, ExternalId(str(i))) for i in due.answers]
        self._write(
            {
                "kind": "reply",
                "chat": to,
                "to": to,
                "id": event.external_id,
                "in_reply_to": answers,
                "text": due.outgoing.text,
            }
        )


def encode(value: dict[str, Any]) -> bytes:
    """One output line."""
    return orjson.dumps(value) + b"\n"
