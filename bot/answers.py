"""What a lane and the desk hand each other: an answer before its commit, and what the commit left behind."""

from __future__ import annotations

from dataclasses import dataclass

from flows.contract import Effect
from storage.models import ChatId, Decision, Message, MessageId, Outgoing


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """An answer that has been made and not yet committed. `epoch` None: not fenced, it answers a command.

    `withdraws` are earlier replies, held back, which this answer takes the place of in its own commit.
    """

    messages: tuple[Message, ...]
    epoch: int | None
    decisions: tuple[Decision, ...]
    withdraws: tuple[MessageId, ...] = ()
    answered: tuple[Message, ...] = ()
    replies: tuple[Outgoing, ...] = ()
    notices: tuple[tuple[ChatId, Outgoing], ...] = ()
    effects: tuple[Effect, ...] = ()

    @property
    def answers(self) -> tuple[MessageId, ...]:
        return tuple(m.id for m in self.answered)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a commit left behind: what is decided now, what was answered, and the replies, not yet claimed.

    `late`: a reply to be withdrawn is no longer queued, and nothing was kept.
    """

    settled: frozenset[MessageId] = frozenset()
    messages: tuple[Message, ...] = ()
    reply_ids: tuple[MessageId, ...] = ()
    late: bool = False
