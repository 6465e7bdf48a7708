"""Which flow answers: commands, then away when it is closed, keywords, the model, the default; pure, runs nothing."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from flows.away import AWAY
from flows.commands import (
    automatic,
    exclude,
    failed,
    global_,
    human,
    include,
    pause,
    reset,
    resume,
    resume_after,
    search,
    start,
    stats,
    status,
    stop,
    unknown,
    why,
)
from flows.commands.choose import choose_with
from flows.commands.command import STAFF, Command
from flows.commands.help import help_for
from flows.contract import Decided, Flow, Outcome, Turn
from flows.keywords import KeywordFlow
from storage.models import Action, MessageType, Role

_OTHERS = (
    status.COMMAND,
    pause.COMMAND,
    resume.COMMAND,
    resume_after.COMMAND,
    exclude.COMMAND,
    include.COMMAND,
    global_.COMMAND,
    reset.COMMAND,
    search.COMMAND,
    stats.COMMAND,
    failed.COMMAND,
    why.COMMAND,
    automatic.COMMAND,
    human.COMMAND,
    stop.COMMAND,
    start.COMMAND,
)
COMMANDS: Mapping[str, Command] = {command.name: command for command in (help_for(_OTHERS), *_OTHERS)}

_SHAPE = re.compile(r"/([a-z]+(?:-[a-z]+)*)(?:[^\S\n]+([^\n]*))?(\n.*)?", re.IGNORECASE | re.DOTALL)
_NUMBER = re.compile(r"(\d{1,2})[.)]?")
_LONGEST = 100
_ALIKE = 0.7
"""How much of a word may be mistyped, as difflib measures it: `/puase` and `/resum`, but not `/ola`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """A command as somebody gave it, ready to run as a flow. `refused`: it is not theirs to give."""

    command: Command
    arguments: str
    refused: bool = False

    @property
    def name(self) -> str:
        return self.command.name

    @property
    def action(self) -> Action:
        return Action.COMMAND_REFUSED if self.refused else Action.COMMAND_DONE

    async def run(self, turn: Turn) -> AsyncIterator[Outcome]:
        """Do what was told; a refused command says nothing."""
        if self.refused:
            yield Decided(action=Action.COMMAND_REFUSED, detail=self.name)
            return
        for outcome in await self.command.answer(turn, self.arguments):
            yield outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """The flow that says nothing; its action tells why."""

    action: Action
    name: str = "silence"

    async def run(self, turn: Turn) -> AsyncIterator[Outcome]:
        """Record the decision."""
        yield Decided(action=self.action)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flows:
    """What one daemon can answer with. `ai` holds the models that were configured, by provider."""

    keywords: KeywordFlow
    ai: Mapping[str, Flow] = field(default_factory=dict)


def recognise(text: str, role: Role, *, own_chat: bool = False, is_reply: bool = False) -> Recognised | None:
    """The command that a text is, or None when it is something said.

    The staff's command is one short line and one of theirs. All else that an owner writes is the owner
    speaking, "/stop" to a customer included; only in their own chat is a mistyped command told so. A
    customer's command may be followed by anything; one that belongs to the staff is refused. A number may choose from
    a list: the owner's in their own chat, and an admin's, who is a customer otherwise, in reply to it.
    """
    match = _SHAPE.fullmatch(text.strip())
    if match is None:
        number = _NUMBER.fullmatch(text.strip()) if own_chat and (role is Role.OWNER or is_reply) else None
        return Recognised(command=_CHOOSE, arguments=number[1]) if number else None
    command = COMMANDS.get(match[1].lower())
    arguments = (match[2] or "").strip()
    if role is Role.CUSTOMER:
        if command is None:
            return None
        return Recognised(command=command, arguments=arguments, refused=role not in command.roles)
    if match[3] or len(arguments) > _LONGEST:
        return None
    if command is None or role not in command.roles:
        return Recognised(command=unknown.COMMAND, arguments="") if own_chat else None
    return Recognised(command=command, arguments=arguments)


def _look_up(text: str, role: Role) -> tuple[Command, str] | None:
    recognised = recognise(text, role)
    return None if recognised is None else (recognised.command, recognised.arguments)


_CHOOSE = choose_with(_look_up)


def mistyped(text: str) -> str | None:
    """The staff's command that a line to a customer looks like and is not, such as "/resume" for "/resum"."""
    match = _SHAPE.fullmatch(text.strip())
    if match is None or match[3] or len(match[2] or "") > _LONGEST or match[1].lower() in COMMANDS:
        return None
    theirs = [command.name for command in COMMANDS.values() if command.roles & STAFF]
    alike = get_close_matches(match[1].lower(), theirs, n=1, cutoff=_ALIKE)
    return f"/{alike[0]}" if alike else None


def choose(turn: Turn, flows: Flows) -> Flow:
    """The one flow that answers this turn.

    The pipeline gives every command a turn of its own, so only the last message can be one.
    """
    last = turn.messages[-1]
    if last.type is MessageType.TEXT and last.text:
        command = recognise(last.text, turn.role, own_chat=turn.own_chat, is_reply=last.reply_to is not None)
        if command is not None:
            return command
    if turn.role is Role.OWNER:
        return Silence(action=Action.HUMAN_SPOKE)
    is_known = flows.keywords.knows(turn.text)
    if turn.closed and not (is_known and turn.tenant.hours and turn.tenant.hours.keywords):
        return AWAY
    if is_known:
        return flows.keywords
    return flows.ai.get(turn.tenant.llm_provider, flows.keywords)
