"""/help: what the person who asks may use. The staff's lines are the commands' own, customers read the owner's text."""

from __future__ import annotations

from collections.abc import Sequence

from flows.commands.command import Answer, Command, answered, confirmed, silent
from flows.contract import Decided, Outcome, Turn
from storage.models import Role


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
        if turn.role is not Role.CUSTOMER:
            lines = [f"{c.usage} – {c.summary}" for c in commands if turn.role in c.roles]
            head = "What you can tell me" + (" (add who, a name or a number):" if turn.own_chat else ":")
            return confirmed(turn, "\n".join([head, *lines]), detail="help")
        if action := silent(turn.session):
            return (Decided(action=action, detail="help"),)
        # Their other commands are for private chats.
        text = turn.texts.help_in_group if turn.chat.is_group else turn.texts.help
        return answered(text, detail="help")

    return answer
