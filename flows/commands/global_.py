"""/global: the staff silences the bot in every chat at once, or lets it back."""

from __future__ import annotations

from flows.commands.command import STAFF, Command, confirmed, misunderstood
from flows.commands.late import overtaken
from flows.contract import GlobalPause, Outcome, Turn

_EXAMPLE = "Say /global pause or /global resume."
_DONE = {
    "pause": "Paused everywhere: I answer nobody until you send /global resume.",
    "resume": "I answer again, except in chats that are paused or excluded one by one.",
}


async def _answer(turn: Turn, arguments: str) -> tuple[Outcome, ...]:
    match arguments.casefold():
        case "pause" | "resume" as word:
            if left := overtaken(turn, await turn.reader.global_since()):
                return left
            effect = GlobalPause(paused=word == "pause", asked_at=turn.written_at)
            return effect, *confirmed(turn, _DONE[word], detail=f"global {word}")
        case "":
            state = (
                "All chats are paused." if await turn.reader.global_pause() else "There is no global pause."
            )
            return confirmed(turn, f"{state} {_EXAMPLE}", detail="global")
        case _:
            return misunderstood(
                turn, f"I cannot do that. {_EXAMPLE} Nothing has changed.", detail="bad_argument"
            )


COMMAND = Command(
    name="global",
    usage="/global pause | resume",
    summary="I fall silent, or answer again, in all chats",
    roles=STAFF,
    answer=_answer,
)
