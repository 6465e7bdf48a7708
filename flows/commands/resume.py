"""/resume: the staff lets the bot speak again in one chat."""

from __future__ import annotations

from flows.commands.command import STAFF, Command, confirmed
from flows.commands.target import Unclear, label, whose_chat
from flows.contract import Outcome, Resume, Turn
from storage.models import Action, ChatSummary


async def _answer(turn: Turn, arguments: str) -> tuple[Outcome, ...]:
    chat = await whose_chat(turn, arguments, example="/resume Ana")
    if isinstance(chat, Unclear):
        return chat.answer
    text = await _told(turn, chat)
    return Resume(chat_id=chat.chat_id), *confirmed(turn, text, detail="resume", action=Action.RESUMED)


async def _told(turn: Turn, chat: ChatSummary) -> str:
    """Lifting the pause is not always enough; whoever asked must not believe that it was."""
    session = chat.session
    if session.is_excluded:
        return f"The pause is lifted, but {label(chat)} is excluded: send /include to let me answer there."
    if session.opted_out_at:
        return f"The pause is lifted, but {label(chat)} asked for no automatic messages; only they can undo that."
    if await turn.reader.global_pause():
        return f"The pause of {label(chat)} is lifted, but all chats are paused: send /global resume."
    return f"I answer {label(chat)} again."


COMMAND = Command(
    name="resume",
    usage="/resume [who]",
    summary="I answer again in a chat",
    roles=STAFF,
    answer=_answer,
)
