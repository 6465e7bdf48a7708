"""What a lane and the desk hand each other: an answer before its commit, and what the commit left behind."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from flows.contract import Effect, Tell
from storage.models import Changed, ChatId, Decision, Message, MessageId, Outgoing


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """An answer that has been made and not yet committed. `epoch` None: not fenced, it answers a command.

    `withdraws` are earlier replies, held back, which this answer takes the place of in its own commit. `takes_back`
    is a command that its customer is not to see.
    """

    messages: tuple[Message, ...]
    epoch: int | None
    decisions: tuple[Decision, ...]
    withdraws: tuple[MessageId, ...] = ()
    answered: tuple[Message, ...] = ()
    replies: tuple[Outgoing, ...] = ()
    notices: tuple[tuple[ChatId, Outgoing], ...] = ()
    tells: tuple[Tell, ...] = ()
    effects: tuple[Effect, ...] = ()
    takes_back: Message | None = None

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
    replies: tuple[Outgoing, ...] = ()
    late: bool = False

    def with_change(self, changed: Changed) -> Self:
        """The same, its messages as they read now."""
        return replace(self, messages=tuple(changed.of(m) for m in self.messages))
