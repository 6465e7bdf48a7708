"""Decisions: each message is decided once, by whoever comes first, and the whole story of it can be told."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from storage.database import Database
from storage.decisions import explain
from storage.models import Action, Decision, Explanation, ExternalId, Outgoing, Status
from storage.outbox import AlreadyDecided
from tests.integration.store_world import ANA_LID, BEN, NOW, World, ids, receipt, said, typed


@pytest.fixture
async def world(db: Database) -> World:
    return await World.open(db)


async def told(world: World, reference: str) -> list[Explanation]:
    return await explain(world.db, world.sessions, world.tenant.tenant_id, reference)


async def test_twenty_deciders_decide_each_message_once(world: World) -> None:
    recorded = await world.record(*(said(f"M{n}") for n in range(10)))
    chat_id = recorded[0].message.chat_id

    async def decide(n: int) -> list[Decision]:
        action = (Action.AI_REPLIED, Action.KEYWORD_REPLIED)[n % 2]
        wanted = [Decision(message_id=i, action=action, detail=str(n)) for i in ids(recorded)]
        return await world.outbox.dismiss(chat_id, wanted, NOW)

    closed = [d for ds in await asyncio.gather(*(decide(n) for n in range(20))) for d in ds]
    assert sorted(d.message_id for d in closed) == ids(recorded)
    for decision in closed:
        assert await world.action(decision.message_id) is decision.action


async def test_a_decision_never_changes(world: World) -> None:
    [one] = await world.record(said("M1"))
    chat_id = one.message.chat_id
    first = Decision(message_id=one.message.id, action=Action.AI_REPLIED)
    second = Decision(message_id=one.message.id, action=Action.FAILED)
    assert await world.outbox.dismiss(chat_id, [first], NOW) == [first]
    assert await world.outbox.dismiss(chat_id, [second], NOW) == []
    assert await world.action(one.message.id) is Action.AI_REPLIED


async def test_an_answer_to_something_decided_already_keeps_nothing(world: World) -> None:
    [one, two] = await world.record(said("M1"), said("M2"))
    chat_id = one.message.chat_id
    done = Decision(message_id=one.message.id, action=Action.IGNORED_TOO_OLD)
    await world.outbox.dismiss(chat_id, [done], NOW)
    wanted = [Decision(message_id=m.message.id, action=Action.AI_REPLIED) for m in (one, two)]
    epoch = await world.outbox.epoch(chat_id)
    with pytest.raises(AlreadyDecided):
        await world.outbox.answer(chat_id, epoch, wanted, ids([one, two]), [Outgoing(text="x")], NOW)
    assert await world.action(two.message.id) is None
    assert await world.count("outbox") == 0
    assert await world.count("messages") == 2


async def test_of_twenty_answers_to_one_burst_one_is_kept(world: World) -> None:
    recorded = await world.record(said("M1"), said("M2"))
    chat_id = recorded[0].message.chat_id
    epoch = await world.outbox.epoch(chat_id)
    wanted = [Decision(message_id=i, action=Action.AI_REPLIED) for i in ids(recorded)]

    async def answer(n: int) -> bool:
        try:
            await world.outbox.answer(chat_id, epoch, wanted, ids(recorded), [Outgoing(text=f"{n}")], NOW)
        except AlreadyDecided:
            return False
        return True

    assert sum(await asyncio.gather(*(answer(n) for n in range(20)))) == 1
    assert await world.count("outbox") == 1


async def test_why_tells_the_message_the_decision_and_what_became_of_each_reply(world: World) -> None:
    [one, two] = await world.record(said("M1", "price?"), said("M2", "and delivery?"))
    chat_id, epoch = one.message.chat_id, await world.outbox.epoch(one.message.chat_id)
    decisions = [
        Decision(message_id=one.message.id, action=Action.JOINED),
        Decision(message_id=two.message.id, action=Action.KEYWORD_REPLIED, detail="rule 1"),
    ]
    replies = [Outgoing(text="from 10 to 50"), Outgoing(text="free")]
    await world.outbox.answer(chat_id, epoch, decisions, ids([one, two]), replies, NOW)
    due = await world.due(chat_id)
    await world.outbox.claim(due, NOW, NOW)
    await world.outbox.mark_sent(due, ExternalId("3EB01"), NOW, overlapped=False)
    await world.outbox.receive(receipt("3EB01", Status.READ), NOW + timedelta(seconds=5))
    [story] = await told(world, "M2")
    assert (story.message, story.action, story.detail) == (two.message, Action.KEYWORD_REPLIED, "rule 1")
    assert story.chat.chat_id == chat_id
    assert [(r.text, r.status) for r in story.replies] == [
        ("from 10 to 50", Status.READ),
        ("free", Status.QUEUED),
    ]
    assert [s.message.external_id for s in await told(world, str(one.message.id))] == ["M1"]
    # A reply's own id leads to what it answered.
    assert [s.message.external_id for s in await told(world, "3EB01")] == ["M1", "M2"]


async def test_why_tells_of_every_message_that_an_id_can_mean(world: World) -> None:
    await world.record(said("ID", "Ana's"), said("ID", "Ben's", by=BEN), typed("ID", "mine"))
    assert {s.message.text for s in await told(world, "ID")} == {"Ana's", "Ben's", "mine"}


async def test_why_tells_of_a_repeat_and_of_the_clock(world: World) -> None:
    [human] = await world.record(typed("H1"))
    await world.record(typed("H1"), now=NOW + timedelta(minutes=1))
    await world.sessions.resume_due(NOW + timedelta(hours=3))
    stories = await told(world, "H1")
    assert [s.action for s in stories] == [Action.PAUSED, Action.DUPLICATE, Action.RESUMED]
    assert {s.message.id for s in stories} == {human.message.id}


@pytest.mark.parametrize("reference", ["nothing", "", "0", "-1", "9" * 30, "²", "' OR 1=1 --"])
async def test_why_of_something_unknown_is_nothing(world: World, reference: str) -> None:
    await world.record(said("M1"))
    assert await told(world, reference) == []


async def test_an_undecided_message_says_so(world: World) -> None:
    await world.record(said("M1", by=ANA_LID))
    [story] = await told(world, "M1")
    assert story.action is None
    assert story.replies == ()
