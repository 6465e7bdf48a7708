"""The table of states in the database: the same as in code, and the only way to change a state."""

from __future__ import annotations

from datetime import timedelta
from itertools import product

import asyncpg
import pytest

from storage.database import Database
from storage.models import Action, PauseReason
from storage.states import PAUSING, Cause, State, after
from tests.integration.store_world import NOW, World, said, typed

SECOND = timedelta(seconds=1)
AFTER_OF = "SELECT sidestep.after($1, $2)"


@pytest.fixture
async def world(db: Database) -> World:
    return await World.open(db)


async def test_the_database_has_the_same_table(rollback_db: Database) -> None:
    for state, cause in product(State, Cause):
        assert await rollback_db.fetchval(AFTER_OF, state, cause) == after(state, cause), (state, cause)


@pytest.mark.parametrize(("before", "then"), list(product(PauseReason, PauseReason)))
async def test_a_pause_over_a_pause_goes_by_the_table(
    world: World, before: PauseReason, then: PauseReason
) -> None:
    chat_id = await world.meet()
    await world.pause(chat_id, before)
    await world.pause(chat_id, then, now=NOW + SECOND)
    session = await world.session(chat_id)
    assert session.pause_reason is not None
    assert State(session.pause_reason) is after(State(before), PAUSING[then])


@pytest.mark.parametrize(("before", "then"), list(product([None, *PauseReason], PauseReason)))
async def test_whoever_writes_a_reason_by_sql_means_it(
    world: World, before: PauseReason | None, then: PauseReason
) -> None:
    chat_id = await world.meet()
    if before:
        await world.pause(chat_id, before)
    epoch = (await world.session(chat_id)).epoch
    await world.db.execute(
        "SELECT sidestep.pause($1, $2, $3, $4, NULL)", world.tenant.tenant_id, chat_id, then, NOW
    )
    session = await world.session(chat_id)
    assert session.pause_reason is then
    assert session.epoch > epoch or before is then


@pytest.mark.parametrize(
    "change",
    [
        "is_paused = true, pause_reason = 'manual_pause'",
        "is_excluded = true",
        "opted_out_at = now()",
        "is_paused = true, epoch = epoch + 1",
        "pause_reason = 'manual_pause', epoch = epoch + 1",
    ],
)
async def test_a_change_without_the_epoch_or_a_reason_is_refused(world: World, change: str) -> None:
    chat_id = await world.meet()
    with pytest.raises(asyncpg.CheckViolationError):
        await world.db.execute(f"UPDATE sidestep.chat_state SET {change}")  # noqa: S608  the test's own
    assert (await world.session(chat_id)).epoch == 0


@pytest.mark.parametrize(
    "moment", ["paused_at", "paused_until", "last_human_at", "opted_out_at", "last_message_at", "away_until"]
)
@pytest.mark.parametrize("value", ["infinity", "-infinity"])
async def test_a_moment_that_never_comes_is_refused(world: World, moment: str, value: str) -> None:
    await world.meet()
    with pytest.raises(asyncpg.CheckViolationError, match="has_no_infinity"):
        await world.db.execute(
            f"UPDATE sidestep.chat_state SET {moment} = '{value}', epoch = epoch + 1"  # noqa: S608  the test's own
        )


async def test_a_pause_for_good_by_sql_has_no_end(world: World) -> None:
    chat_id = await world.meet()
    pause = "SELECT sidestep.pause($1, $2, 'manual_pause', $3, 'infinity')"
    with pytest.raises(asyncpg.CheckViolationError, match="has_no_infinity"):
        await world.db.execute(pause, world.tenant.tenant_id, chat_id, NOW)
    await world.db.execute(pause.replace("'infinity'", "NULL"), world.tenant.tenant_id, chat_id, NOW)
    assert (await world.session(chat_id)).returns_at is None


async def test_a_change_that_the_table_does_not_have_is_refused(world: World) -> None:
    chat_id = await world.meet()
    await world.pause(chat_id, PauseReason.MANUAL_PAUSE)
    with pytest.raises(asyncpg.CheckViolationError, match="from manual_pause to ai_handoff"):
        await world.db.execute(
            "UPDATE sidestep.chat_state SET pause_reason = 'ai_handoff', epoch = epoch + 1"
        )
    assert (await world.session(chat_id)).pause_reason is PauseReason.MANUAL_PAUSE


async def test_a_line_from_before_a_resume_pauses_no_more_however_late_it_comes(world: World) -> None:
    chat_id = await world.meet()
    await world.record(typed("H1"))
    [resume] = await world.record(said("R", at=NOW + 10 * SECOND), now=NOW + 10 * SECOND)
    await world.resume(chat_id, resume.message, now=NOW + 10 * SECOND)
    epoch = (await world.session(chat_id)).epoch
    [late] = await world.record(typed("H2", at=NOW + 9 * SECOND), now=NOW + 11 * SECOND)
    session = await world.session(chat_id)
    assert late.action is Action.HUMAN_SPOKE
    assert (session.is_paused, session.epoch) == (False, epoch + 1)
    [fresh] = await world.record(typed("H3", at=NOW + 10 * SECOND), now=NOW + 11 * SECOND)
    assert fresh.action is Action.PAUSED


async def test_a_late_line_does_not_stand_in_the_way_of_a_resume_that_was_written_after_it(
    world: World,
) -> None:
    chat_id = await world.meet()
    await world.record(typed("H1"))
    [resume] = await world.record(said("R", at=NOW + 10 * SECOND), now=NOW + 10 * SECOND)
    await world.record(typed("H2", at=NOW + 9 * SECOND), now=NOW + 11 * SECOND)
    await world.resume(chat_id, resume.message, now=NOW + 12 * SECOND)
    assert not (await world.session(chat_id)).is_paused


@pytest.mark.parametrize("seconds", [10, 11])
async def test_what_was_written_after_a_resume_stands_although_the_resume_is_carried_out_last(
    world: World, seconds: int
) -> None:
    chat_id = await world.meet()
    await world.record(typed("H1"))
    [resume] = await world.record(said("R", at=NOW + 10 * SECOND), now=NOW + 10 * SECOND)
    await world.record(typed("H2", at=NOW + seconds * SECOND), now=NOW + 11 * SECOND)
    await world.resume(chat_id, resume.message, now=NOW + 12 * SECOND)
    assert (await world.session(chat_id)).pause_reason is PauseReason.HUMAN_TAKEOVER
