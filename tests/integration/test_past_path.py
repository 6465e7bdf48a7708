"""The past on its way through the pipeline: behind what is live, piece by piece, and no bad message costs another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from bot.transports.base import History
from storage.database import Database
from storage.errors import StoreUnavailable
from storage.messages import MessageStore
from storage.models import Account, Action, Arrival, InboundMessage, Merge
from tests.integration.path_world import Path
from tests.integration.store_world import ANA, ANA_BOTH, ANA_LID, BEN, NOW, World, said, typed

YESTERDAY = NOW - timedelta(days=1)


@pytest.fixture
async def world(db: Database) -> World:
    return await World.open(db)


def past(*arrivals: Arrival) -> Iterator[InboundMessage]:
    return (replace(a.event, is_history=True) for a in arrivals)


async def test_the_past_is_recorded_behind_the_live_and_nothing_of_it_is_answered(
    db: Database, world: World
) -> None:
    path = Path.build(db, world)
    told = [said(f"P{n}", "price?", by=BEN, at=YESTERDAY + timedelta(seconds=n)) for n in range(120)]
    async with path.running():
        path.pipeline.receive(
            History(
                messages=past(*told, typed("H1", "10", to=BEN, at=NOW), said("C1", "/stop", by=BEN, at=NOW)),
                names={BEN.jid: "Ben"},
            )
        )
        path.see(said("M1", "price?", by=ANA), said("M2", "price?", by=BEN))
        await path.settle()
        assert path.said == ["From 10 to 50."] * 2
    assert await world.count("messages") == 122 + 2 + 2
    ben = await world.session(await world.meet(BEN))
    assert (ben.is_paused, ben.opted_out_at, ben.last_human_at) == (False, None, None)
    [chat] = await world.sessions.find_chats("Ben")
    assert chat.chat_id == ben.chat_id
    metrics = path.pipeline._metrics.render().decode()
    assert 'sidestep_decisions_total{action="imported"} 122.0' in metrics


async def test_one_bad_message_of_the_past_goes_to_quarantine_alone(db: Database, world: World) -> None:
    path = Path.build(db, world)
    async with path.running():
        bad = said("P1", "nul \x00", at=YESTERDAY)
        path.pipeline.receive(
            History(messages=past(said("P0", "one", at=YESTERDAY), bad, said("P2", "two", at=YESTERDAY)))
        )
        await path.pipeline.past.recorded()
    assert await world.texts() == ["one", "two"]
    assert await world.count("quarantine") == 1


async def test_what_still_waits_at_a_stop_holds_it_up_no_longer(db: Database, world: World) -> None:
    path = Path.build(db, world)
    async with path.running():
        for n in range(3):
            path.pipeline.receive(History(messages=past(said(f"P{n}", at=YESTERDAY))))
        assert not path.clock.work.is_idle
    assert path.clock.work.is_idle


class _Away(MessageStore):
    """Unavailable the first time that the past is to be recorded."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.tries = 0

    async def record_past(
        self, account: Account, arrivals: Sequence[Arrival], now: datetime
    ) -> tuple[int, list[Merge]]:
        self.tries += 1
        if self.tries == 1:
            raise StoreUnavailable("away")
        return await super().record_past(account, arrivals, now)


async def test_while_the_store_is_away_the_past_waits(db: Database, world: World) -> None:
    store = _Away(db)
    path = Path.build(db, world, messages=store)
    async with path.running():
        path.pipeline.receive(History(messages=past(said("P0", "one", at=YESTERDAY))))
        await path.pipeline.past.recorded()
    assert await world.texts() == ["one"]
    assert store.tries == 2


async def test_two_chats_that_the_past_shows_to_be_one_are_one_at_once(db: Database, world: World) -> None:
    path = Path.build(db, world)
    async with path.running():
        path.see(said("M1", "hello", by=ANA), said("M2", "hello", by=ANA_LID))
        await path.settle()
        path.pipeline.receive(History(messages=past(said("P0", "one", by=ANA_BOTH, at=YESTERDAY))))
        await path.pipeline.past.recorded()
        path.see(said("M3", "price?", by=ANA_LID))
        await path.settle()
    assert await world.count("chat_state") == 1
    assert path.decided[-1] is Action.KEYWORD_REPLIED
