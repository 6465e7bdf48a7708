"""What a command is, and how its answers are put together; it knows no particular command."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from flows.contract import Decided, Notice, Outcome, Reply, Turn
from storage.models import Action, ChatSummary, Role, Session, Topic

STAFF = frozenset({Role.OWNER, Role.ADMIN})
CUSTOMERS = frozenset({Role.CUSTOMER})

Answer = Callable[[Turn, str], Awaitable[tuple[Outcome, ...]]]
"""Takes the turn and what followed the command's name, blanks trimmed; gives everything that comes of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One word that the bot obeys. /help shows `usage` and `summary` to the staff; customers read `Texts.help`."""

    name: str
    usage: str = ""
    summary: str = ""
    roles: frozenset[Role]
    answer: Answer


def confirmed(
    turn: Turn,
    text: str,
    *,
    detail: str,
    action: Action = Action.COMMAND_DONE,
    about: ChatSummary | None = None,
) -> tuple[Outcome, ...]:
    """Tell the person who gave the command; the customer hears nothing of it."""
    topic = Topic(about=about.chat_id if about else None)
    notice = Notice(text=text, role=turn.role, topic=topic)
    return notice, Decided(action=action, detail=detail)


def misunderstood(turn: Turn, text: str, *, detail: str) -> tuple[Outcome, ...]:
    """Ask back where it is not clear what is wanted; nothing is done."""
    return confirmed(turn, text, detail=detail, action=Action.COMMAND_REFUSED)


def silent(session: Session) -> Action | None:
    """The decision for a customer's command that must not be answered now: a menu would speak over a person."""
    if session.is_excluded:
        return Action.IGNORED_EXCLUDED
    if session.is_paused:
        return Action.IGNORED_PAUSED
    return Action.IGNORED_GLOBAL_PAUSE if session.global_pause else None


def answered(text: str, *, detail: str, action: Action = Action.COMMAND_DONE) -> tuple[Outcome, ...]:
    """Tell the customer who gave the command."""
    return Reply(text=text, unfenced=True), Decided(action=action, detail=detail)
