"""/help: what the person who asks may use, a line each, generated from the commands themselves."""

from __future__ import annotations

from collections.abc import Sequence

from flows.commands.command import Answer, Command, answered, confirmed, silent
from flows.contract import Decided, Outcome, Turn
from storage.models import Role

_IN_A_GROUP = "Mention me, or reply to a message of mine, and I answer you here."


def help_for(others: Sequence[Command]) -> Command:
    """The help command over `others`; it lists itself too."""
    commands: list[Command] = []
    command = Command(
        name="help",
        usage="/help",
        summary="this list",
        roles=frozenset(Role),
        answer=_answer_from(commands),
    )
    commands += [command, *others]
    return command


def _answer_from(commands: Sequence[Command]) -> Answer:
    async def answer(turn: Turn, arguments: str) -> tuple[Outcome, ...]:
        lines = [f"{c.usage} – {c.summary}" for c in commands if turn.role in c.roles]
        if turn.role is not Role.CUSTOMER:
            head = "What you can tell me" + (" (add who, a name or a number):" if turn.own_chat else ":")
            return confirmed(turn, "\n".join([head, *lines]), detail="help")
        if action := silent(turn.session):
            return (Decided(action=action, detail="help"),)
        if turn.chat.is_group:  # their other commands are for private chats
            return answered(_IN_A_GROUP, detail="help")
        return answered("\n".join(["You can send:", *lines]), detail="help")

    return answer
