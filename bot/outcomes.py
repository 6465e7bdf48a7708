"""Outcomes: what a flow has yielded, sorted, and its changes of state brought into the store; it decides nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import assert_never

from flows.contract import (
    Automatic,
    Away,
    Decided,
    DropFailed,
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
    ResumeAfter,
    SendAgain,
    StateChange,
    Tell,
)
from storage.automatic import AutomaticStore
from storage.database import Connection
from storage.models import Action, Decision, Message, Outgoing
from storage.outbox import OutboxStore
from storage.sessions import SessionStore


@dataclass(slots=True)
class Tally:
    """A flow's outcomes, sorted."""

    replies: list[Outgoing] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    tells: list[Tell] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    decided: Decided | None = None

    @property
    def is_answer(self) -> bool:
        """Whether there is something to say, and it is not about a failure."""
        failed = self.decided is not None and self.decided.action is Action.FAILED
        return bool(self.replies) and not failed

    @property
    def is_only_words(self) -> bool:
        """Whether an answer is all that comes of it: nothing changes, and nobody else is told."""
        return self.is_answer and not self.effects and not self.notices

    def add(self, outcome: Outcome) -> None:
        match outcome:
            case Reply():
                if not (outgoing := _outgoing(outcome)).is_blank:
                    self.replies.append(outgoing)
            case Notice():
                self.notices.append(outcome)
            case Tell():
                self.tells.append(outcome)
            case Decided():
                self.decided = outcome
            case (
                Pause()
                | Resume()
                | ResumeAfter()
                | Exclude()
                | OptOut()
                | GlobalPause()
                | Away()
                | Reset()
                | Automatic()
            ):
                self.effects.append(outcome)
            case SendAgain() | DropFailed():
                self.effects.append(outcome)
            case _:
                assert_never(outcome)


def decided_by(tally: Tally, flow: Flow, message: Message) -> Decision:
    """The flow's word on the message that it answers, or else its default."""
    decided = tally.decided or Decided(action=flow.action)
    return Decision(message_id=message.id, action=decided.action, detail=decided.detail)


async def apply(
    connection: Connection,
    sessions: SessionStore,
    automatic: AutomaticStore,
    outbox: OutboxStore,
    effect: Effect,
    now: datetime,
) -> None:
    """Bring a change into the store, as part of the caller's transaction."""
    match effect:
        case SendAgain():
            await outbox.send_again(connection, effect.chat_id, effect.message_id, now)
        case DropFailed():
            await outbox.drop_failed(connection, effect.chat_id, effect.message_id)
        case Automatic():
            await automatic.settle(connection, effect.text_id, effect.is_automatic, now)
        case _:
            await _change(connection, sessions, effect, now)


async def _change(connection: Connection, sessions: SessionStore, effect: StateChange, now: datetime) -> None:
    match effect:
        case Pause():
            await sessions.pause(
                connection, effect.chat_id, effect.reason, effect.asked_at or now, effect.until
            )
        case Resume():
            await sessions.resume(connection, effect.chat_id, effect.asked, effect.asked_at, now)
        case ResumeAfter():
            await sessions.resume_after(connection, effect.chat_id, effect.silence)
        case Exclude():
            await sessions.exclude(connection, effect.chat_id, effect.excluded, effect.asked_at)
        case OptOut():
            await sessions.opt_out(connection, effect.chat_id, effect.out, effect.asked_at)
        case Away():
            await sessions.tell_away(connection, effect.chat_id, effect.until)
        case Reset():
            await sessions.reset(connection, effect.chat_id, now)
        case GlobalPause():
            await sessions.set_global_pause(connection, effect.paused, effect.asked_at)
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
