"""/start: a customer comes back after /stop, or greets the bot as some apps do by themselves."""

from __future__ import annotations

from flows.commands.command import CUSTOMERS, Command, answered, silent
from flows.contract import Decided, OptOut, Outcome, Turn


async def _answer(turn: Turn, arguments: str) -> tuple[Outcome, ...]:
    if turn.session.opted_out_at:
        welcome = "Welcome back! How can we help you?"
        return OptOut(chat_id=turn.chat.chat_id, out=False), *answered(welcome, detail="start")
    if action := silent(turn.session):
        return (Decided(action=action, detail="start"),)
    return answered("Hello! How can we help you?", detail="start")


COMMAND = Command(
    name="start",
    usage="/start",
    summary="automatic messages again, after /stop",
    roles=CUSTOMERS,
    answer=_answer,
)
