"""A number in reply to "which one?": the command that was asked about is given again, now that it is clear whose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from flows.commands.command import STAFF, Command, misunderstood
from flows.contract import Decided, Outcome, Turn
from storage.models import Action, Role, Topic

_REMEMBERED = timedelta(minutes=15)
"""So long after the question a number alone answers it; later it has to reply to it."""

Lookup = Callable[[str, Role], tuple[Command, str] | None]
"""The command that a text is, with its arguments."""


def choose_with(lookup: Lookup) -> Command:
    """The command that a bare number is."""

    async def answer(turn: Turn, number: str) -> tuple[Outcome, ...]:
        last = turn.messages[-1]
        topic, at = await turn.reader.told(turn.chat.chat_id, last.reply_to) or (Topic(), turn.now)
        if topic.text is None or not (last.reply_to or turn.now - at < _REMEMBERED):
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
        return await command.answer(replace(turn, chosen=chosen), arguments)

    return Command(name="choose", usage="", summary="", roles=STAFF, answer=answer)
