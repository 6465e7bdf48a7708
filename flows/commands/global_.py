"""/global: the staff silences the bot in every chat at once, or lets it back."""

from __future__ import annotations

from flows.commands.command import STAFF, Command, confirmed, misunderstood
from flows.contract import GlobalPause, Outcome, Turn

_EXAMPLE = "Say /global pause or /global resume."


async def _answer(turn: Turn, arguments: str) -> tuple[Outcome, ...]:
    match arguments.casefold():
        case "pause":
            text = "Paused everywhere: I answer nobody until you send /global resume."
            return GlobalPause(paused=True), *confirmed(turn, text, detail="global pause")
        case "resume":
            text = "I answer again, except in chats that are paused or excluded one by one."
            return GlobalPause(paused=False), *confirmed(turn, text, detail="global resume")
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
