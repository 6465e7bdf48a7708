"""/reset: the staff lets a chat's conversation begin anew; what was said stays recorded."""

from __future__ import annotations

from flows.commands.command import STAFF, Command, confirmed
from flows.commands.target import Unclear, label, whose_chat
from flows.contract import Outcome, Reset, Turn


async def _answer(turn: Turn, arguments: str) -> tuple[Outcome, ...]:
    chat = await whose_chat(turn, arguments, example="/reset Ana")
    if isinstance(chat, Unclear):
        return chat.answer
    text = f"Fresh start: with their next message I no longer look back at what {label(chat)} said before."
    return Reset(chat_id=chat.chat_id), *confirmed(turn, text, detail="reset", about=chat)


COMMAND = Command(
    name="reset",
    usage="/reset [who]",
    summary="I begin a new conversation in a chat",
    roles=STAFF,
    answer=_answer,
)
