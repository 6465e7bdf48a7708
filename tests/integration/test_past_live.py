"""The past that comes live after all: told first by the phone, it is as new to the bot as any other message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from bot.transports.base import History
from storage.database import Database
from storage.decisions import explain
from storage.models import Action, Arrival, MessageType, PauseReason, Status
from tests.integration.path_world import Path
from tests.integration.store_world import (
    ANA,
    ANA_BOTH,
    ANA_LID,
    NOW,
    TEAM,
    World,
    ids,
    of_type,
    said,
    typed,
)

BEFORE = NOW - timedelta(minutes=5)


@pytest.fixture
async def world(db: Database) -> World:
    return await World.open(db)


async def decisions(world: World, external_id: str) -> list[tuple[str, Action | None]]:
    """What `why` tells of a message."""
    told = await explain(world.db, world.sessions, world.tenant.tenant_id, external_id)
    return [(e.event_type, e.action) for e in told]


async def tell(path: Path, *arrivals: Arrival) -> None:
    """The phone tells of the past, and it is recorded."""
    path.pipeline.receive(History(messages=(replace(a.event, is_history=True) for a in arrivals)))
    await path.pipeline.past.recorded()


async def test_a_question_that_history_told_first_is_answered_when_it_comes(
    db: Database, world: World
) -> None:
    path = Path.build(db, world)
    async with path.running():
        await tell(path, said("M1", "price?", at=BEFORE))
        await path.settle()
        assert path.said == []
        path.see(said("M1", "price?", at=BEFORE), said("M1", "price?", at=BEFORE))
        await path.settle()
        path.see(said("M1", "price?", at=BEFORE))
        await path.settle()
    assert path.said == ["From 10 to 50."]
    assert await world.texts() == ["price?", "From 10 to 50."]
    assert await decisions(world, "M1") == [
        ("message", Action.IMPORTED),
        ("repeat", Action.DUPLICATE),
        ("live", Action.KEYWORD_REPLIED),
    ]


async def test_the_owners_line_that_history_told_first_takes_over_when_it_comes(
    db: Database, world: World
) -> None:
    path = Path.build(db, world)
    async with path.running():
        await tell(path, typed("H1", at=BEFORE))
        path.see(said("M1", "price?"))
        await path.pipeline.inbox.drained()
        path.see(typed("H1", at=BEFORE))
        await path.settle()
        session = await world.session(await world.meet())
        path.see(typed("H1", at=BEFORE))
        await path.settle()
    assert path.said == []
    assert (session.is_paused, session.pause_reason) == (True, PauseReason.HUMAN_TAKEOVER)
    assert (session.last_human_at, session.epoch) == (BEFORE, 1)
    assert await world.session(await world.meet()) == session
    assert await decisions(world, "H1") == [
        ("message", Action.IMPORTED),
        ("live", Action.PAUSED),
        ("repeat", Action.DUPLICATE),
    ]


async def test_a_takeover_that_history_told_first_ends_what_is_queued_and_comes_to_its_end(
    world: World,
) -> None:
    chat_id = await world.meet()
    await world.record_past(typed("H1", at=BEFORE))
    queued = await world.queue(chat_id)
    [asked] = await world.record(said("M1"))
    [human] = await world.record(typed("H1", at=BEFORE))
    assert human.is_new
    assert await world.status(queued) is Status.CANCELLED
    # Its place is before what was recorded meanwhile, and the next message is after that.
    [later] = await world.record(said("M2"))
    assert ids([human]) < ids([asked]) < ids([later])
    assert [r.chat.chat_id for r in await world.sessions.resume_due(NOW + timedelta(hours=2))] == [chat_id]


async def test_a_command_that_history_told_first_is_carried_out_when_it_comes(
    db: Database, world: World
) -> None:
    path = Path.build(db, world)
    async with path.running():
        await tell(path, said("C1", "/stop", at=BEFORE))
        path.see(said("C1", "/stop", at=BEFORE))
        await path.settle()
    assert (await world.session(await world.meet())).opted_out_at is not None


async def test_what_comes_too_late_to_be_of_use_is_not_answered(db: Database, world: World) -> None:
    path, long_ago = Path.build(db, world), NOW - timedelta(days=1)
    async with path.running():
        await tell(path, said("M1", "price?", at=long_ago), typed("H1", at=long_ago))
        path.see(said("M1", "price?", at=long_ago), typed("H1", at=long_ago))
        await path.settle()
    assert path.said == []
    assert [a for _, a in await decisions(world, "M1")] == [Action.IMPORTED, Action.SUPERSEDED]
    assert [a for _, a in await decisions(world, "H1")] == [Action.IMPORTED, Action.HUMAN_SPOKE]
    assert not (await world.session(await world.meet())).is_paused


async def test_it_reads_as_the_past_has_changed_it(world: World) -> None:
    await world.record_past(
        said("M1", "how much is a cake?", at=BEFORE),
        said("E1", "how much are two?", at=BEFORE, type=MessageType.EDIT, reply_to="M1"),
        said("M2", "never mind", at=BEFORE),
        of_type(MessageType.REVOKE, "R1", at=BEFORE, reply_to="M2"),
        of_type(MessageType.UNDECRYPTABLE, "M3", at=BEFORE),
    )
    edited, revoked, read = await world.record(
        said("M1", "how much is a cake?", at=BEFORE),
        said("M2", "never mind", at=BEFORE),
        said("M3", "and now?", at=BEFORE),
    )
    assert (edited.message.text, edited.message.edited_at) == ("how much are two?", BEFORE)
    assert revoked.message.deleted_at == BEFORE
    assert read.message.text == "and now?"
    assert "and now?" in await world.texts()
    undecided = await world.messages.undecided(world.account)
    assert [(m.id, m.text, m.deleted_at) for m in undecided] == [
        (r.message.id, r.message.text, r.message.deleted_at) for r in (edited, revoked, read)
    ]


async def test_an_edit_that_history_told_first_still_waits_for_its_target(world: World) -> None:
    edit = said("E1", "two cakes", at=BEFORE, type=MessageType.EDIT, reply_to="M1")
    await world.record_past(edit)
    [again] = await world.record(edit)
    assert again.is_new
    [asked] = await world.record(said("M1", "one cake", at=BEFORE))
    assert asked.message.text == "two cakes"


async def test_what_a_killed_daemon_left_of_it_is_answered_at_the_next_start(
    db: Database, world: World
) -> None:
    await world.record_past(said("M1", "price?", at=BEFORE))
    await world.record(said("M1", "price?", at=BEFORE))
    path = Path.build(db, world)
    async with path.running():
        await path.pipeline.recover()
        await path.settle()
    assert path.said == ["From 10 to 50."]


async def test_in_a_group_each_sender_s_own_message_comes_live(world: World) -> None:
    def both() -> Sequence[Arrival]:
        return [said("M1", "mine", by=who, group=TEAM, at=BEFORE) for who in (ANA, ANA_LID)]

    assert await world.record_past(*both()) == 2
    assert [r.is_new for r in await world.record(*both())] == [True, True]
    assert [r.is_new for r in await world.record(*both())] == [False, False]


@pytest.mark.parametrize("past_first", [True, False])
async def test_of_two_copies_in_chats_that_become_one_the_live_one_is_answered(
    db: Database, world: World, past_first: bool
) -> None:
    path = Path.build(db, world)
    async with path.running():
        if not past_first:
            await world.meet(ANA)
        await tell(path, said("M1", "price?", by=ANA_LID, at=BEFORE))
        path.see(said("M1", "price?", by=ANA, at=BEFORE))
        await path.pipeline.inbox.drained()
        path.see(said("M2", "hello?", by=ANA_BOTH))
        await path.settle()
        path.see(said("M1", "price?", by=ANA_LID, at=BEFORE))
        await path.settle()
    assert await world.count("chat_state") == 1
    assert path.said == ["From 10 to 50."]
    assert await world.messages.undecided(world.account) == []
