"""/stop: a customer wants no more automatic messages; one goodbye tells how to come back."""

from __future__ import annotations

from flows.commands.command import CUSTOMERS, Command, answered, silent
from flows.contract import Decided, OptOut, Outcome, Turn
from storage.models import Action


async def _answer(turn: Turn, arguments: str) -> tuple[Outcome, ...]:
    if turn.session.opted_out_at:
        return (Decided(action=Action.IGNORED_OPTED_OUT, detail="stopped_before"),)
    if silent(turn.session):
        return OptOut(chat_id=turn.chat.chat_id), Decided(
            action=Action.COMMAND_DONE, detail="stop_unanswered"
        )
    return OptOut(chat_id=turn.chat.chat_id), *answered(turn.texts.goodbye, detail="stop")


COMMAND = Command(
    name="stop",
    roles=CUSTOMERS,
    answer=_answer,
)
