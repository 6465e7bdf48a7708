"""The whole path of an account: what is said beside an answer never costs the customer the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from flows.contract import Decided, Outcome, Pause, Reply, Turn
from storage.database import Database
from storage.models import (
    Action,
    Address,
    ChatNamed,
    ExternalId,
    Jid,
    MessageType,
    Quoted,
    Typing,
)
from tests.integration.path_world import Path
from tests.integration.store_world import (
    ANA,
    ANA_BOTH,
    ANA_LID,
    BEN,
    SHOP,
    TEAM,
    World,
    of_type,
    said,
    typed,
)

SECOND = timedelta(seconds=1)
ANSWER = "From 10 to 50."


@pytest.fixture
async def path(db: Database) -> Path:
    return Path.build(db, await World.open(db))


async def until_typing(path: Path) -> None:
    """An answer is queued, and the bot is typing it."""
    await path.pipeline.inbox.drained()
    await path.clock.advance(2 * SECOND)
    assert path.transport.typing


@pytest.mark.parametrize(
    "message_type",
    [MessageType.REACTION, MessageType.STICKER, MessageType.EDIT, MessageType.POLL, MessageType.SYSTEM],
)
async def test_a_reaction_while_the_bot_types_does_not_cost_the_answer(
    path: Path, message_type: MessageType
) -> None:
    async with path.running():
        path.see(said("M1", "price?"))
        await until_typing(path)
        path.see(of_type(message_type, "R1"))
        await path.settle()
        assert path.said == [ANSWER]
        assert path.decided == [Action.KEYWORD_REPLIED, Action.IGNORED_UNSUPPORTED]


async def test_a_resume_does_not_undo_what_the_owner_writes_right_after_it(path: Path) -> None:
    """As they come from the queue of a number that was offline: all in one batch."""
    async with path.running():
        path.see(typed("H1"))
        await path.settle()
        path.see(typed("C1", "/resume"), typed("H2", "one moment, please"), said("M1", "price?"))
        await path.settle()
        session = await path.world.session(await path.world.meet())
        assert session.is_paused
        assert Action.IGNORED_PAUSED in path.decided
        path.see(typed("C2", "/resume"), said("M2", "price?"))
        await path.settle()
        assert path.said[-1] == ANSWER


async def test_what_others_say_in_a_group_while_the_bot_types_does_not_cost_the_answer(path: Path) -> None:
    async with path.running():
        path.see(said("M1", "price?", group=TEAM, mentions_me=True))
        await until_typing(path)
        path.see(said("B1", "lunch?", by=BEN, group=TEAM))
        await path.settle()
        assert path.said == [ANSWER]
        assert sorted(path.decided) == [Action.IGNORED_GROUP, Action.KEYWORD_REPLIED]


async def test_chatter_in_a_group_neither_postpones_an_answer_nor_asks_for_one(path: Path) -> None:
    async with path.running():
        path.see(said("M1", "price?", group=TEAM, mentions_me=True))
        await path.pipeline.inbox.drained()
        await path.clock.advance(SECOND)
        path.see(said("B1", "lunch?", by=BEN, group=TEAM))
        await path.pipeline.inbox.drained()
        await path.clock.advance(SECOND)
        assert path.transport.typing == {TEAM.jid}
        await path.settle()
        path.see(said("B2", "price of lunch?", by=BEN, group=TEAM))
        await path.settle()
        assert path.said == [ANSWER]


@pytest.mark.parametrize(("group", "is_waited_for"), [(None, True), (TEAM, False)])
async def test_who_types_is_waited_for_but_not_in_a_group(
    path: Path, group: Address | None, is_waited_for: bool
) -> None:
    async with path.running():
        path.see(said("M1", "price?", group=group, mentions_me=True))
        await path.pipeline.inbox.drained()
        await path.clock.advance(SECOND)
        path.pipeline.receive(Typing(chat=group or ANA, typing=True))
        await path.clock.advance(SECOND)
        assert bool(path.transport.typing) is not is_waited_for
        await path.settle()
        assert path.said == [ANSWER]


async def test_an_answer_quotes_what_it_answers_in_a_group_and_only_there(path: Path) -> None:
    async with path.running():
        path.see(
            said("M1", "hi", group=TEAM, mentions_me=True), said("M2", "price?", group=TEAM, mentions_me=True)
        )
        await path.settle()
        path.see(said("M3", "price?"))
        await path.settle()
        in_group, alone = (message.content.quoted for message in path.transport.sent)
        assert in_group == Quoted(external_id=ExternalId("M2"), sender=ANA.jid, text="price?")
        assert alone is None


async def test_a_group_is_called_what_the_platform_said_last(path: Path, db: Database) -> None:
    async with path.running():
        path.pipeline.receive(ChatNamed(chat=TEAM, name="Nobody has written there yet"))
        path.see(said("M1", "hello all", group=TEAM), said("M2", "hello", by=ANA))
        for name in ("Team", "Our\x00 team"):
            path.pipeline.receive(ChatNamed(chat=TEAM, name=name))
        path.pipeline.receive(ChatNamed(chat=ANA, name="not a group"))
        await path.settle()
        chats = await db.fetch("SELECT jid, name FROM sidestep.chats ORDER BY chat_id")
        assert {chat["jid"]: chat["name"] for chat in chats} == {TEAM.jid: "Our\ufffd team", ANA.jid: None}


async def test_a_second_question_while_the_bot_types_is_answered_together_with_the_first(path: Path) -> None:
    async with path.running():
        path.see(said("M1", "price?"))
        await until_typing(path)
        path.see(said("M2", "hello?"))
        await path.settle()
        assert path.said == [ANSWER]
        [row] = await path.world.db.fetch("SELECT answers FROM sidestep.outbox WHERE status = 'sent'")
        assert len(row["answers"]) == 2


@dataclass
class Turns:
    """A flow that does as it is told, one turn after the other, and remembers what it was told of the chat."""

    does: Sequence[Callable[[Turn], Sequence[Outcome]]]
    name: str = "ai"
    action: Action = Action.AI_REPLIED
    read: list[list[str | None]] = field(default_factory=list)

    async def run(self, turn: Turn) -> AsyncIterator[Outcome]:
        self.read.append([m.text for m in await turn.reader.history(turn.chat.chat_id, 10)])
        for outcome in self.does[len(self.read) - 1](turn):
            yield outcome


def quote(turn: Turn) -> Sequence[Outcome]:
    return [Reply(text=f"to {turn.text}")]


def give_up(turn: Turn) -> Sequence[Outcome]:
    return [Decided(action=Action.FAILED, detail="rate_limited")]


def apologise(turn: Turn) -> Sequence[Outcome]:
    return [Reply(text="soon"), Decided(action=Action.FAILED, detail="rate_limited")]


def hand_over(turn: Turn) -> Sequence[Outcome]:
    return [Pause(chat_id=turn.chat.chat_id), Reply(text="a person will answer", unfenced=True)]


async def two_turns(
    db: Database,
    second: Callable[[Turn], Sequence[Outcome]],
    first: Callable[[Turn], Sequence[Outcome]] = quote,
) -> tuple[Path, Turns]:
    """The second message comes while the reply to the first is being typed."""
    flow = Turns([first, second])
    world = await World.open(db, replace(SHOP, llm_provider="anthropic"))
    path = Path.build(db, world, ai={"anthropic": flow})
    async with path.running():
        path.see(said("M1", "open?"))
        await until_typing(path)
        path.see(said("M2", "hello?"))
        await path.settle()
    return path, flow


async def statuses(path: Path) -> list[tuple[str, str | None]]:
    """Of all replies, oldest first."""
    rows = await path.world.db.fetch("SELECT status, error FROM sidestep.outbox ORDER BY id")
    return [(r["status"], r["error"]) for r in rows]


REPLACED = ("cancelled", "answered together with a later message")


async def test_a_joint_answer_takes_the_place_of_the_first_which_was_never_said(db: Database) -> None:
    path, flow = await two_turns(db, quote)
    assert path.said == ["to open?\nhello?"]
    assert await statuses(path) == [REPLACED, ("sent", None)]
    assert flow.read[1] == ["open?", "hello?"]


async def test_a_joint_answer_that_falls_silent_for_a_person_takes_the_place_of_the_first(
    db: Database,
) -> None:
    path, _ = await two_turns(db, hand_over)
    assert path.said == ["a person will answer"]
    assert await statuses(path) == [REPLACED, ("sent", None)]


@pytest.mark.parametrize(("second", "action"), [(give_up, Action.FAILED), (lambda _: [], Action.AI_REPLIED)])
async def test_a_second_turn_without_an_answer_does_not_cost_the_first_its_own(
    db: Database, second: Callable[[Turn], Sequence[Outcome]], action: Action
) -> None:
    path, _ = await two_turns(db, second)
    assert path.said == ["to open?"]
    assert path.decided == [Action.AI_REPLIED, action]


async def test_what_is_said_for_want_of_an_answer_costs_no_answer_and_is_not_said_twice(db: Database) -> None:
    path, _ = await two_turns(db, apologise)
    assert path.said == ["to open?", "soon"]
    assert path.decided == [Action.AI_REPLIED, Action.FAILED]


async def test_two_failures_in_a_row_say_so_once(db: Database) -> None:
    path, _ = await two_turns(db, apologise, apologise)
    assert path.said == ["soon"]
    assert path.decided == [Action.FAILED, Action.FAILED]
    assert await statuses(path) == [REPLACED, ("sent", None)]


async def test_what_is_said_for_want_of_an_answer_is_not_said_over_a_human(db: Database) -> None:
    world = await World.open(db, replace(SHOP, llm_provider="anthropic"))
    path = Path.build(db, world, ai={"anthropic": Turns([apologise])})
    async with path.running():
        path.see(said("M1", "open?"))
        await until_typing(path)
        path.see(typed("H1"))
        await path.settle()
    assert path.said == []
    assert path.decided == [Action.FAILED, Action.PAUSED]
    [(status, _)] = await statuses(path)
    assert status == "cancelled"


async def test_a_reply_that_is_held_back_when_the_daemon_ends_goes_out_at_the_next_start(path: Path) -> None:
    async with path.running():
        path.see(said("M1", "price?"))
        await until_typing(path)
        path.see(said("M2", "hello?"))
        await path.pipeline.inbox.drained()
        await path.clock.advance(SECOND)  # typed, and not claimed: the debounce of the second goes on
        assert not path.transport.typing
        assert path.said == []
    assert await statuses(path) == [("queued", None)]
    again = Path.build(path.world.db, path.world)
    await again.clock.advance(3 * SECOND)
    async with again.running():
        await again.pipeline.outbox.take_up()
        await again.clock.work.idle()
        await again.settle()
        assert again.said == [ANSWER]
        await again.pipeline.recover()
        await again.settle()
        assert again.said == [ANSWER, "Ask me about prices."]


async def test_a_reply_that_another_process_sends_meanwhile_leaves_the_second_question_to_itself(
    path: Path,
) -> None:
    async with path.running():
        path.see(said("M1", "price?"))
        await until_typing(path)
        path.see(said("M2", "hello?"))
        await path.pipeline.inbox.drained()
        await path.world.db.execute(
            "UPDATE sidestep.outbox SET status = 'sent', due_at = NULL, sent_at = now()"
        )
        await path.settle()
        assert path.said == ["Ask me about prices."]
        assert path.decided == [Action.KEYWORD_REPLIED] * 2


async def test_a_question_that_is_to_be_answered_again_is_not_answered_over_a_human(path: Path) -> None:
    async with path.running():
        path.see(said("M1", "price?"))
        await until_typing(path)
        path.see(of_type(MessageType.STICKER, "R1"), typed("H1"))
        await path.settle()
        assert path.said == []


async def test_an_answer_that_cannot_be_stored_has_failed_and_the_next_is_given(db: Database) -> None:
    path = Path.build(db, await World.open(db), answer="From 10\x00 to 50.")
    async with path.running():
        with capture_logs() as logs:
            path.see(said("M1", "price?"))
            await path.settle()
        assert "answer_failed" in [e["event"] for e in logs]
        assert path.decided == [Action.FAILED]
        path.see(said("M2", "hello?"))
        await path.settle()
        assert path.said == ["Ask me about prices."]


async def test_a_command_is_carried_out_although_its_chat_is_merged_meanwhile(path: Path) -> None:
    async with path.running():
        path.see(said("P1", "hello"))
        path.see(said("L1", "hello", by=ANA_LID))
        await path.settle()
        path.see(said("C1", "/help", by=ANA_LID))
        path.see(said("M1", "hello", by=ANA_BOTH))
        await path.settle()
        assert await path.world.messages.undecided(path.world.account) == []
        assert Action.COMMAND_DONE in path.decided


async def test_a_hundred_merges_at_any_moment_leave_nothing_undecided(path: Path) -> None:
    async with path.running():
        for n in range(100):
            phone = Address(jid=Jid(f"55119666600{n:02}@s.whatsapp.net"))
            lid = Address(jid=Jid(f"3000000000000{n:02}@lid"))
            path.see(said(f"P{n}", "price?", by=phone), said(f"L{n}", "price?", by=lid))
            settling = asyncio.create_task(path.settle())
            for _ in range(n * 5):
                await asyncio.sleep(0)
            path.see(said(f"B{n}", "price?", by=Address(jid=lid.jid, alt=phone.jid)))
            await settling
            await path.settle()
            assert await path.world.messages.undecided(path.world.account) == []
            assert path.said
            assert path.transport.sent[-1].to in {phone.jid, lid.jid}


async def test_a_customer_s_own_message_is_answered_to_the_address_that_they_used(path: Path) -> None:
    async with path.running():
        path.see(said("M1", "price?", by=ANA_BOTH))
        await path.settle()
        path.see(replace(said("M2", "price?").event, external_id=ExternalId("M2"), chat=ANA, sender=ANA))
        await path.settle()
        assert [m.to for m in path.transport.sent] == [ANA_LID.jid, ANA.jid]


async def test_another_owner_than_the_configured_one_is_told_of_once(path: Path, db: Database) -> None:
    stranger = (Jid("5511999997777@s.whatsapp.net"), Jid("300000000000777@lid"))
    further = Path.build(db, replace(path.world, account=replace(path.world.account, name="shop-2")))
    with capture_logs() as logs:
        path.pipeline.linked(stranger)
        path.pipeline.linked(stranger)
        further.pipeline.linked(stranger)
    assert [(e["event"], e["account"]) for e in logs] == [
        ("owner_is_not_the_linked_number", path.world.account.name)
    ]
