"""The watch over a number: trouble that lasts, sends that fail; told once each, by whom it can be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from bot.transports.base import SendRefused
from flows.contract import Tell
from storage.database import Database
from storage.models import Action, Outgoing
from storage.notify import NoticeKind, Notify
from storage.outbox import OutboxStore
from tests.conftest import until
from tests.integration.path_world import Path
from tests.integration.store_world import OWNER, SHOP, World, leased, said, typed

ADD_ACCOUNT = """
INSERT INTO sidestep.accounts (tenant_id, name, created_at) SELECT tenant_id, 'two', created_at FROM sidestep.tenants
"""
MINUTE = timedelta(minutes=1)
PATIENCE = 20.0


@pytest.fixture
async def path(db: Database) -> AsyncIterator[Path]:
    path = Path.build(db, await World.open(db, replace(SHOP, timezone="Europe/Berlin")))
    async with path.running():
        await connected(path)
        yield path


async def connected(path: Path) -> None:
    async def can_send() -> bool:
        return path.transport.connection.can_send

    await until(can_send)


def told(path: Path) -> list[str]:
    return [m.content.text for m in path.transport.sent if m.to == OWNER.jid]


async def look(path: Path) -> None:
    """What the scheduler does every half minute, and every second."""
    await path.pipeline.watch.look_at_number()
    await path.pipeline.watch.look_at_chats()
    await path.pipeline.notices.tell_due()
    await path.settle()


async def test_a_number_that_was_cut_off_for_long_tells_so_when_it_is_back(path: Path) -> None:
    await path.transport.suspend()
    for _ in range(3):
        await path.clock.advance(3 * MINUTE)
        await look(path)
    assert told(path) == []
    await path.transport.resume()
    await look(path)
    await look(path)
    assert told(path) == ["The number shop was cut off from 15:00 to 15:09."]


async def test_a_short_gap_is_no_trouble(path: Path) -> None:
    await path.transport.suspend()
    await path.clock.advance(4 * MINUTE)
    await look(path)
    await path.transport.resume()
    await look(path)
    assert told(path) == []


async def test_another_number_of_the_tenant_tells_of_one_that_cannot(path: Path) -> None:
    await path.transport.suspend()
    await path.clock.advance(6 * MINUTE)
    await look(path)
    mute = path.world.account.account_id
    await path.world.db.execute(ADD_ACCOUNT)
    [_, two] = await path.world.tenants.accounts(path.world.tenant.tenant_id)
    lease = await leased(path.world.db, two)
    second = replace(path.world, account=two, lease=lease, outbox=OutboxStore(path.world.db, two, lease))
    other = Path.build(path.world.db, second)
    async with other.running():
        await connected(other)
        await other.clock.advance(6 * MINUTE)
        await other.pipeline.notices.tell_due([mute])
        await other.settle()
        [notice] = told(other)
        assert notice.startswith("The number shop is in trouble since 15:00: ")
    await path.transport.resume()
    await look(path)
    assert told(path) == ["The number shop is all right again."]


async def test_a_daemon_that_starts_again_and_again_tells_of_one_trouble_once_a_day(path: Path) -> None:
    db, world = path.world.db, path.world
    for _ in range(2):
        again = Path.build(db, world)
        async with again.running():
            await connected(again)
            await again.transport.suspend()
            await again.clock.advance(6 * MINUTE)
            await look(again)
    assert await db.fetchval("SELECT count(*) FROM sidestep.notices WHERE kind = 'number'") == 1


async def test_many_failed_sends_are_told_once_a_day(path: Path) -> None:
    ana = await path.world.meet(said("A").event.chat)
    path.see(said("A", "hello"))
    await path.settle()
    for number in range(20):
        if number % 2:
            path.transport.refuse = SendRefused("no")
        await path.pipeline.outbox.send_and_log(ana, Outgoing(text=str(number), fenced=False))
        await path.settle()
        await look(path)
    [notice] = told(path)
    assert notice.startswith("Of the last hour's 10 messages of shop 4 could not be sent")


async def test_a_few_failed_sends_tell_nothing(path: Path) -> None:
    ana = await path.world.meet(said("A").event.chat)
    path.transport.refuse = SendRefused("no")
    await path.pipeline.outbox.send_and_log(ana, Outgoing(text="x", fenced=False))
    await path.settle()
    await look(path)
    assert told(path) == []


async def test_an_owner_who_wants_to_hear_of_nothing_hears_of_nothing(db: Database) -> None:
    nothing = Notify(waiting_after=None, resumed=False, trouble_after=None, failed_share=None)
    path = Path.build(db, await World.open(db, replace(SHOP, notify=nothing)))
    async with path.running():
        await connected(path)
        await path.transport.suspend()
        await path.clock.advance(timedelta(hours=5))
        await look(path)
        await path.transport.resume()
        await look(path)
    assert told(path) == []


async def test_of_many_who_tell_at_once_one_does(path: Path) -> None:
    tell = Tell(kind=NoticeKind.HANDOFF, subject="1", text="Somebody waits.")
    noted = [await path.pipeline.notices.note([tell], path.world.tenant) for _ in range(3)]
    assert noted == [[tell], [], []]
    await asyncio.gather(*(path.pipeline.notices.tell_due() for _ in range(10)))
    await path.settle()
    assert told(path) == ["Somebody waits."]


async def test_one_connection_to_the_store_is_enough(dsn: str) -> None:
    """Nothing waits for a second one within a transaction: as many at once as there are would wait for each other."""
    db = await Database.open(dsn, max_size=1)
    path = Path.build(db, await World.open(db))
    async with path.running(), asyncio.timeout(PATIENCE):
        await connected(path)
        path.see(said("M1", "/human"), typed("H1", "/resum"), typed("H2"))
        await path.settle()
        await path.clock.advance(timedelta(hours=3))
        await path.pipeline.resume_due()
        path.see(said("M2", "price?", at=path.clock.now()))
        await path.settle()
    await db.close()
    assert path.said[-1] == "From 10 to 50."
    assert Action.RESUMED in path.decided


async def test_a_very_long_night_is_told_in_short(path: Path) -> None:
    tells = [Tell(kind=NoticeKind.HANDOFF, subject=str(n), text=f"{n} waits.") for n in range(50)]
    await path.pipeline.notices.note(tells, path.world.tenant)
    await path.pipeline.notices.tell_due()
    await path.settle()
    [notice] = told(path)
    assert notice.splitlines()[0] == "• 0 waits."
    assert notice.splitlines()[-1] == "… and 30 more."
