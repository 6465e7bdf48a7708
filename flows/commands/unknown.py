"""A slash that is no command, typed in one's own chat: say so, lest a mistyped /pause be taken for done."""

from __future__ import annotations

from flows.commands.command import STAFF, Command, misunderstood
from flows.contract import Outcome, Turn


async def _answer(turn: Turn, arguments: str) -> tuple[Outcome, ...]:
    return misunderstood(
        turn, "I do not know that command. Nothing has changed; /help lists all.", detail="unknown"
    )


COMMAND = Command(name="unknown", roles=STAFF, answer=_answer)
