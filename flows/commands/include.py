"""/include: the staff takes back an exclusion."""

from __future__ import annotations

from flows.commands.command import STAFF, Command, confirmed
from flows.commands.late import overtaken
from flows.commands.target import Unclear, label, whose_chat
from flows.contract import Exclude, Outcome, Turn


async def _answer(turn: Turn, arguments: str) -> tuple[Outcome, ...]:
    chat = await whose_chat(turn, arguments, example="/include Ana")
    if isinstance(chat, Unclear):
        return chat.answer
    if left := overtaken(turn, chat.session.excluded_at, chat):
        return left
    text = f"{label(chat)} is no longer excluded."
    if chat.session.is_paused:
        text += " The chat is still paused: send /resume to let me answer now."
    effect = Exclude(chat_id=chat.chat_id, excluded=False, asked_at=turn.written_at)
    return effect, *confirmed(turn, text, detail="include", about=chat)


COMMAND = Command(
    name="include",
    usage="/include [who]",
    summary="takes back /exclude",
    roles=STAFF,
    answer=_answer,
)
