"""Sessions: every way in which a chat falls silent and comes back, by hand and by the clock."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from storage.database import Database
from storage.models import ChatId, Jid, PauseReason, Status
from storage.sessions import SessionStore
from tests.integration.store_world import (
    AFTER,
    ANA,
    ANA_BOTH,
    ANA_LID,
    BEN,
    NOW,
    SHOP,
    TEAM,
    World,
    ids,
    said,
    typed,
)

SECOND = timedelta(seconds=1)


@pytest.fixture
async def world(db: Database) -> World:
    world = await World.open(db)
    await world.record(said("M1", push_name="Ana Souza"))
    return world


async def resumed(world: World, now: datetime) -> list[ChatId]:
    return [r.chat.chat_id for r in await world.sessions.resume_due(now)]


async def test_a_takeover_ends_when_the_owner_has_been_silent_long_enough(world: World) -> None:
    chat_id = await world.meet()
    [human] = await world.record(typed("H1"))
    epoch = (await world.session(chat_id)).epoch
    assert await resumed(world, NOW + AFTER - SECOND) == []
    [one] = await world.sessions.resume_due(NOW + AFTER + SECOND)
    assert (one.chat.chat_id, one.message_id, one.external_id) == (chat_id, human.message.id, "H1")
    assert (one.due_at, one.chat.jid) == (NOW + AFTER, ANA.jid)
    session = await world.session(chat_id)
    assert not session.is_paused
    assert (session.pause_reason, session.paused_at, session.paused_until) == (None, None, None)
    assert session.epoch == epoch + 1
    assert await resumed(world, NOW + 2 * AFTER) == []


async def test_a_customer_s_message_does_not_end_a_takeover_nor_make_it_longer(world: World) -> None:
    await world.record(typed("H1"))
    await world.record(said("M2", at=NOW + AFTER - SECOND), now=NOW + AFTER - SECOND)
    assert (await world.session(await world.meet())).is_paused
    assert await resumed(world, NOW + AFTER) == [await world.meet()]


async def test_two_schedulers_end_each_pause_once(world: World) -> None:
    chats = []
    for n in range(30):
        address = replace(ANA, jid=Jid(f"55110000000{n:02}@s.whatsapp.net"))
        await world.record(typed(f"H{n}", to=address))
        chats.append(await world.meet(address))
    stores = [SessionStore(world.db, world.tenant) for _ in range(2)]
    runs = await asyncio.gather(*(s.resume_due(NOW + AFTER) for _ in range(3) for s in stores))
    assert sorted(r.chat.chat_id for run in runs for r in run) == sorted(chats)
    told = await world.db.fetchval("SELECT count(*) FROM sidestep.decisions WHERE action_taken = 'resumed'")
    assert told == 30


async def test_a_manual_pause_is_not_lifted_by_the_clock(world: World) -> None:
    chat_id = await world.meet()
    await world.pause(chat_id)
    assert await resumed(world, NOW + timedelta(days=365)) == []
    await world.record(typed("H1"))
    assert (await world.session(chat_id)).pause_reason is PauseReason.MANUAL_PAUSE
    assert await resumed(world, NOW + timedelta(days=365)) == []


async def test_a_pause_for_a_time_ends_at_its_time(world: World) -> None:
    chat_id = await world.meet()
    until = NOW + timedelta(minutes=30)
    await world.pause(chat_id, until=until)
    assert await resumed(world, until - SECOND) == []
    assert await resumed(world, until) == [chat_id]


async def test_a_pause_for_a_time_does_not_end_over_a_human_who_has_spoken_in_it(world: World) -> None:
    chat_id = await world.meet()
    until, spoke = NOW + timedelta(minutes=30), NOW + timedelta(minutes=29)
    await world.pause(chat_id, until=until)
    await world.record(typed("H1", at=spoke), now=spoke)
    assert await resumed(world, until) == []
    assert await resumed(world, spoke + AFTER) == [chat_id]


async def test_what_a_human_said_before_a_pause_for_a_time_does_not_make_it_longer(world: World) -> None:
    chat_id = await world.meet()
    await world.record(typed("H1"))
    await world.pause(chat_id, now=NOW + SECOND, until=NOW + timedelta(minutes=30))
    assert await resumed(world, NOW + timedelta(minutes=30)) == [chat_id]


@pytest.mark.parametrize("reason", [PauseReason.CUSTOMER_REQUEST, PauseReason.AI_HANDOFF])
async def test_a_request_for_a_human_ends_when_nobody_or_nobody_any_more_answers(
    world: World, reason: PauseReason
) -> None:
    chat_id = await world.meet()
    await world.pause(chat_id, reason)
    assert await resumed(world, NOW + AFTER - SECOND) == []
    spoke = NOW + timedelta(hours=1)
    await world.record(typed("H1", at=spoke), now=spoke)
    assert await resumed(world, NOW + AFTER) == []
    assert await resumed(world, spoke + AFTER) == [chat_id]


async def test_where_takeovers_never_end_the_clock_ends_none(db: Database) -> None:
    world = await World.open(db, replace(SHOP, auto_resume_after=None))
    await world.record(typed("H1"))
    assert (await world.session(await world.meet())).is_paused
    assert await resumed(world, NOW + timedelta(days=3650)) == []


async def test_a_change_of_the_time_by_sql_holds_for_pauses_under_way(world: World) -> None:
    await world.record(typed("H1"))
    await world.db.execute("UPDATE sidestep.tenants SET auto_resume_after = interval '1 minute'")
    assert await resumed(world, NOW + timedelta(minutes=1)) == [await world.meet()]


async def test_a_return_is_recorded_beside_the_human_s_message_also_the_second_time(world: World) -> None:
    human = ids(await world.record(typed("H1")))
    await resumed(world, NOW + AFTER)
    await world.pause(await world.meet(), until=NOW + 2 * AFTER)
    await resumed(world, NOW + 2 * AFTER)
    rows = await world.db.fetch("SELECT message_id FROM sidestep.decisions WHERE action_taken = 'resumed'")
    assert [r["message_id"] for r in rows] == human * 2


async def test_a_return_works_when_the_human_s_message_was_archived_with_its_month(world: World) -> None:
    await world.record(typed("H1"))
    later = NOW + timedelta(days=40)
    for table in ("messages", "message_payloads", "decisions"):
        await world.db.execute(f"DROP TABLE sidestep.{table}_202603")
    assert await resumed(world, later) == [await world.meet()]


async def test_a_chat_without_a_message_can_be_paused_for_a_time(world: World) -> None:
    chat_id = await world.meet(BEN)
    await world.pause(chat_id, until=NOW + SECOND)
    assert await resumed(world, NOW + SECOND) == [chat_id]


async def test_every_change_raises_the_epoch_and_cancels_what_is_queued(world: World) -> None:
    chat_id = await world.meet()
    for n in range(5):
        queued, kept = await world.queue(chat_id), await world.queue(chat_id, fenced=False)
        before = (await world.session(chat_id)).epoch
        async with world.db.transaction() as connection:
            match n:
                case 0:
                    await world.sessions.pause(connection, chat_id, PauseReason.MANUAL_PAUSE, NOW, None)
                case 1:
                    await world.sessions.exclude(connection, chat_id, True, NOW)
                case 2:
                    await world.sessions.opt_out(connection, chat_id, True, NOW)
                case 3:
                    await world.sessions.reset(connection, chat_id, NOW)
                case _:
                    await world.sessions.exclude(connection, chat_id, False, NOW)
        assert (await world.session(chat_id)).epoch == before + 1
        assert await world.status(queued) is Status.CANCELLED
        assert await world.status(kept) is Status.QUEUED


async def test_after_a_reset_a_new_thread_begins_with_the_next_message(world: World) -> None:
    chat_id = await world.meet()
    [before] = await world.record(said("M2"))
    async with world.db.transaction() as connection:
        await world.sessions.reset(connection, chat_id, NOW)
    [after] = await world.record(said("M3"))
    assert after.message.thread_id > before.message.thread_id
    assert await world.messages.history(world.tenant.tenant_id, chat_id, 9) == [after.message]


async def test_recorders_and_resets_at_once_leave_one_active_thread(world: World) -> None:
    chat_id = await world.meet()

    async def reset() -> None:
        async with world.db.transaction() as connection:
            await world.sessions.reset(connection, chat_id, NOW)

    await asyncio.gather(*(reset() for _ in range(10)), *(world.record(said(f"R{n}")) for n in range(10)))
    await world.record(said("LAST"))
    active = await world.db.fetch("SELECT thread_id FROM sidestep.threads WHERE status = 'active'")
    assert len(active) == 1
    assert await world.count("messages") == 12
    threads = await world.db.fetchval(
        "SELECT count(*) FROM sidestep.messages JOIN sidestep.threads USING (thread_id)"
    )
    assert threads == 12


async def test_the_global_pause_is_known_to_every_chat_and_keeps_its_times(world: World) -> None:
    chat_id = await world.meet()
    assert not await world.sessions.global_pause()
    await world.set_global_pause(True)
    assert await world.sessions.global_pause()
    assert (await world.session(chat_id)).global_pause
    await world.set_global_pause(False, now=NOW + AFTER)
    assert not (await world.session(chat_id)).global_pause
    row = await world.db.fetchrow("SELECT paused_at, resumed_at FROM sidestep.processing_state")
    assert tuple(row or ()) == (NOW, NOW + AFTER)


@pytest.mark.parametrize("query", ["0001", "+55 (11) 98888-0001", "5511988880001", "souza", "ANA S", " Ana "])
async def test_a_chat_is_found_by_the_end_of_its_number_or_a_part_of_its_name(
    world: World, query: str
) -> None:
    await world.record(said("B1", by=BEN, push_name="Ben"), said("T1", by=ANA, group=TEAM))
    assert [c.chat_id for c in await world.sessions.find_chats(query)] == [await world.meet()]


@pytest.mark.parametrize("phone", ["551177771234", "5511977771234"])
@pytest.mark.parametrize(
    "query",
    [
        *("+55 11 97777-1234", "+55 11 7777-1234", "005511977771234", "011 7777-1234", "(11) 97777-1234"),
        *("97777-1234", "7777-1234", "1234"),
    ],
)
async def test_a_number_is_found_as_either_of_the_two_that_its_country_writes(
    world: World, phone: str, query: str
) -> None:
    other = replace(BEN, jid=Jid(f"{phone}@s.whatsapp.net"), alt=None)
    chat_id = await world.meet(other)
    assert [c.chat_id for c in await world.sessions.find_chats(query)] == [chat_id]


@pytest.mark.parametrize("query", ["", "%", "_", "%%%%", "0%1", "\\", "12 34", "9" * 40])
async def test_a_query_is_no_pattern(world: World, query: str) -> None:
    found = await world.sessions.find_chats(query)
    assert len(found) <= 1
    if query:
        assert found == []


async def test_paused_chats_are_listed_newest_first(world: World) -> None:
    ana, ben = await world.meet(), await world.meet(BEN)
    await world.pause(ana)
    await world.pause(ben, now=NOW + SECOND)
    assert [c.chat_id for c in await world.sessions.paused_chats()] == [ben, ana]


async def test_a_chat_s_own_time_goes_before_the_tenant_s(world: World) -> None:
    for silence, chat in ((timedelta(hours=1), ANA), (timedelta(), BEN)):
        chat_id = await world.meet(chat)
        async with world.db.transaction() as connection:
            await world.sessions.resume_after(connection, chat_id, silence)
    [ana, *_] = [r.message.chat_id for r in await world.record(typed("A"), typed("B", to=BEN))]
    assert await resumed(world, NOW + timedelta(minutes=59)) == []
    assert await resumed(world, NOW + timedelta(minutes=61)) == [ana]
    assert await resumed(world, NOW + timedelta(days=1000)) == []


async def test_a_clock_that_jumps_ends_each_pause_once(world: World) -> None:
    [taken] = await world.record(typed("A"))
    assert await resumed(world, NOW - timedelta(days=400)) == []
    assert await resumed(world, NOW + timedelta(days=400)) == [taken.message.chat_id]
    assert await resumed(world, NOW - timedelta(days=400)) == []
    assert await resumed(world, NOW + timedelta(days=400)) == []


async def test_two_chats_that_become_one_keep_the_time_that_either_had(world: World) -> None:
    ana, lid = await world.meet(ANA), await world.meet(ANA_LID)
    async with world.db.transaction() as connection:
        await world.sessions.resume_after(connection, max(ana, lid), timedelta(hours=1))
    both = await world.meet(ANA_BOTH)
    assert both == min(ana, lid)
    chat = await world.sessions.chat(both)
    assert chat is not None
    assert chat.session.idle_after == timedelta(hours=1)
