"""/resume: the staff lets the bot speak again in one chat."""

from __future__ import annotations

from flows.commands.command import STAFF, Command, confirmed
from flows.commands.late import overtaken
from flows.commands.target import Unclear, label, whose_chat
from flows.contract import Outcome, Resume, Turn
from storage.models import Action, ChatSummary


async def _answer(turn: Turn, arguments: str) -> tuple[Outcome, ...]:
    chat = await whose_chat(turn, arguments, example="/resume Ana")
    if isinstance(chat, Unclear):
        return chat.answer
    asked = turn.messages[-1]
    if chat.session.is_paused and chat.session.human_since(asked):
        # The command waited, perhaps at the platform, and the owner has gone on writing meanwhile.
        text = f"You have written to {label(chat)} since you sent /resume: I leave the chat to you."
        return confirmed(turn, text, detail="a human spoke", action=Action.SUPERSEDED, about=chat)
    if left := overtaken(turn, chat.session.commanded_at, chat):
        return left
    text = await _told(turn, chat)
    resume = Resume(chat_id=chat.chat_id, asked=asked.id, asked_at=asked.sent_at)
    return resume, *confirmed(turn, text, detail="resume", action=Action.RESUMED, about=chat)


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
