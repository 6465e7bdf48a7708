"""Lanes: a burst is one answer, what is new joins it while it can, and nothing that is pushed is ever lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from bot.answers import Answered, Proposal
from bot.clock import VirtualClock
from bot.lanes import Lane, Lanes
from bot.policy import Policy
from storage.models import (
    AccountId,
    Action,
    Author,
    Changed,
    ChatId,
    Decision,
    Direction,
    Jid,
    Message,
    MessageId,
    MessageType,
    Outgoing,
    TenantId,
    ThreadId,
)

NOW = datetime(2026, 3, 10, 14, 0, tzinfo=UTC)
CHAT, OTHER = ChatId(1), ChatId(2)
SECOND = timedelta(seconds=1)
POLICY = Policy(debounce=2 * SECOND, longest_debounce=10 * SECOND)


def message(number: int, *, command: str | None = None, chat: ChatId = CHAT) -> Message:
    return Message(
        tenant_id=TenantId(1),
        account_id=AccountId(1),
        chat_id=chat,
        chat_jid=Jid(f"{chat}@s.whatsapp.net"),
        id=MessageId(number),
        thread_id=ThreadId(1),
        direction=Direction.INBOUND,
        author=Author.CUSTOMER,
        type=MessageType.TEXT,
        sent_at=NOW,
        text=f"text {number}",
        command=command,
    )


@dataclass
class FakeDesk:
    """A desk with a store in memory: it decides each message once, and knows who has claimed which reply."""

    clock: VirtualClock
    thinking: timedelta = timedelta(0)
    epoch: int = 0
    says: int = 1
    error: Exception | None = None
    gives_up: bool = False
    refuses_commit: Exception | None = None
    when_ready: Callable[[], None] | None = None
    proposed: list[tuple[list[int], list[int]]] = field(default_factory=list)
    cancelled: int = 0
    decided: dict[int, Action] = field(default_factory=dict)
    commanded: list[int] = field(default_factory=list)
    answers: dict[MessageId, list[int]] = field(default_factory=dict)
    queued: set[MessageId] = field(default_factory=set)
    taken_back: set[MessageId] = field(default_factory=set)
    held_back: set[MessageId] = field(default_factory=set)
    thought: list[datetime] = field(default_factory=list)
    _reply_ids: count[int] = field(default_factory=lambda: count(1000))

    async def command(self, message: Message) -> None:
        await self.clock.sleep(self.thinking)
        self.commanded.append(message.id)
        self._decide([Decision(message_id=message.id, action=Action.COMMAND_DONE)])

    async def propose(self, messages: Sequence[Message], absorbed: Answered) -> Proposal:
        epoch = self.epoch
        self.proposed.append(([m.id for m in messages], [m.id for m in absorbed.messages]))
        self.thought.append(self.clock.now())
        try:
            await self.clock.sleep(self.thinking)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        if self.when_ready is not None:
            asyncio.get_running_loop().call_soon(self.when_ready)
        *joined, last = messages
        if self.gives_up:
            decisions = tuple(Decision(message_id=m.id, action=Action.FAILED) for m in messages)
            return Proposal(messages=tuple(messages), epoch=epoch, decisions=decisions)
        return Proposal(
            messages=tuple(messages),
            epoch=epoch,
            withdraws=absorbed.reply_ids,
            decisions=(
                *(Decision(message_id=m.id, action=Action.JOINED) for m in joined),
                Decision(message_id=last.id, action=Action.KEYWORD_REPLIED),
            ),
            answered=(*absorbed.messages, *messages),
            replies=(Outgoing(text="x"),) * self.says,
        )

    async def commit(self, proposal: Proposal) -> Answered:
        await asyncio.sleep(0)
        if self.refuses_commit is not None:
            raise self.refuses_commit
        ids = {d.message_id for d in proposal.decisions}
        if any(i in self.decided for i in ids):
            return Answered(settled=frozenset(i for i in ids if i in self.decided))
        if proposal.epoch != self.epoch:
            return Answered()
        if not self.queued.issuperset(proposal.withdraws):
            return Answered(late=True)
        self._decide(proposal.decisions)
        self.queued.difference_update(proposal.withdraws)
        self.taken_back.update(proposal.withdraws)
        replies = tuple(MessageId(next(self._reply_ids)) for _ in proposal.replies)
        self.queued.update(replies)
        self.answers.update({r: [m.id for m in proposal.answered] for r in replies})
        return Answered(settled=frozenset(ids), messages=proposal.answered, reply_ids=replies)

    def hold_back(self, chat_id: ChatId, ids: Sequence[MessageId]) -> bool:
        assert not self.held_back, "held back twice"
        if not self.queued.issuperset(ids):
            return False
        self.held_back.update(ids)
        return True

    def let_go(self, chat_id: ChatId) -> None:
        self.held_back.clear()

    async def dismiss(self, messages: Sequence[Message], action: Action, detail: str | None = None) -> None:
        await asyncio.sleep(0)
        self._decide([Decision(message_id=m.id, action=action) for m in messages if m.id not in self.decided])

    def claim(self) -> None:
        """Another process, which knows of no hold, takes everything that is queued."""
        self.queued.clear()

    def send(self) -> None:
        """Our own sender takes what it may."""
        self.queued &= self.held_back

    def standing(self) -> list[list[int]]:
        """What each reply answers that was not taken back."""
        return [ids for reply, ids in self.answers.items() if reply not in self.taken_back]

    def _decide(self, decisions: Sequence[Decision]) -> None:
        for decision in decisions:
            assert decision.message_id not in self.decided, "decided twice"
            self.decided[decision.message_id] = decision.action


@dataclass
class Shop:
    clock: VirtualClock = field(default_factory=lambda: VirtualClock(NOW))
    policy: Policy = POLICY
    desk: FakeDesk = field(init=False)
    lanes: Lanes = field(init=False)

    def __post_init__(self) -> None:
        self.desk = FakeDesk(self.clock)
        self.lanes = Lanes(self.desk, self.desk, self.clock, self.policy)

    @property
    def lane(self) -> Lane:
        return self.lanes.lane(CHAT)

    def push(self, *numbers: int, command: str | None = None) -> None:
        for number in numbers:
            self.lane.push(message(number, command=command))


@pytest.fixture
def shop() -> Shop:
    return Shop()


async def test_a_burst_is_one_answer_after_the_debounce(shop: Shop) -> None:
    shop.push(1)
    await shop.clock.advance(SECOND)
    shop.push(2, 3)
    await shop.clock.advance(2 * SECOND - timedelta(milliseconds=1))
    assert shop.desk.proposed == []
    await shop.clock.settle()
    assert shop.desk.proposed == [([1, 2, 3], [])]
    assert shop.desk.decided == {1: Action.JOINED, 2: Action.JOINED, 3: Action.KEYWORD_REPLIED}
    assert shop.desk.thought == [NOW + 3 * SECOND]


async def test_somebody_who_never_stops_is_answered_at_the_longest_debounce(shop: Shop) -> None:
    for number in range(1, 12):
        shop.push(number)
        await shop.clock.advance(SECOND)
    assert shop.desk.thought[0] == NOW + 10 * SECOND


async def test_typing_postpones_an_answer_up_to_the_longest_debounce(shop: Shop) -> None:
    shop.push(1)
    for _ in range(12):
        await shop.clock.advance(SECOND)
        shop.lane.typing()
    assert shop.desk.thought == [NOW + 10 * SECOND]


async def test_typing_without_a_message_makes_no_answer(shop: Shop) -> None:
    shop.lane.typing()
    await shop.clock.settle()
    assert shop.desk.proposed == []
    assert shop.lane.is_over


async def test_what_comes_while_an_answer_is_made_cancels_it_and_is_answered_with_it(shop: Shop) -> None:
    shop.desk.thinking = 5 * SECOND
    shop.push(1)
    await shop.clock.advance(4 * SECOND)
    shop.push(2)
    await shop.clock.settle()
    assert shop.desk.proposed == [([1], []), ([1, 2], [])]
    assert shop.desk.cancelled == 1
    assert shop.desk.standing() == [[1, 2]]


EDITED = Changed(message_id=MessageId(1), text="corrected", edited_at=NOW, deleted_at=None)


async def test_an_answer_to_what_is_edited_meanwhile_is_begun_anew_at_once(shop: Shop) -> None:
    shop.desk.thinking = 5 * SECOND
    shop.push(1)
    await shop.clock.advance(4 * SECOND)
    shop.lane.change(EDITED)
    await shop.clock.settle()
    assert shop.desk.cancelled == 1
    assert shop.desk.thought == [NOW + 2 * SECOND, NOW + 4 * SECOND]


async def test_an_answer_that_was_ready_when_its_question_was_edited_is_not_kept(shop: Shop) -> None:
    shop.desk.when_ready = lambda: shop.lane.change(EDITED)
    shop.push(1)
    await shop.clock.settle()
    assert shop.desk.cancelled == 0
    assert shop.desk.proposed == [([1], []), ([1], [])]
    assert shop.desk.standing() == [[1]]


async def test_a_change_of_what_is_not_here_changes_nothing(shop: Shop) -> None:
    shop.desk.thinking = 5 * SECOND
    shop.push(2)
    await shop.clock.advance(4 * SECOND)
    shop.lane.change(EDITED)
    await shop.clock.settle()
    assert shop.desk.cancelled == 0


async def test_a_reply_that_nobody_has_claimed_is_taken_back_and_both_are_answered_together(
    shop: Shop,
) -> None:
    shop.push(1)
    await shop.clock.settle()
    shop.push(2)
    await shop.clock.settle()
    assert shop.desk.proposed == [([1], []), ([2], [1])]
    assert shop.desk.standing() == [[1, 2]]
    assert shop.desk.decided == {1: Action.KEYWORD_REPLIED, 2: Action.KEYWORD_REPLIED}


async def test_three_in_a_row_are_answered_all_together_while_nothing_is_claimed(shop: Shop) -> None:
    for number in (1, 2, 3):
        shop.push(number)
        await shop.clock.settle()
    assert shop.desk.standing() == [[1, 2, 3]]


async def test_a_claimed_reply_stays_and_the_next_message_is_the_next_turn(shop: Shop) -> None:
    shop.push(1)
    await shop.clock.settle()
    shop.desk.claim()
    shop.push(2)
    await shop.clock.settle()
    assert shop.desk.standing() == [[1], [2]]


async def test_a_reply_that_is_held_back_is_neither_sent_nor_withdrawn_before_the_joint_answer(
    shop: Shop,
) -> None:
    shop.push(1)
    await shop.clock.settle()
    shop.desk.thinking = 5 * SECOND
    shop.push(2)
    await shop.clock.advance(6 * SECOND)
    shop.desk.send()
    assert shop.desk.held_back == shop.desk.queued == set(shop.desk.answers)
    assert shop.desk.taken_back == set()
    await shop.clock.settle()
    assert shop.desk.standing() == [[1, 2]]
    assert shop.desk.held_back == set()


async def test_a_joint_answer_that_comes_too_late_gives_way_to_one_to_the_new_message(shop: Shop) -> None:
    shop.push(1)
    await shop.clock.settle()
    shop.desk.thinking = 5 * SECOND
    shop.push(2)
    await shop.clock.advance(6 * SECOND)
    shop.desk.claim()
    await shop.clock.settle()
    assert shop.desk.proposed[1:] == [([2], [1]), ([2], [])]
    assert shop.desk.standing() == [[1], [2]]


@pytest.mark.parametrize("how", ["breaks", "gives up", "is not kept"])
async def test_when_the_joint_answer_fails_the_earlier_reply_goes_out(shop: Shop, how: str) -> None:
    shop.push(1)
    await shop.clock.settle()
    shop.desk.error = RuntimeError("the flow broke") if how == "breaks" else None
    shop.desk.gives_up = how == "gives up"
    shop.desk.refuses_commit = ValueError("a text that PostgreSQL refuses") if how == "is not kept" else None
    shop.push(2)
    with capture_logs():
        await shop.clock.settle()
    assert shop.desk.decided == {1: Action.KEYWORD_REPLIED, 2: Action.FAILED}
    assert shop.desk.standing() == [[1]]
    shop.desk.send()
    assert shop.desk.queued == set()


async def test_a_stale_joint_answer_keeps_everything_for_the_next(shop: Shop) -> None:
    shop.push(1)
    await shop.clock.settle()
    shop.desk.thinking = 5 * SECOND
    shop.push(2)
    await shop.clock.advance(6 * SECOND)
    shop.desk.epoch += 1
    await shop.clock.settle()
    assert shop.desk.proposed[1:] == [([2], [1]), ([2], [1])]
    assert shop.desk.standing() == [[1, 2]]


@pytest.mark.parametrize("what", ["a human", "a merge"])
async def test_what_ends_a_turn_lets_go_of_the_earlier_reply(shop: Shop, what: str) -> None:
    shop.push(1)
    await shop.clock.settle()
    shop.push(2)
    await shop.clock.advance(SECOND)
    assert shop.desk.held_back
    if what == "a human":
        shop.lane.stand_aside(message(3))
    else:
        shop.lanes.merge(OTHER, CHAT)
    await shop.clock.settle()
    assert shop.desk.held_back == set()
    assert shop.desk.taken_back == set()


async def test_a_closed_lane_withdraws_nothing(shop: Shop) -> None:
    shop.push(1)
    await shop.clock.settle()
    shop.desk.thinking = 5 * SECOND
    shop.push(2)
    await shop.clock.advance(6 * SECOND)
    await shop.lanes.close()
    assert shop.desk.standing() == [[1]]
    assert shop.desk.queued == set(shop.desk.answers)
    assert shop.desk.decided == {1: Action.KEYWORD_REPLIED}


async def test_delivered_replies_are_not_asked_for_again(shop: Shop) -> None:
    shop.push(1)
    await shop.clock.settle()
    shop.lane.delivered()
    shop.push(2)
    await shop.clock.settle()
    assert shop.desk.taken_back == set()
    assert shop.desk.proposed[-1] == ([2], [])


def at_once() -> Shop:
    """A shop without a debounce."""
    return Shop(policy=Policy(debounce=timedelta(0), longest_debounce=timedelta(0)))


async def test_without_a_debounce_each_message_is_answered_by_itself_in_order() -> None:
    shop = at_once()
    shop.desk.thinking = SECOND
    shop.push(1, 2)
    await shop.clock.advance(timedelta(milliseconds=500))
    shop.push(3)
    await shop.clock.settle()
    assert shop.desk.proposed == [([1], []), ([2], []), ([3], [])]
    assert shop.desk.standing() == [[1], [2], [3]]
    assert shop.desk.cancelled == 0
    assert shop.clock.now() == NOW + 3 * SECOND


async def test_without_a_debounce_a_command_still_comes_first() -> None:
    shop = at_once()
    shop.desk.thinking = SECOND
    shop.push(1)
    await shop.clock.advance(timedelta(milliseconds=500))
    shop.push(2, command="help")
    shop.push(3)
    await shop.clock.advance(SECOND)
    assert shop.desk.commanded == [2]
    await shop.clock.settle()
    assert shop.desk.standing() == [[1], [3]]


async def test_without_a_debounce_a_command_passes_all_that_waits_for_an_answer() -> None:
    shop = at_once()
    shop.desk.thinking = 2 * SECOND
    shop.push(1, 2, 3)
    shop.push(4, command="stop")
    await shop.clock.advance(3 * SECOND)
    assert shop.desk.commanded == [4]
    assert 2 not in shop.desk.decided
    await shop.clock.settle()
    assert shop.desk.standing() == [[1], [2], [3]]


async def test_without_a_debounce_what_joins_is_answered_as_one_burst() -> None:
    shop = at_once()
    for number in (1, 2, 3):
        shop.lane.push(message(number), joins=True)
    shop.push(4)
    await shop.clock.settle()
    assert shop.desk.standing() == [[1, 2, 3], [4]]


async def test_without_a_debounce_all_that_came_before_a_human_is_left_to_them() -> None:
    shop = at_once()
    shop.desk.thinking = SECOND
    shop.push(1, 2, 3)
    await shop.clock.advance(timedelta(milliseconds=500))
    shop.lane.stand_aside(message(4))
    shop.push(5)
    await shop.clock.settle()
    assert shop.desk.decided == {
        1: Action.SUPERSEDED, 2: Action.SUPERSEDED, 3: Action.SUPERSEDED, 5: Action.KEYWORD_REPLIED,
    }  # fmt: skip


async def test_a_command_bypasses_the_debounce_and_does_not_end_a_burst(shop: Shop) -> None:
    shop.push(1)
    await shop.clock.advance(SECOND)
    shop.push(2, command="help")
    await shop.clock.work.idle()
    assert shop.desk.commanded == [2]
    assert shop.clock.now() == NOW + SECOND
    shop.push(3)
    await shop.clock.settle()
    assert shop.desk.proposed == [([1, 3], [])]


async def test_commands_are_carried_out_one_after_the_other(shop: Shop) -> None:
    shop.desk.thinking = 3 * SECOND
    shop.push(1, 2, 3, command="status")
    await shop.clock.settle()
    assert shop.desk.commanded == [1, 2, 3]
    assert shop.clock.now() == NOW + 9 * SECOND


async def test_a_held_lane_makes_no_answer_until_it_is_released(shop: Shop) -> None:
    shop.desk.thinking = 5 * SECOND
    shop.push(1)
    await shop.clock.advance(4 * SECOND)
    shop.lane.hold()
    shop.push(2)
    await shop.clock.advance(timedelta(hours=1))
    assert shop.desk.cancelled == 1
    assert shop.desk.decided == {}
    shop.lane.release()
    await shop.clock.settle()
    assert shop.desk.standing() == [[1, 2]]


async def test_an_answer_that_was_just_ready_is_not_committed_while_the_lane_is_held(shop: Shop) -> None:
    """The human is seen after the model has answered, and before the lane has looked at the answer."""
    shop.desk.when_ready = shop.lane.hold
    shop.push(1)
    await shop.clock.settle()
    assert shop.desk.cancelled == 0
    assert shop.desk.decided == {}
    shop.desk.epoch += 1
    shop.lane.stand_aside(message(2))
    shop.lane.release()
    await shop.clock.settle()
    assert shop.desk.decided == {1: Action.SUPERSEDED}
    assert shop.desk.standing() == []


async def test_an_answer_that_was_ready_is_given_when_the_human_s_line_was_nothing_new(shop: Shop) -> None:
    shop.desk.when_ready = shop.lane.hold
    shop.push(1)
    await shop.clock.settle()
    shop.lane.release()
    await shop.clock.settle()
    assert shop.desk.proposed == [([1], [])]
    assert shop.desk.standing() == [[1]]


async def test_each_of_several_holds_is_released_for_itself(shop: Shop) -> None:
    shop.push(1)
    shop.lane.hold()
    shop.lane.hold()
    shop.lane.release()
    await shop.clock.advance(timedelta(minutes=1))
    assert shop.desk.proposed == []
    shop.lane.release()
    await shop.clock.settle()
    assert shop.desk.standing() == [[1]]


async def test_a_command_is_carried_out_also_while_the_lane_is_held(shop: Shop) -> None:
    shop.lane.hold()
    shop.push(1, command="status")
    await shop.clock.work.idle()
    assert shop.desk.commanded == [1]


async def test_standing_aside_dismisses_what_is_older_and_answers_what_is_newer(shop: Shop) -> None:
    shop.push(1, 2, 4)
    shop.lane.stand_aside(message(3))
    await shop.clock.settle()
    assert shop.desk.decided == {1: Action.SUPERSEDED, 2: Action.SUPERSEDED, 4: Action.KEYWORD_REPLIED}


async def test_standing_aside_stops_an_answer_that_is_being_made(shop: Shop) -> None:
    shop.desk.thinking = 5 * SECOND
    shop.push(1)
    await shop.clock.advance(4 * SECOND)
    shop.lane.stand_aside(message(2))
    await shop.clock.settle()
    assert shop.desk.cancelled == 1
    assert shop.desk.decided == {1: Action.SUPERSEDED}
    assert shop.desk.standing() == []


async def test_after_standing_aside_an_earlier_reply_is_not_answered_again(shop: Shop) -> None:
    shop.push(1)
    await shop.clock.settle()
    shop.lane.stand_aside(message(2))
    shop.push(3)
    await shop.clock.settle()
    assert shop.desk.proposed[-1] == ([3], [])


async def test_standing_aside_twice_means_the_later_one(shop: Shop) -> None:
    shop.push(1, 3, 5)
    shop.lane.stand_aside(message(4))
    shop.lane.stand_aside(message(2))
    await shop.clock.settle()
    assert shop.desk.decided == {1: Action.SUPERSEDED, 3: Action.SUPERSEDED, 5: Action.KEYWORD_REPLIED}


async def test_a_line_that_comes_late_leaves_what_was_written_after_it(shop: Shop) -> None:
    shop.push(1)
    shop.lane.stand_aside(replace(message(2), sent_at=NOW - SECOND))
    await shop.clock.settle()
    assert shop.desk.decided == {1: Action.KEYWORD_REPLIED}


async def test_an_answer_that_a_late_line_has_cancelled_is_asked_for_again(shop: Shop) -> None:
    shop.push(1)
    await shop.clock.settle()
    shop.push(2)
    await shop.clock.work.idle()
    shop.lane.stand_aside(replace(message(3), sent_at=NOW - SECOND))
    # Its reply is cancelled, and it asks once more while the lane still holds it for the joint answer.
    del shop.desk.decided[1]
    shop.push(1)
    await shop.clock.settle()
    assert shop.desk.proposed[-1] == ([1, 2], [])


async def test_an_answer_that_has_become_stale_is_made_again(shop: Shop) -> None:
    shop.desk.thinking = 5 * SECOND
    shop.push(1)
    await shop.clock.advance(4 * SECOND)
    shop.desk.epoch += 1  # by another process: nobody tells the lane
    await shop.clock.settle()
    assert shop.desk.proposed == [([1], []), ([1], [])]
    assert shop.desk.standing() == [[1]]


async def test_a_change_of_the_chat_starts_an_answer_over_at_once(shop: Shop) -> None:
    shop.desk.thinking = timedelta(hours=1)
    shop.push(1)
    await shop.clock.advance(4 * SECOND)
    shop.desk.thinking = timedelta(0)
    shop.lanes.interrupt_all()
    await shop.clock.work.idle()
    assert shop.desk.standing() == [[1]]
    assert shop.clock.now() == NOW + 4 * SECOND


async def test_a_failure_to_answer_is_decided_failed_and_the_next_message_is_answered(shop: Shop) -> None:
    shop.desk.error = RuntimeError("the flow broke")
    shop.push(1, 2)
    with capture_logs() as logs:
        await shop.clock.settle()
    assert [entry["event"] for entry in logs] == ["answer_failed"]
    assert shop.desk.decided == {1: Action.FAILED, 2: Action.FAILED}
    shop.desk.error = None
    shop.push(3)
    await shop.clock.settle()
    assert shop.desk.standing() == [[3]]


async def test_a_failure_to_commit_is_decided_failed_and_the_next_message_is_answered(shop: Shop) -> None:
    shop.desk.refuses_commit = ValueError("a text that PostgreSQL refuses")
    shop.push(1, 2)
    with capture_logs() as logs:
        await shop.clock.settle()
    assert [entry["event"] for entry in logs] == ["answer_failed"]
    assert shop.desk.decided == {1: Action.FAILED, 2: Action.FAILED}
    shop.desk.refuses_commit = None
    shop.push(3)
    await shop.clock.settle()
    assert shop.desk.standing() == [[3]]


async def test_after_a_failure_old_messages_do_not_come_back_with_a_later_one(shop: Shop) -> None:
    shop.push(1)
    await shop.clock.settle()
    shop.desk.error = RuntimeError("the flow broke")
    shop.push(2)
    with capture_logs():
        await shop.clock.settle()
    shop.desk.error = None
    await shop.clock.advance(timedelta(hours=3))
    shop.push(3)
    await shop.clock.settle()
    assert shop.desk.proposed[-1] == ([3], [])


async def test_a_message_brought_twice_is_answered_once(shop: Shop) -> None:
    shop.push(1, 1, 2, 1)
    await shop.clock.advance(SECOND)
    shop.push(1, 2)
    await shop.clock.settle()
    assert shop.desk.standing() == [[1, 2]]


async def test_a_message_that_comes_back_after_its_answer_does_not_take_the_reply_back(shop: Shop) -> None:
    """Recovery reads what is undecided, and by the time that it is pushed it has been decided."""
    shop.push(1)
    await shop.clock.settle()
    shop.push(1)
    await shop.clock.settle()
    assert shop.desk.standing() == [[1]]
    assert shop.desk.taken_back == set()


async def test_a_merge_brings_what_waits_to_the_other_lane_in_order(shop: Shop) -> None:
    shop.lanes.lane(OTHER).push(message(1, chat=OTHER))
    shop.push(2)
    await shop.clock.advance(SECOND)
    shop.lanes.merge(CHAT, OTHER)
    await shop.clock.settle()
    assert [sorted(ids) for ids in shop.desk.standing()] == [[1, 2]]
    assert shop.lanes.find(OTHER) is None


async def test_a_merge_stops_an_answer_that_the_gone_lane_was_making(shop: Shop) -> None:
    shop.desk.thinking = 5 * SECOND
    shop.lanes.lane(OTHER).push(message(1, chat=OTHER))
    await shop.clock.advance(4 * SECOND)
    shop.lanes.merge(CHAT, OTHER)
    await shop.clock.settle()
    assert shop.desk.standing() == [[1]]
    assert shop.desk.cancelled == 1


async def test_chats_do_not_wait_for_each_other(shop: Shop) -> None:
    shop.desk.thinking = timedelta(hours=1)
    shop.push(1)
    await shop.clock.advance(4 * SECOND)
    shop.desk.thinking = timedelta(0)
    shop.lanes.lane(OTHER).push(message(2, chat=OTHER))
    await shop.clock.advance(4 * SECOND)
    assert shop.desk.decided == {2: Action.KEYWORD_REPLIED}
    await shop.clock.settle()
    assert set(shop.desk.decided) == {1, 2}


async def test_a_closed_lane_leaves_what_it_held_undecided(shop: Shop) -> None:
    shop.desk.thinking = 5 * SECOND
    shop.push(1)
    await shop.clock.advance(4 * SECOND)
    await shop.lanes.close()
    assert shop.desk.decided == {}
    assert shop.clock.work.is_idle


async def test_lanes_at_rest_are_dropped_and_busy_ones_are_kept(shop: Shop) -> None:
    shop.push(0)
    for number in range(10, 3000):
        lane = shop.lanes.lane(ChatId(number))
        assert lane.is_over
    assert shop.lanes.find(CHAT) is not None
    assert shop.lanes.find(ChatId(10)) is None
    await shop.clock.settle()
    assert shop.desk.standing() == [[0]]


class Story:
    """A chat to which things happen in any order."""

    def __init__(self) -> None:
        self.shop = Shop()
        self.pushed: list[int] = []
        self.holds = 0
        self._numbers = count(1)

    async def happen(self, step: str) -> None:
        """One more thing."""
        await getattr(self, step)()

    async def message(self) -> None:
        self.pushed.append(next(self._numbers))
        self.shop.push(self.pushed[-1])

    async def command(self) -> None:
        self.pushed.append(next(self._numbers))
        self.shop.push(self.pushed[-1], command="help")

    async def hold(self) -> None:
        self.holds += 1
        self.shop.lane.hold()

    async def release(self) -> None:
        if self.holds:
            self.holds -= 1
            self.shop.lane.release()

    async def human(self) -> None:
        """As the pipeline does it: seen, committed under a new epoch, told."""
        self.shop.lane.hold()
        await asyncio.sleep(0)
        self.shop.desk.epoch += 1
        self.shop.desk.claim()
        self.shop.lane.stand_aside(message(next(self._numbers)))
        self.shop.lane.release()

    async def claim(self) -> None:
        self.shop.desk.claim()

    async def send(self) -> None:
        self.shop.desk.send()

    async def delivery(self) -> None:
        self.shop.desk.send()
        self.shop.lane.delivered()

    async def typing(self) -> None:
        self.shop.lane.typing()

    async def interrupt(self) -> None:
        self.shop.lanes.interrupt_all()

    async def epoch(self) -> None:
        self.shop.desk.epoch += 1

    async def tick(self) -> None:
        await asyncio.sleep(0)

    async def second(self) -> None:
        await self.shop.clock.advance(SECOND)

    async def minute(self) -> None:
        await self.shop.clock.advance(60 * SECOND)

    async def fail(self) -> None:
        self.shop.desk.error = RuntimeError("the flow broke")

    async def mend(self) -> None:
        self.shop.desk.error = None

    async def give_up(self) -> None:
        self.shop.desk.gives_up = True

    async def take_heart(self) -> None:
        self.shop.desk.gives_up = False

    async def slow(self) -> None:
        self.shop.desk.thinking = 5 * SECOND

    async def quick(self) -> None:
        self.shop.desk.thinking = timedelta(0)

    async def end(self) -> None:
        while self.holds:
            await self.release()
        await self.shop.clock.settle()


THINGS = [
    "message",
    *(name for name in vars(Story) if not name.startswith("_") and name not in ("happen", "end")),
]


@settings(max_examples=300, deadline=None)
@given(steps=st.lists(st.sampled_from(THINGS), max_size=40))
async def test_whatever_happens_each_message_is_decided_once_and_answered_in_order(steps: list[str]) -> None:
    story = Story()
    with capture_logs():
        for step in steps:
            await story.happen(step)
        await story.end()
    assert sorted(story.shop.desk.decided) == story.pushed
    assert story.shop.clock.work.is_idle
    answered = [i for ids in story.shop.desk.standing() for i in ids]
    assert answered == sorted(set(answered))
    said = (Action.KEYWORD_REPLIED, Action.JOINED)
    assert answered == sorted(i for i, action in story.shop.desk.decided.items() if action in said)
    assert story.shop.desk.held_back == set()
