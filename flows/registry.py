"""Which flow answers: commands, then away when it is closed, keywords, the model, the default; pure, runs nothing."""

from __future__ import annotations

import re
import unicodedata
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
from flows.texts import Texts
from flows.words import words_of
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

_UNSEEN = "\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff"
"""Marks of direction and signs of no width, which keyboards and pasting add and nobody sees."""
_NAME = r"[^\W\d_]+(?:-[^\W\d_]+)*"
# Signs that are no letters may follow the name at once ("/stop!", "/pause, 2h"), and any blank parts it from the rest.
# What makes a text bold or crossed out on WhatsApp may stand before it.
_SHAPE = re.compile(rf"[\s{_UNSEEN}*~`]*[/／](?P<name>{_NAME})(?![\w/／-])[^\w\s]*(?P<rest>.*)", re.DOTALL)
_ALMOST = re.compile(r"[^\w\s]*[/／]+\s?(?P<name>[^\s/／]+)(?P<rest>.*)", re.DOTALL)
_NUMBER = re.compile(rf"[\s{_UNSEEN}]*(\d{{1,2}})[.)]?[\s{_UNSEEN}]*")
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
    """What one daemon can answer with. `ai` holds the configured models, by provider; `texts` are its own words."""

    keywords: KeywordFlow
    ai: Mapping[str, Flow] = field(default_factory=dict)
    texts: Texts = Texts()  # noqa: RUF009  frozen


def recognise(text: str, role: Role, *, own_chat: bool = False, is_reply: bool = False) -> Recognised | None:
    """The command that a text is, or None when it is something said.

    The staff's command is short and one of theirs. All else that an owner writes is the owner
    speaking, "/stop" to a customer included; only in their own chat is a mistyped command told so. A
    customer's command may be followed by anything; one that belongs to the staff is refused. A number may choose from
    a list: the owner's in their own chat, and an admin's, who is a customer otherwise, in reply to it.
    """
    name, arguments = _parted(text)
    command = COMMANDS.get(name)
    if role is Role.CUSTOMER:
        if command is None:
            return None
        return Recognised(command=command, arguments=arguments, refused=role not in command.roles)
    if command is not None and role in command.roles and len(arguments) <= _LONGEST:
        return Recognised(command=command, arguments=arguments)
    if not own_chat:
        return None
    number = _NUMBER.fullmatch(text) if role is Role.OWNER or is_reply else None
    if number is not None:
        return Recognised(command=_CHOOSE, arguments=number[1])
    if len(arguments) <= _LONGEST and (name or _alike(text)):
        return Recognised(command=unknown.COMMAND, arguments="")
    return None


def _parted(text: str) -> tuple[str, str]:
    """The name of a command, case and accents aside, and what follows; "" where the text has no command's shape."""
    match = _SHAPE.fullmatch(unicodedata.normalize("NFC", text))
    return ("-".join(words_of(match["name"])), " ".join(match["rest"].split())) if match else ("", "")


def _look_up(text: str, role: Role) -> tuple[Command, str] | None:
    recognised = recognise(text, role)
    return None if recognised is None else (recognised.command, recognised.arguments)


_CHOOSE = choose_with(_look_up)


def mistyped(text: str) -> str | None:
    """The staff's command that a line to a customer looks like and is not, such as "/resume" for "/resum"."""
    return None if recognise(text, Role.OWNER) else _alike(text)


def _alike(text: str) -> str | None:
    match = _ALMOST.fullmatch(text.strip())
    if match is None or len(match["rest"]) > _LONGEST:
        return None
    name = "-".join(words_of(match["name"]))
    if name in COMMANDS and not COMMANDS[name].roles & STAFF:
        return None
    theirs = [command.name for command in COMMANDS.values() if command.roles & STAFF]
    alike = get_close_matches(name, theirs, n=1, cutoff=_ALIKE)
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
