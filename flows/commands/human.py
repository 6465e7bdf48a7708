"""/human: a customer asks for a person; the bot falls silent there and tells the owner."""

from __future__ import annotations

from flows.commands.command import CUSTOMERS, Command, answered
from flows.commands.target import label
from flows.contract import Decided, Outcome, Turn
from flows.handoff import notice, pause, promise
from storage.models import Action, PauseReason


async def _answer(turn: Turn, arguments: str) -> tuple[Outcome, ...]:
    told = notice(
        turn, f"{label(turn.chat)} asks for a person. I am silent there; write to them and I stay out of it."
    )
    session = turn.session
    if not session.is_paused:
        silence = pause(turn, PauseReason.CUSTOMER_REQUEST)
        if session.global_pause:
            # The wish counts; but the owner wants no word of the bot's anywhere.
            return silence, told, Decided(action=Action.HANDED_OFF, detail="human")
        return silence, told, *answered(promise(turn), detail="human", action=Action.HANDED_OFF)
    if session.pause_reason in (PauseReason.CUSTOMER_REQUEST, PauseReason.AI_HANDOFF):
        # The owner knows already; the customer may ask ten times.
        return answered(promise(turn), detail="asked_before", action=Action.HANDED_OFF)
    # A person is in the chat, or has silenced it on purpose: theirs to answer, and their pause stays as it is.
    return told, Decided(action=Action.HANDED_OFF, detail="already_paused")


COMMAND = Command(
    name="human",
    roles=CUSTOMERS,
    answer=_answer,
)
