"""/stop: a customer wants no more automatic messages; one goodbye tells how to come back."""

from __future__ import annotations

from flows.commands.command import CUSTOMERS, Command, answered, silent
from flows.commands.late import OVERTAKEN, is_overtaken
from flows.contract import Decided, OptOut, Outcome, Turn
from storage.models import Action


async def _answer(turn: Turn, arguments: str) -> tuple[Outcome, ...]:
    if is_overtaken(turn, turn.session.opted_at):
        return (OVERTAKEN,)
    out = OptOut(chat_id=turn.chat.chat_id, asked_at=turn.written_at)
    if turn.session.opted_out_at:
        return out, Decided(action=Action.IGNORED_OPTED_OUT, detail="stopped_before")
    if silent(turn.session):
        return out, Decided(action=Action.COMMAND_DONE, detail="stop_unanswered")
    return out, *answered(turn.texts.goodbye, detail="stop")


COMMAND = Command(
    name="stop",
    roles=CUSTOMERS,
    answer=_answer,
)
