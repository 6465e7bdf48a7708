"""/exclude: the staff keeps the bot out of one chat for good, such as a friend's or a supplier's."""

from __future__ import annotations

from flows.commands.command import STAFF, Command, confirmed
from flows.commands.late import overtaken
from flows.commands.target import Unclear, label, whose_chat
from flows.contract import Exclude, Outcome, Turn


async def _answer(turn: Turn, arguments: str) -> tuple[Outcome, ...]:
    chat = await whose_chat(turn, arguments, example="/exclude Ana")
    if isinstance(chat, Unclear):
        return chat.answer
    if left := overtaken(turn, chat.session.excluded_at, chat):
        return left
    text = f"Excluded: I never answer {label(chat)}, until you send /include."
    effect = Exclude(chat_id=chat.chat_id, asked_at=turn.written_at)
    return effect, *confirmed(turn, text, detail="exclude", about=chat)


COMMAND = Command(
    name="exclude",
    usage="/exclude [who]",
    summary="I never answer in a chat",
    roles=STAFF,
    answer=_answer,
)
