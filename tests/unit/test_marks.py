"""Marks: a human who was seen speaking stops what was begun before, at once and until the store tells."""

from __future__ import annotations

import asyncio

import pytest

from bot.marks import HumanMarks
from storage.models import Address, Jid

PHONE, LID, OTHER = Jid("55@s.whatsapp.net"), Jid("1@lid"), Jid("66@s.whatsapp.net")
CHAT = (PHONE, LID)


class Lane:
    """Something that is held and released."""

    def __init__(self) -> None:
        self.held = 0

    def hold(self) -> None:
        self.held += 1

    def release(self) -> None:
        self.held -= 1


@pytest.fixture
def marks() -> HumanMarks:
    return HumanMarks()


def test_where_nobody_spoke_nothing_is_marked(marks: HumanMarks) -> None:
    assert not marks.human_since((PHONE, LID), marks.stamp())


def test_a_mark_stops_what_took_its_stamp_before(marks: HumanMarks) -> None:
    stamp = marks.stamp()
    marks.settle(marks.put((PHONE,)))
    assert marks.human_since((PHONE,), stamp)


def test_what_takes_its_stamp_after_the_commit_is_the_epoch_s_to_judge(marks: HumanMarks) -> None:
    marks.settle(marks.put((PHONE,)))
    assert not marks.human_since(CHAT, marks.stamp())


@pytest.mark.parametrize("said_under", [PHONE, LID])
def test_a_mark_that_is_not_committed_stops_for_good_what_takes_its_stamp_then(
    marks: HumanMarks, said_under: Jid
) -> None:
    marks.learn(Address(jid=LID, alt=PHONE))
    mark = marks.put((said_under,))
    stamp = marks.stamp()
    assert marks.human_since((PHONE,), stamp)
    # Between the two a claim may have been granted, before the commit.
    marks.settle(mark)
    # What was claimed before the commit does not know of it.
    assert marks.human_since((PHONE,), stamp)
    assert not marks.human_since((PHONE,), marks.stamp())


def test_what_turns_out_to_be_no_human_stops_nothing_any_more(marks: HumanMarks) -> None:
    before = marks.stamp()
    mark = marks.put((PHONE,), [lane := Lane()])
    assert marks.human_since((PHONE,), before)
    assert lane.held == 1
    marks.withdraw(mark)
    assert not marks.human_since((PHONE,), before)
    assert lane.held == 0


async def test_who_waits_goes_on_when_all_that_was_seen_in_the_chat_is_settled(marks: HumanMarks) -> None:
    first, second, elsewhere = marks.put((PHONE,)), marks.put((PHONE,)), marks.put((OTHER,))
    waiting = asyncio.create_task(marks.settled((PHONE, LID)))
    marks.withdraw(first)
    marks.settle(elsewhere)
    await asyncio.sleep(0)
    assert not waiting.done()
    marks.settle(second)
    async with asyncio.timeout(60):
        assert await waiting
    assert not await marks.settled((LID,))


def test_two_lines_are_two_marks_and_both_must_be_committed(marks: HumanMarks) -> None:
    first, second = marks.put((PHONE,)), marks.put((PHONE,))
    marks.settle(second)
    assert marks.human_since((PHONE,), marks.stamp())
    marks.settle(first)
    assert not marks.human_since((PHONE,), marks.stamp())


@pytest.mark.parametrize("said_under", [(PHONE,), (LID,), (PHONE, LID), (LID, PHONE)])
def test_a_chat_is_meant_by_any_of_its_addresses(marks: HumanMarks, said_under: tuple[Jid, ...]) -> None:
    stamp = marks.stamp()
    marks.put(said_under)
    assert marks.human_since((PHONE, LID), stamp)
    assert not marks.human_since((OTHER,), stamp)


def test_two_forms_that_an_event_named_together_are_one_from_then_on(marks: HumanMarks) -> None:
    stamp = marks.stamp()
    marks.learn(Address(jid=LID, alt=PHONE))
    marks.put((LID,))
    assert marks.human_since((PHONE,), stamp)
    assert not marks.human_since((OTHER,), stamp)


def test_two_forms_that_become_one_after_the_mark_are_one_too(marks: HumanMarks) -> None:
    stamp = marks.stamp()
    mark = marks.put((LID,))
    marks.learn(Address(jid=PHONE, alt=LID))
    assert marks.human_since((PHONE,), stamp)
    marks.settle(mark)
    assert marks.human_since((PHONE,), stamp)
    assert not marks.human_since(CHAT, marks.stamp())


def test_a_mark_holds_at_once_and_releases_when_it_is_settled(marks: HumanMarks) -> None:
    lane = Lane()
    first, second = marks.put((PHONE,), [lane]), marks.put((PHONE,), [lane])
    assert lane.held == 2
    marks.settle(first)
    assert lane.held == 1
    marks.settle(second)
    assert lane.held == 0


def test_what_is_old_is_forgotten_and_what_is_pending_never(marks: HumanMarks) -> None:
    pending = marks.put((PHONE,))
    stamp = marks.stamp()
    for number in range(150_000):
        marks.settle(marks.put((Jid(str(number)),)))
    assert len(marks) <= 100_001
    assert marks.human_since((PHONE,), stamp)
    marks.settle(pending)
    recent = marks.stamp() - 10
    assert marks.human_since((Jid("149999"),), recent)
