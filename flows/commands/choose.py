"""A number in reply to "which one?": the command that was asked about is given again, now that it is clear whose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from flows.commands.command import STAFF, Command, misunderstood
from flows.contract import Decided, Notice, Outcome, Turn
from storage.models import Action, Role, Topic

_REMEMBERED = timedelta(minutes=15)
"""So long after the question a number alone answers it; later it has to reply to it."""

Lookup = Callable[[str, Role], tuple[Command, str] | None]
"""The command that a text is, with its arguments."""


def choose_with(lookup: Lookup) -> Command:
    """The command that a bare number is."""

    async def answer(turn: Turn, number: str) -> tuple[Outcome, ...]:
        topic = await _question(turn)
        if topic is None or topic.text is None:
            # A number like any other.
            action = Action.HUMAN_SPOKE if turn.role is Role.OWNER else Action.IGNORED_UNSUPPORTED
            return (Decided(action=action, detail="no_question"),)
        asked = lookup(topic.text, turn.role)
        if asked is None or not 1 <= int(number) <= len(topic.choices):
            text = f"There is no {number} in the list, which ends with {len(topic.choices)}. Nothing has changed."
            return misunderstood(turn, text, detail="no_choice")
        command, arguments = asked
        try:
            chosen = await turn.reader.chat(topic.choices[int(number) - 1])
        except LookupError:
            return misunderstood(turn, "That chat is gone. Nothing has changed.", detail="gone")
        outcomes = await command.answer(replace(turn, chosen=chosen), arguments)
        return tuple(_settling(each) if isinstance(each, Notice) else each for each in outcomes)

    return Command(name="choose", roles=STAFF, answer=answer)


async def _question(turn: Turn) -> Topic | None:
    """What a number answers: the list that it replies to, or the last one, whatever else was told since."""
    last = turn.messages[-1]
    if last.reply_to:
        quoted = await turn.reader.told(turn.chat.chat_id, last.reply_to)
        return quoted[0] if quoted else None
    asked = await turn.reader.asked(turn.chat.chat_id, last.sent_at - _REMEMBERED)
    # A number that comes late may be from long before the question.
    return asked[0] if asked and asked[1] - last.sent_at < _REMEMBERED else None


def _settling(notice: Notice) -> Notice:
    """A list is answered once: a second number is a number like any other."""
    return replace(notice, topic=replace(notice.topic, settles=True))
