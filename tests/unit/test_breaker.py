"""The breaker on first contacts: whom it stops, for how long, and what ends it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from bot.breaker import FIRST_PAUSE, LONGEST_PAUSE, Breaker, Limit
from bot.clock import VirtualClock
from bot.transports.base import ConnectionState
from bot.transports.states import shown
from storage.models import ChatId, Due, Jid, MessageId, Outgoing

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
OWN = Jid("5511999990000@s.whatsapp.net")
SECOND = timedelta(seconds=1)


def due(message_id: int, chat: int = 1, *, first: bool = True, answers: tuple[int, ...] = ()) -> Due:
    """A message of ours; `first`: to somebody who has never written."""
    jid = Jid(f"{chat}@lid")
    return Due(
        chat_id=ChatId(chat), id=MessageId(message_id), to=jid, jids=(jid,), outgoing=Outgoing(text="hi"),
        answers=tuple(MessageId(a) for a in answers), fenced=True, attempts=0, queued_at=NOW, is_first_contact=first,
    )  # fmt: skip


class World:
    def __init__(self) -> None:
        self.clock = VirtualClock(NOW)
        self.told: list[Limit | None] = []
        self.breaker = Breaker(self.clock, lambda jids: OWN in jids)
        self.breaker.listen(self.told.append)

    def passes(self, message: Due) -> bool:
        return self.breaker.forbids(message) is None

    def wait(self, duration: timedelta) -> None:
        asyncio.run(self.clock.advance(duration))
        self.breaker.tick()


@pytest.fixture
def world() -> World:
    return World()


def test_without_a_refusal_everybody_may_be_written_to(world: World) -> None:
    assert world.passes(due(1))
    assert world.breaker.limit is None


def test_after_a_refusal_nobody_new_is_written_to(world: World) -> None:
    world.breaker.refused(due(1))
    reason = world.breaker.forbids(due(2, chat=2))
    assert reason is not None
    assert "2026-11-23 13:00 UTC" in reason


def test_chats_of_those_who_have_written_go_on(world: World) -> None:
    world.breaker.refused(due(1))
    assert world.passes(due(2, chat=2, first=False, answers=(1,)))


def test_a_chat_where_it_was_refused_waits_until_the_customer_writes_again(world: World) -> None:
    world.breaker.refused(due(5, first=False, answers=(4,)))
    assert not world.passes(due(6, first=False, answers=(4,)))
    assert not world.passes(due(6, first=False))
    assert world.passes(due(8, first=False, answers=(7,)))


def test_the_owner_is_nobody_new(world: World) -> None:
    world.breaker.refused(due(1))
    own = Due(
        chat_id=ChatId(9), id=MessageId(2), to=OWN, jids=(OWN,), outgoing=Outgoing(text="hi"), answers=(),
        fenced=False, attempts=0, queued_at=NOW, is_first_contact=True,
    )  # fmt: skip
    assert world.passes(own)


def test_when_the_time_is_up_one_try_decides(world: World) -> None:
    world.breaker.refused(due(1))
    world.wait(FIRST_PAUSE)
    assert world.passes(due(2, chat=2))
    world.breaker.refused(due(2, chat=2))
    assert not world.passes(due(3, chat=3))
    world.wait(2 * FIRST_PAUSE - SECOND)
    assert not world.passes(due(3, chat=3))
    world.wait(SECOND)
    assert world.passes(due(3, chat=3))
    world.breaker.went_out(due(3, chat=3))
    assert world.passes(due(4, chat=4))
    # It starts small again.
    world.breaker.refused(due(5, chat=5))
    assert world.breaker.limit is not None
    assert world.breaker.limit.pause == FIRST_PAUSE


def test_an_answer_that_goes_out_proves_nothing_about_first_contacts(world: World) -> None:
    world.breaker.refused(due(1))
    world.breaker.went_out(due(2, chat=2, first=False, answers=(1,)))
    assert not world.passes(due(3, chat=3))
    world.wait(FIRST_PAUSE)
    world.breaker.went_out(due(4, chat=2, first=False, answers=(1,)))
    world.breaker.refused(due(5, chat=5))
    assert world.breaker.limit is not None
    assert world.breaker.limit.pause == 2 * FIRST_PAUSE


def test_a_pause_grows_up_to_a_day(world: World) -> None:
    for number in range(12):
        world.breaker.refused(due(number))
        assert world.breaker.limit is not None
        world.wait(world.breaker.limit.pause)
    world.breaker.refused(due(99))
    assert world.breaker.limit is not None
    assert world.breaker.limit.pause == LONGEST_PAUSE


def test_more_refusals_within_a_limit_do_not_make_it_longer(world: World) -> None:
    world.breaker.refused(due(1))
    limit = world.breaker.limit
    world.breaker.refused(due(2, chat=2, first=False))
    assert world.breaker.limit is limit
    assert world.told == [limit]


def test_the_end_of_a_limit_is_told_once(world: World) -> None:
    world.breaker.refused(due(1))
    world.wait(FIRST_PAUSE)
    world.breaker.tick()
    assert [told is None for told in world.told] == [False, True]


def test_the_owner_sees_it_as_a_state_of_the_connection(world: World) -> None:
    connected = shown(ConnectionState.CONNECTED, since=NOW)
    assert world.breaker.show(connected) is connected
    world.breaker.refused(due(1))
    limited = world.breaker.show(connected)
    assert (limited.state, limited.can_send, limited.can_receive, limited.next_try) == (
        ConnectionState.REACH_OUT_LIMITED, True, True, NOW + FIRST_PAUSE,
    )  # fmt: skip
    assert limited.advice
    # A connection that is not there matters more.
    lost = shown(ConnectionState.RECONNECTING, since=NOW)
    assert world.breaker.show(lost) is lost
    world.wait(FIRST_PAUSE)
    assert world.breaker.show(connected) is connected
