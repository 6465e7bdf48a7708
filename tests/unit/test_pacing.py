"""Pacing by itself: whose turn it is when, what counts, and a clock that is set back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from bot.clock import VirtualClock
from bot.pacing import Pacer
from bot.policy import Pace, Rate
from storage.models import ChatId, Due, ExternalId, Jid, MessageId, Origin, Outgoing

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)
OURS = Jid("5511999990000@s.whatsapp.net")
ANA = Jid("5511988880001@s.whatsapp.net")


class MovableClock(VirtualClock):
    """One that somebody sets, forward or back."""

    moved = timedelta()

    def now(self) -> datetime:
        return super().now() + self.moved


def due(outgoing: Outgoing | None = None, *, to: Jid = ANA, chat: int = 1) -> Due:
    return Due(
        chat_id=ChatId(chat), id=MessageId(1), to=to, jids=(to,), outgoing=outgoing or Outgoing(text="hi"),
        answers=(), fenced=True, attempts=0, queued_at=NOW,
    )  # fmt: skip


def is_ours(jids: Sequence[Jid]) -> bool:
    return OURS in jids


def paced(clock: VirtualClock, **pace: object) -> Pacer:
    chosen = Pace(per_chat=None, per_account=None, daily=None, first_day=None)
    for name, value in pace.items():
        object.__setattr__(chosen, name, value)
    return Pacer(clock, chosen, is_ours)


def test_a_clock_that_is_set_back_keeps_nobody_waiting_for_the_old_time() -> None:
    clock = MovableClock(NOW)
    pacer = paced(clock, per_chat=Rate(burst=1, every=3 * SECOND), per_account=Rate(burst=1, every=SECOND))
    assert pacer.turn_in_chat(due()) == pacer.turn_of_account(due()) == NOW
    clock.moved = -HOUR
    # As if no time had passed.
    assert pacer.turn_in_chat(due()) == NOW - HOUR + 3 * SECOND
    assert pacer.turn_of_account(due()) == NOW - HOUR + SECOND


def test_a_clock_that_is_set_back_does_not_lengthen_the_day() -> None:
    clock = MovableClock(NOW)
    pacer = paced(clock, daily=1)
    pacer.set_out(due())
    clock.moved = -HOUR
    assert pacer.forbids(due()) is not None
    clock.moved = 23 * HOUR + MINUTE
    assert pacer.forbids(due()) is None


def test_what_is_no_answer_is_neither_counted_nor_forbidden() -> None:
    pacer = paced(MovableClock(NOW), daily=1)
    exempt = (
        due(to=OURS),
        due(Outgoing(revokes=ExternalId("COMMAND"))),
        due(Outgoing(text="hi, it is me", metadata={"origin": Origin.CONSOLE})),
    )
    for each in exempt:
        pacer.set_out(each)
    assert pacer.forbids(due()) is None
    pacer.set_out(due())
    assert pacer.forbids(due()) is not None
    assert [pacer.forbids(each) for each in exempt] == [None] * 3


def test_of_what_had_left_before_only_what_counts_is_remembered() -> None:
    pacer = paced(MovableClock(NOW), daily=2)
    pacer.remember([(NOW - MINUTE, [OURS]), (NOW - MINUTE, [ANA]), (NOW - 25 * HOUR, [ANA])])
    assert pacer.forbids(due()) is None
    pacer.set_out(due())
    assert pacer.forbids(due()) is not None


def test_a_number_warms_up_from_the_moment_it_is_linked() -> None:
    clock = MovableClock(NOW)
    pacer = paced(clock, daily=10, first_day=1)
    pacer.set_out(due())
    assert pacer.forbids(due()) is None
    pacer.link(clock.now())
    assert "pace.first_day" in str(pacer.forbids(due()))
