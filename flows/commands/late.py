"""Commands that come late: what a newer one has overtaken, or whose time is over, changes nothing, and says so."""

from __future__ import annotations

from datetime import datetime

from flows.commands.command import confirmed
from flows.commands.paging import shortened
from flows.commands.times import ago_in_words
from flows.contract import Decided, Outcome, Turn
from storage.models import Action, ChatSummary

_QUOTED = 60
_NEWER = "a newer command"

OVERTAKEN = Decided(action=Action.SUPERSEDED, detail=_NEWER)
"""What becomes of a customer's, without a word."""


def is_overtaken(turn: Turn, newest: datetime | None) -> bool:
    """Whether a command on the same matter was written after this one, `newest`."""
    return newest is not None and newest > turn.written_at


def overtaken(
    turn: Turn, newest: datetime | None, about: ChatSummary | None = None
) -> tuple[Outcome, ...] | None:
    """What is told where a command on the same matter was written after this one, `newest`; else None."""
    if not is_overtaken(turn, newest):
        return None
    text = f"{_called(turn)} came only now, and you have sent a newer command since: that one holds."
    return confirmed(turn, text, detail=_NEWER, action=Action.SUPERSEDED, about=about)


def over(turn: Turn, about: ChatSummary) -> tuple[Outcome, ...]:
    """What is told where the time that a command names has passed before it came."""
    text = f"{_called(turn)} came only now, when its time was over. Nothing has changed."
    return confirmed(turn, text, detail="over", action=Action.IGNORED_TOO_OLD, about=about)


def _called(turn: Turn) -> str:
    said, ago = turn.messages[-1].text or "", ago_in_words(turn.written_at, turn.now)
    return f"“{shortened(said, _QUOTED)}”, which you wrote {ago},"
