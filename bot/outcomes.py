"""Outcomes: what a flow has yielded, sorted, and its changes of state brought into the store; it decides nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import assert_never

from flows.contract import (
    Decided,
    Effect,
    Exclude,
    Flow,
    GlobalPause,
    Notice,
    OptOut,
    Outcome,
    Pause,
    Reply,
    Reset,
    Resume,
)
from storage.database import Connection
from storage.models import Action, Decision, Message, Outgoing
from storage.sessions import SessionStore


@dataclass(slots=True)
class Tally:
    """A flow's outcomes, sorted."""

    replies: list[Outgoing] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    decided: Decided | None = None

    @property
    def is_answer(self) -> bool:
        """Whether there is something to say, and it is not about a failure."""
        failed = self.decided is not None and self.decided.action is Action.FAILED
        return bool(self.replies) and not failed

    def add(self, outcome: Outcome) -> None:
        match outcome:
            case Reply():
                if not (outgoing := _outgoing(outcome)).is_blank:
                    self.replies.append(outgoing)
            case Notice():
                self.notices.append(outcome)
            case Decided():
                self.decided = outcome
            case Pause() | Resume() | Exclude() | OptOut() | GlobalPause() | Reset():
                self.effects.append(outcome)
            case _:
                assert_never(outcome)


def decided_by(tally: Tally, flow: Flow, message: Message) -> Decision:
    """The flow's word on the message that it answers, or else its default."""
    decided = tally.decided or Decided(action=flow.action)
    return Decision(message_id=message.id, action=decided.action, detail=decided.detail)


async def apply(connection: Connection, sessions: SessionStore, effect: Effect, now: datetime) -> None:
    """Change the state of a chat, or of all, as part of the caller's transaction."""
    match effect:
        case Pause():
            await sessions.pause(connection, effect.chat_id, effect.reason, now, effect.until)
        case Resume():
            await sessions.resume(connection, effect.chat_id)
        case Exclude():
            await sessions.exclude(connection, effect.chat_id, effect.excluded)
        case OptOut():
            await sessions.opt_out(connection, effect.chat_id, now if effect.out else None)
        case Reset():
            await sessions.reset(connection, effect.chat_id, now)
        case GlobalPause():
            await sessions.set_global_pause(connection, effect.paused, now)
        case _:
            assert_never(effect)


def _outgoing(reply: Reply) -> Outgoing:
    return Outgoing(
        text=reply.text,
        type=reply.media_type,
        media_url=reply.media_url,
        metadata=reply.metadata,
        fenced=not reply.unfenced,
    )
