"""What could not be opened at first: it has its place at once, wakes nobody, and is whole when it comes again."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from storage.database import Database
from storage.decisions import explain
from storage.models import Action, Arrival, MessageType, Unopened
from tests.integration.path_world import Path
from tests.integration.store_world import ANA, NOW, TEAM, World, of_type, said, typed

EARLIER = NOW - timedelta(minutes=1)
SECOND = timedelta(seconds=1)
PLACE = of_type(MessageType.UNDECRYPTABLE, "M1", raw='{"opened": false}')
WHOLE = said("M1", "price?")
PICTURE = said(
    "M1", "this one?", group=TEAM, type=MessageType.IMAGE, reply_to="B1", reply_to_me=True,
    metadata={"caption": True}, raw='{"opened": true}',
)  # fmt: skip
IS_WHOLE = {
    "type": "image", "text": "this one?", "reply_to": "B1", "addressed": True, "metadata": {"caption": True},
    "raw": {"opened": True}, "medium": "image",
}  # fmt: skip
READ = """
SELECT m.type, m.text, m.reply_to, m.addressed, m.metadata, p.raw, f.type AS medium
  FROM sidestep.messages m LEFT JOIN sidestep.message_payloads p USING (tenant_id, chat_id, id)
  LEFT JOIN sidestep.media f ON f.message_id = m.id
"""


@pytest.fixture
async def world(db: Database) -> World:
    return await World.open(db)


def in_group(arrival: Arrival) -> Arrival:
    return replace(arrival, event=replace(arrival.event, chat=TEAM, sender=ANA, is_group=True))


def unopened(arrival: Arrival) -> Unopened:
    """What a transport tells of it."""
    closed = replace(arrival.event, type=MessageType.UNDECRYPTABLE, text=None, is_history=True)
    return Unopened(message=closed)


def closed(arrival: Arrival) -> Arrival:
    """The owner's, as it is until it opens: a word of theirs, whatever it says."""
    return replace(arrival, event=replace(arrival.event, type=MessageType.UNDECRYPTABLE, text=None))


async def decisions(world: World, external_id: str = "M1") -> list[tuple[str, Action | None]]:
    told = await explain(world.db, world.sessions, world.tenant.tenant_id, external_id)
    return [(e.event_type, e.action) for e in told]


async def test_it_is_recorded_and_nobody_answers_it(db: Database, world: World) -> None:
    path = Path.build(db, world)
    async with path.running():
        path.pipeline.receive(unopened(PLACE))
        path.see(said("M2", "price?"))
        await path.settle()
    assert path.said == ["From 10 to 50."]
    assert await decisions(world) == [("message", Action.IMPORTED)]
    [told] = await explain(db, world.sessions, world.tenant.tenant_id, "M1")
    assert (told.message.type, told.detail) == (MessageType.UNDECRYPTABLE, "it could not be opened")
    assert path.decided == [Action.KEYWORD_REPLIED]
    assert 'sidestep_decisions_total{action="imported"} 1.0' in path.pipeline._metrics.render().decode()


async def test_it_is_answered_once_when_it_comes(db: Database, world: World) -> None:
    path = Path.build(db, world)
    async with path.running():
        path.pipeline.receive(unopened(PLACE))
        path.see(WHOLE, WHOLE)
        path.pipeline.receive(unopened(PLACE))
        path.see(WHOLE)
        await path.settle()
    assert path.said == ["From 10 to 50."]
    assert sorted(await decisions(world)) == [
        ("live", Action.KEYWORD_REPLIED),
        ("message", Action.IMPORTED),
        ("repeat", Action.DUPLICATE),
    ]


async def test_what_the_human_handled_meanwhile_is_not_answered_however_late_it_opens(
    db: Database, world: World
) -> None:
    """Who sends it again may stamp it anew: it was written when it came first."""
    path = Path.build(db, world)
    async with path.running():
        path.pipeline.receive(unopened(said("M1", at=EARLIER)))
        path.see(typed("H1", at=EARLIER + SECOND), typed("C1", "/resume", at=EARLIER + 2 * SECOND))
        await path.settle()
        path.see(WHOLE)
        await path.settle()
    assert "From 10 to 50." not in path.said
    assert ("live", Action.SUPERSEDED) in await decisions(world)


async def test_a_line_from_before_a_resume_pauses_no_more_however_late_it_opens(
    db: Database, world: World
) -> None:
    path = Path.build(db, world)
    async with path.running():
        path.see(closed(typed("H1", at=EARLIER)), typed("C1", "/resume", at=EARLIER + SECOND))
        await path.settle()
        path.see(typed("H1"), said("M2", "price?"))
        await path.settle()
    assert path.said[-1] == "From 10 to 50."


async def test_of_one_moment_a_line_that_came_after_a_resume_is_the_last_word(
    db: Database, world: World
) -> None:
    """Its place is where it arrived, whenever it opens."""
    path = Path.build(db, world)
    async with path.running():
        path.see(typed("H0"), typed("C1", "/resume"), closed(typed("H1")), typed("H1"))
        await path.settle()
        path.see(said("M2", "price?"))
        await path.settle()
    assert "From 10 to 50." not in path.said


async def test_a_stop_leaves_none_unrecorded(db: Database, world: World) -> None:
    path = Path.build(db, world)
    async with path.running():
        path.pipeline.receive(unopened(PLACE))
        await path.pipeline.drained()
    assert await decisions(world) == [("message", Action.IMPORTED)]


async def test_it_is_whole_when_it_comes(world: World) -> None:
    await world.record_past(in_group(PLACE))
    [heard] = await world.record(PICTURE)
    assert (heard.is_new, heard.action) == (True, None)
    assert [dict(row) for row in await world.db.fetch(READ)] == [IS_WHOLE]
    for again in (PICTURE, in_group(PLACE)):
        assert not (await world.record(again))[0].is_new
    assert [dict(row) for row in await world.db.fetch(READ)] == [IS_WHOLE]


@pytest.mark.parametrize("opened_by", ["the phone's history", "a repeat", "a repeat in its batch"])
async def test_whoever_opens_it_it_is_whole(world: World, opened_by: str) -> None:
    if opened_by == "the phone's history":
        await world.record_past(in_group(PLACE))
        await world.record_past(PICTURE)
    elif opened_by == "a repeat":
        await world.record(in_group(PLACE))
        assert not (await world.record(PICTURE))[0].is_new
    else:
        await world.record(in_group(PLACE), PICTURE)
    assert [dict(row) for row in await world.db.fetch(READ)] == [IS_WHOLE]


async def test_what_the_phone_s_history_opens_is_answered_when_it_comes(db: Database, world: World) -> None:
    await world.record_past(PLACE)
    await world.record_past(WHOLE)
    path = Path.build(db, world)
    async with path.running():
        path.see(WHOLE)
        await path.settle()
    assert path.said == ["From 10 to 50."]


async def test_the_first_words_are_among_the_versions_of_what_was_edited_meanwhile(world: World) -> None:
    await world.record_past(PLACE)
    await world.record(said("E1", "two cakes", type=MessageType.EDIT, reply_to="M1"))
    [heard] = await world.record(said("M1", "one cake"))
    assert heard.message.text == "two cakes"
    rows = await world.db.fetch("SELECT text FROM sidestep.message_versions ORDER BY version_id")
    assert [row["text"] for row in rows] == ["one cake", "two cakes"]


async def test_the_owner_s_takes_the_chat_over_before_it_opens(db: Database, world: World) -> None:
    path, line = Path.build(db, world), typed("H1", "It is 20", at=EARLIER)
    async with path.running():
        path.see(closed(line), said("M2", "price?"))
        await path.settle()
        path.see(line)
        await path.settle()
    assert path.said == []
    assert sorted(await decisions(world, "H1")) == [("message", Action.PAUSED), ("repeat", Action.DUPLICATE)]
    assert "It is 20" in await world.texts()


async def test_a_command_is_carried_out_when_it_opens_and_leaves_the_pause_that_it_has_begun(
    db: Database, world: World
) -> None:
    """Until it opened it was a word of the owner's; that nobody else has spoken meanwhile is not certain enough."""
    path, command = Path.build(db, world), typed("C1", "/status")
    async with path.running():
        path.see(closed(command), command, command)
        await path.settle()
    assert ("live", Action.COMMAND_DONE) in await decisions(world, "C1")
    assert (await world.session(await world.meet())).is_paused


async def test_a_resume_that_did_not_open_at_first_ends_the_pause(db: Database, world: World) -> None:
    path, command = Path.build(db, world), typed("C1", "/resume", at=NOW + SECOND)
    async with path.running():
        path.see(typed("H1"), closed(command), command)
        await path.settle()
        path.see(said("M1", "price?", at=NOW + 2 * SECOND))
        await path.settle()
    assert path.said[-1] == "From 10 to 50."


@pytest.mark.parametrize("opens", [True, False])
async def test_what_was_asked_after_a_line_that_comes_late_is_answered_in_order(
    db: Database, world: World, opens: bool
) -> None:
    """The answer that the line has cancelled comes before one to what was asked meanwhile."""
    path, line = Path.build(db, world), typed("H1", at=NOW - timedelta(hours=3))
    async with path.running():
        path.see(said("M1", "price?"))
        await path.pipeline.inbox.drained()
        await path.clock.advance(timedelta(seconds=2))  # it is typed
        path.see(said("M2", "price?", at=NOW + 2 * SECOND))
        path.see(line if opens else closed(line))
        await path.settle()
    answered = await db.fetch(
        "SELECT answers FROM sidestep.outbox WHERE status = 'sent' ORDER BY sent_at, id"
    )
    ids = [answer for row in answered for answer in row["answers"]]
    assert len(ids) == 2
    assert ids == sorted(ids)


@pytest.mark.parametrize("takes_over", [True, False])
async def test_the_owner_s_in_a_group_pauses_it_only_where_that_is_configured(
    db: Database, world: World, takes_over: bool
) -> None:
    path = Path.build(db, world)
    path.pipeline._policy = replace(path.pipeline._policy, takeover_in_groups=takes_over)
    await world.record(said("M1", group=TEAM))
    async with path.running():
        path.see(closed(typed("H1", to=TEAM, is_group=True)))
        await path.pipeline.drained()
    assert (await world.session(await world.meet(TEAM))).is_paused is takes_over


async def test_a_repeat_that_can_be_read_keeps_its_decision(world: World) -> None:
    [kept] = await world.record(PLACE)
    [again] = await world.record(WHOLE)
    assert (kept.is_new, again.is_new) == (True, False)
    assert await world.texts() == ["price?"]
