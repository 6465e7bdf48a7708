"""Leases: one daemon at a time serves an account, and one that has lost it changes nothing more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import pytest

from storage.database import Connection, Database
from storage.errors import StoreUnavailable
from storage.lease import FencedOut, Leases
from storage.models import Action, Claim, Decision, Due, ExternalId, Outgoing, Status
from storage.outbox import CLAIM, LEASE
from tests.conftest import until
from tests.integration.path_world import Path
from tests.integration.store_world import LONG_AGO, NOW, World, leased, said

HOUR = timedelta(hours=1)
AT_ONCE = timedelta(0)
"""How long a lease lasts whose time is up as soon as it is taken."""

CUT_OFF_HOLDER = """
SELECT pg_terminate_backend(pid) FROM pg_locks
 WHERE locktype = 'advisory' AND granted
   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
WAITING = """
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
SEND_AWAY = "UPDATE sidestep.accounts SET moved_to = 'elsewhere'"


@pytest.fixture
async def world(db: Database) -> World:
    return await World.open(db)


@asynccontextmanager
async def daemon(world: World, lasts: timedelta = HOUR, *, to_serve: bool = True) -> AsyncIterator[Leases]:
    """As much of a daemon as keeps the account's lease."""
    leases = Leases(world.db, [world.account], lasts, to_serve=to_serve)
    try:
        await leases.keep()
        yield leases
    finally:
        await leases.release()


def fence(leases: Leases) -> int:
    """0: the account is not ours."""
    return leases.each[0].fence


async def sees(leases: Leases) -> bool:
    """A look that comes through: a session that was cut off is known as that only once it was used."""
    with suppress(StoreUnavailable):
        await leases.keep()
        return True
    return False


async def looks(leases: Leases) -> bool:
    """A look after which the account is ours; a session does not end at once."""
    await leases.keep()
    return leases.each[0].is_ours


async def test_a_second_daemon_waits_until_the_first_lets_go_and_gets_a_higher_number(world: World) -> None:
    async with daemon(world) as first, daemon(world) as second:
        had = fence(first)
        assert had
        assert not fence(second)
        assert second.each[0].holder == first.each[0].holder
        await first.release()
        await second.keep()
        assert fence(second) == had + 1


async def test_of_eight_daemons_that_come_at_once_one_serves(world: World) -> None:
    everybody = [Leases(world.db, [world.account], HOUR) for _ in range(8)]
    await asyncio.gather(*(leases.keep() for leases in everybody))
    assert sum(leases.each[0].is_ours for leases in everybody) == 1
    for leases in everybody:
        await leases.release()


async def test_a_daemon_whose_session_has_ended_is_replaced_at_once(world: World) -> None:
    async with daemon(world) as dead, daemon(world) as successor:
        had = fence(dead)
        await world.db.fetch(CUT_OFF_HOLDER)
        await until(lambda: looks(successor))
        assert fence(successor) == had + 1
        await until(lambda: sees(dead))
        assert not fence(dead)


async def test_a_daemon_that_says_nothing_is_replaced_when_its_time_is_up(world: World) -> None:
    async with daemon(world, AT_ONCE) as frozen, daemon(world) as successor:
        assert fence(successor) == fence(frozen) + 1
        await frozen.keep()
        assert not fence(frozen)


async def test_a_daemon_keeps_its_number_though_its_session_breaks_or_its_time_is_up(world: World) -> None:
    async with daemon(world, AT_ONCE) as only:
        had = fence(only)
        await only.keep()
        await world.db.fetch(CUT_OFF_HOLDER)
        await until(lambda: sees(only))
        assert fence(only) == had


async def test_a_lease_is_renewed_before_its_time_is_up(world: World) -> None:
    async with daemon(world) as only:
        await world.db.execute("UPDATE sidestep.leases SET expires_at = now() + interval '1 second'")
        await only.keep()
        assert await world.db.fetchval(
            "SELECT expires_at > now() + interval '59 minutes' FROM sidestep.leases"
        )


async def test_a_number_that_has_left_this_database_is_served_by_nobody(world: World) -> None:
    async with daemon(world) as leases:
        await world.db.execute(SEND_AWAY)
        await leases.keep()
        assert not fence(leases)
    async with daemon(world) as server, daemon(world, to_serve=False) as mover:
        assert not fence(server)
        assert fence(mover)


# -- fenced out --------------------------------------------------------------


async def test_whoever_has_lost_the_account_claims_nothing(world: World) -> None:
    due = await queued(world)
    await leased(world.db, world.account)
    with pytest.raises(FencedOut):
        await world.outbox.claim(due, NOW, LONG_AGO)
    assert await world.status(due.id) is Status.QUEUED


async def test_nor_does_it_decide_answer_or_queue_again(world: World) -> None:
    [asked] = await world.record(said("M1"))
    chat_id, message_id = asked.message.chat_id, asked.message.id
    due = await queued(world)
    decision = [Decision(message_id=message_id, action=Action.FAILED)]
    attempts: list[Callable[[], Awaitable[object]]] = [
        lambda: world.outbox.dismiss(chat_id, decision, NOW),
        lambda: world.outbox.answer(chat_id, None, decision, [message_id], [Outgoing(text="late")], NOW),
        lambda: world.outbox.settle(due, Status.QUEUED, "not connected", NOW),
    ]
    await leased(world.db, world.account)
    for attempt in attempts:
        with pytest.raises(FencedOut):
            await attempt()
    assert await world.action(message_id) is None
    assert await world.texts() == ["hello", "from 10 to 50"]
    assert (await world.row(due.id))["error"] is None


async def test_but_what_it_has_sent_and_what_has_reached_it_is_kept(world: World) -> None:
    due = await queued(world)
    assert await world.outbox.claim(due, NOW, LONG_AGO) is Claim.CLAIMED
    await leased(world.db, world.account)
    await world.outbox.mark_sent(due, ExternalId("3EB0"), NOW, overlapped=False)
    assert await world.status(due.id) is Status.SENT
    assert len(await world.record(said("M1"))) == 1


async def test_a_successor_waits_for_a_claim_that_is_being_committed(world: World) -> None:
    due = await queued(world)
    successor = Leases(world.db, [world.account], HOUR)
    async with world.db.transaction() as connection:
        await claim_within(connection, world, due)
        taking = asyncio.create_task(successor.keep())

        async def waits() -> bool:
            return bool(await world.db.fetchval(WAITING))

        await until(waits)
    await taking
    assert fence(successor) == world.lease.fence + 1
    assert await world.status(due.id) is Status.SENDING
    await successor.release()


async def test_a_daemon_that_is_fenced_out_leaves_all_as_it_is_for_the_next(world: World) -> None:
    path = Path.build(world.db, world)
    async with path.running():
        await leased(world.db, world.account)
        path.see(said("M1", "price"), said("M2", "/help"))
        await path.settle()
        assert (path.said, path.decided) == ([], [])
    successor = Path.build(world.db, await World.open(world.db))
    async with successor.running():
        await successor.pipeline.recover()
        await successor.settle()
        assert sorted(successor.decided) == [Action.COMMAND_DONE, Action.KEYWORD_REPLIED]
        assert len(successor.said) == 2


async def test_what_a_late_daemon_records_is_taken_up_by_whoever_serves(world: World) -> None:
    path = Path.build(world.db, world)
    async with path.running():
        await world.record(said("M1", "price"), now=NOW)
        await path.pipeline.take_up_left()
        await path.settle()
        assert path.decided == []  # it may be on its way into our own lane
        await path.clock.advance(timedelta(minutes=1))
        await path.pipeline.take_up_left()
        await path.settle()
        assert path.decided == [Action.KEYWORD_REPLIED]


async def queued(world: World) -> Due:
    chat_id = await world.meet()
    await world.queue(chat_id)
    return await world.due(chat_id)


async def claim_within(connection: Connection, world: World, due: Due) -> None:
    """The claim of an OutboxStore, in a transaction that has not ended yet."""
    await connection.fetch(
        CLAIM, world.tenant.tenant_id, world.account.account_id, world.lease.fence, [due.chat_id], [due.id], [NOW],
        LEASE, [LONG_AGO],
    )  # fmt: skip
