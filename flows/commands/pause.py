"""/pause: the staff silences the bot in one chat, for a while or until it is lifted."""

from __future__ import annotations

import re
from datetime import datetime, tzinfo

from flows.commands.command import STAFF, Command, confirmed, misunderstood
from flows.commands.late import over, overtaken
from flows.commands.target import Unclear, label, whose_chat
from flows.commands.times import parse_clock, parse_span, until_in_words
from flows.contract import Outcome, Pause, Turn
from storage.models import Action

_UNTIL = re.compile(r"(?:(?P<who>.*)\s)?until(?:\s+(?P<clock>.*))?", re.IGNORECASE)
_FOR = re.compile(r"(?:^|\s)for$", re.IGNORECASE)
_MEANT_AS_TIME = re.compile(r"(?:.*\s)?\d+[a-z]\w*|\d{1,4}", re.IGNORECASE)
_LONGEST_SPAN_WORDS = 4  # "2 hours 30 minutes"


class BadTime(ValueError):
    """The text ends in something that looks like a time and is none."""


async def _answer(turn: Turn, arguments: str) -> tuple[Outcome, ...]:
    try:
        who, until = split_time(arguments, turn.written_at, turn.tenant.zone)
    except BadTime:
        text = (
            "I cannot read that time. Say for example /pause 30m, /pause 2h30m, /pause 1d "
            "or /pause until 18:00. Nothing has changed."
        )
        return misunderstood(turn, text, detail="bad_time")
    chat = await whose_chat(turn, who, example="/pause Ana 2h")
    if isinstance(chat, Unclear):
        return chat.answer
    if left := overtaken(turn, chat.session.commanded_at, chat):
        return left
    if until is not None and until <= turn.now:
        return over(turn, chat)
    how_long = until_in_words(until, turn.now, turn.tenant.zone) if until else "until you send /resume"
    text = f"Paused: I say nothing to {label(chat)} {how_long}."
    return (
        Pause(chat_id=chat.chat_id, until=until, asked_at=turn.written_at),
        *confirmed(turn, text, detail="pause", action=Action.PAUSED, about=chat),
    )


def split_time(arguments: str, now: datetime, zone: tzinfo) -> tuple[str, datetime | None]:
    """Part `Ana 2h` or `Ana until 18:00` into who and until when; raises BadTime."""
    if match := _UNTIL.fullmatch(arguments):
        moment = parse_clock(match["clock"] or "", now, zone)
        if moment is None:
            raise BadTime
        return (match["who"] or "").strip(), moment
    words = arguments.split()
    for count in range(min(len(words), _LONGEST_SPAN_WORDS), 0, -1):
        if span := parse_span(" ".join(words[-count:])):
            return _FOR.sub("", " ".join(words[:-count])).strip(), now + span
    if _MEANT_AS_TIME.fullmatch(arguments):
        raise BadTime
    return arguments, None


COMMAND = Command(
    name="pause",
    usage="/pause [who] [2h | until 18:00]",
    summary="I fall silent in a chat",
    roles=STAFF,
    answer=_answer,
)
