"""/start: a customer comes back after /stop, or greets the bot as some apps do by themselves."""

from __future__ import annotations

from flows.commands.command import CUSTOMERS, Command, answered, silent
from flows.commands.late import OVERTAKEN, is_overtaken
from flows.contract import Decided, OptOut, Outcome, Turn
from storage.models import Action


async def _answer(turn: Turn, arguments: str) -> tuple[Outcome, ...]:
    if is_overtaken(turn, turn.session.opted_at):
        return (OVERTAKEN,)
    wish = OptOut(chat_id=turn.chat.chat_id, asked_at=turn.written_at, out=False)
    back = (wish,) if turn.session.opted_out_at else ()
    if action := silent(turn.session):
        # The wish counts; but a person is in the chat, and the bot would not answer what it asks.
        if back:
            return *back, Decided(action=Action.COMMAND_DONE, detail="start_unanswered")
        return (Decided(action=action, detail="start"),)
    if back:
        return *back, *answered(turn.texts.welcome_back, detail="start")
    return answered(turn.texts.welcome, detail="start")


COMMAND = Command(
    name="start",
    roles=CUSTOMERS,
    answer=_answer,
)
