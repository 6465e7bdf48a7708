"""The inbox: what arrives is recorded before anything acts on it, whatever happens to the store or to one message."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest
from structlog.testing import capture_logs

from bot.clock import VirtualClock
from bot.inbox import Inbox
from bot.marks import Mark
from storage.database import Database
from storage.decisions import in_quarantine
from storage.errors import StoreUnavailable
from storage.messages import MessageStore
from storage.models import (
    Account,
    Action,
    Address,
    Arrival,
    ExternalId,
    Jid,
    Merge,
    PauseReason,
    Receipt,
    Recorded,
    Status,
    StatusChange,
    TenantId,
)
from tests.integration.path_world import Path
from tests.integration.store_world import ANA, ANA_BOTH, ANA_LID, BEN, NOW, World, receipt, said, typed


@pytest.fixture
async def world(db: Database) -> World:
    return await World.open(db)


@dataclass
class Ear:
    """Hears what the inbox tells, in order."""

    heard: list[str] = field(default_factory=list)
    changes: list[StatusChange] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    def merged(self, merge: Merge) -> None:
        self.heard.append("merged")

    def recorded(self, recorded: Recorded, mark: Mark | None) -> None:
        self.heard.append(recorded.arrival.event.external_id + ("" if recorded.is_new else " again"))

    def quarantined(self, arrival: Arrival, mark: Mark | None) -> None:
        self.heard.append("quarantined")

    def receipts(self, changes: Sequence[StatusChange]) -> None:
        self.changes += changes

    def store_failed(self, trouble: StoreUnavailable) -> None:
        self.heard.append("failed")

    def store_works(self, seconds: float) -> None:
        assert seconds >= 0


class Weak(MessageStore):
    """A store that is away for some calls: before it has recorded, or after its commit."""

    def __init__(self, database: Database, *, before: int = 0, after: int = 0) -> None:
        super().__init__(database)
        self.before, self.after = before, after
        self.batches: list[int] = []

    async def record(
        self, account: Account, arrivals: Sequence[Arrival], now: datetime
    ) -> tuple[list[Recorded], list[Merge]]:
        self.batches.append(len(arrivals))
        if self.before:
            self.before -= 1
            raise StoreUnavailable("away")
        recorded = await super().record(account, arrivals, now)
        if self.after:
            self.after -= 1
            raise StoreUnavailable("the answer was lost")
        return recorded


@asynccontextmanager
async def inbox(world: World, ear: Ear, messages: MessageStore | None = None) -> AsyncIterator[Inbox]:
    clock = VirtualClock(NOW)
    inbox = Inbox(world.account, messages or world.messages, world.outbox, clock, ear)
    task = asyncio.create_task(inbox.run())
    try:
        yield inbox
        async with asyncio.timeout(30):
            await inbox.drained()
        assert not task.done()
        assert clock.work.is_idle
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_gathers_while_a_commit_is_under_way_is_the_next_batch(world: World) -> None:
    ear, store = Ear(), Weak(world.db)
    async with inbox(world, ear, store) as box:
        box.put(said("M0"))
        await asyncio.sleep(0)
        for n in range(1, 1100):
            box.put(said(f"M{n}"))
    assert ear.heard == [f"M{n}" for n in range(1100)]
    assert store.batches == [1, *[200] * 5, 99]
    assert await world.count("messages") == 1100


async def test_messages_and_receipts_keep_their_order(world: World) -> None:
    chat_id = await world.meet()
    await world.queue(chat_id)
    due = await world.due(chat_id)
    await world.outbox.claim(due, NOW, NOW)
    await world.outbox.mark_sent(due, ExternalId("3EB0"), NOW, overlapped=False)
    ear = Ear()
    async with inbox(world, ear) as box:
        for item in (said("M1"), receipt("3EB0", Status.DELIVERED), receipt("3EB0", Status.READ), said("M2")):
            box.put(item)
        assert len(box) == 4
    assert ear.heard == ["M1", "M2"]
    assert [c.status for c in ear.changes] == [Status.DELIVERED, Status.READ]


def naive(moment: datetime) -> datetime:
    return moment.replace(tzinfo=None)


BAD = {
    "a NUL byte": said("BAD", "a\x00b"),
    "a lone surrogate": said("BAD", "a\ud800b"),
    "raw that is no JSON": said("BAD", raw="{"),
    "a bad address": said("BAD", by=Address(jid=Jid("\ud800@lid"))),
    "a bad second address": said("BAD", by=Address(jid=ANA.jid, alt=Jid("\x00@lid"))),
    "a bad id": said("\x00BAD\ud800"),
    "a time that is none": said("BAD", at=naive(NOW)),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
async def test_a_bad_message_goes_to_quarantine_alone_and_whole(world: World, bad: Arrival) -> None:
    ear = Ear()
    with capture_logs() as logs:
        async with inbox(world, ear) as box:
            for arrival in (said("M1"), said("M2", by=BEN), bad, said("M3"), said("M4", by=BEN)):
                box.put(arrival)
    assert ear.heard == ["M1", "M2", "quarantined", "M3", "M4"]
    assert await world.count("messages") == 4
    [row] = await world.db.fetch("SELECT * FROM sidestep.quarantine")
    kept = json.loads(row["event"])
    assert (kept["text"], kept["external_id"]) == (bad.event.text, bad.event.external_id)
    assert kept["raw"] == bad.event.raw
    assert kept["chat"]["jid"] == bad.event.chat.jid
    assert row["error"]
    assert row["received_at"] == NOW
    [entry] = [e for e in logs if e["event"] == "message_quarantined"]
    assert "a\x00b" not in str(entry)


async def test_several_bad_ones_in_a_row_are_each_sorted_out(world: World) -> None:
    ear = Ear()
    async with inbox(world, ear) as box:
        for n in range(6):
            box.put(said(f"M{n}", "\x00" if n % 2 else "fine"))
    assert ear.heard == ["M0", "quarantined", "M2", "quarantined", "M4", "quarantined"]


async def test_a_bad_receipt_is_dropped_and_the_next_counts(world: World) -> None:
    ear = Ear()
    with capture_logs() as logs:
        async with inbox(world, ear) as box:
            box.put(receipt("\x00", Status.READ))
            box.put(Receipt(chat=ANA, external_ids=(ExternalId("X"),), status=Status.FAILED, at=NOW))
            box.put(receipt("EARLY", Status.READ))
            box.put(said("M1"))
    assert ear.heard == ["M1"]
    assert [e["event"] for e in logs] == ["receipt_dropped"] * 2
    assert await world.count("early_receipts") == 1


async def test_a_receipt_for_more_messages_than_one_commit_can_hold_is_no_lost_store(world: World) -> None:
    one = receipt("X", Status.READ)
    # Each takes a lock until its commit, and PostgreSQL has room for some thousands.
    long = replace(one, external_ids=tuple(ExternalId(f"X{n}") for n in range(20_000)))
    ear = Ear()
    async with inbox(world, ear) as box:
        box.put(long)
        box.put(said("M1"))
    assert ear.heard == ["M1"]
    kept = await world.db.fetchval("SELECT count(*) FROM sidestep.early_receipts")
    assert kept == len(long.external_ids)


async def test_while_the_store_is_away_all_waits_and_is_recorded_in_order_after(world: World) -> None:
    ear, store = Ear(), Weak(world.db, before=3)
    async with inbox(world, ear, store) as box:
        box.put(said("M1"))
        box.put(said("M2"))
        await asyncio.sleep(0)
        assert len(box) == 2
    assert ear.heard == ["failed"] * 3 + ["M1", "M2"]


async def test_a_commit_whose_answer_was_lost_is_not_recorded_twice(world: World) -> None:
    ear, store = Ear(), Weak(world.db, after=1)
    async with inbox(world, ear, store) as box:
        box.put(said("M1"))
        box.put(typed("H1"))
    assert ear.heard == ["failed", "M1 again", "H1 again"]
    assert await world.count("messages") == 2


async def test_merges_are_told_before_what_comes_of_them(world: World) -> None:
    await world.record(said("P1"), said("L1", by=ANA_LID))
    ear = Ear()
    async with inbox(world, ear) as box:
        box.put(said("M1", by=ANA_BOTH))
    assert ear.heard == ["merged", "M1"]


# -- with the rooms behind it ----------------------------------------------


async def test_a_human_s_message_that_cannot_be_stored_pauses_its_chat_all_the_same(
    db: Database, world: World
) -> None:
    path = Path.build(db, world)
    async with path.running():
        path.see(said("M1", "price?"))
        await path.pipeline.inbox.drained()
        path.see(typed("H1", "\x00"))
        await path.settle()
        chat_id = await world.meet()
        session = await world.session(chat_id)
        assert (session.is_paused, session.pause_reason) == (True, PauseReason.HUMAN_TAKEOVER)
        assert session.last_human_at is not None
        path.see(said("M2", "price??"))
        await path.settle()
        assert path.said == []
        assert await world.count("quarantine") == 1


async def test_a_human_s_message_that_cannot_be_stored_pauses_a_chat_never_seen_before(
    db: Database, world: World
) -> None:
    path = Path.build(db, world)
    async with path.running():
        path.see(typed("H1", "\x00"))
        path.see(said("M1", "price?"))
        await path.settle()
        assert (await world.session(await world.meet())).is_paused
        assert path.said == []


async def test_a_customer_s_message_that_cannot_be_stored_pauses_nothing(db: Database, world: World) -> None:
    path = Path.build(db, world)
    async with path.running():
        path.see(said("M1", "\x00"))
        path.see(said("M2", "price?"))
        await path.settle()
        assert path.said == ["From 10 to 50."]


async def test_why_finds_what_could_not_be_recorded(db: Database, world: World) -> None:
    path = Path.build(db, world)
    async with path.running():
        path.see(said("M1", "nul \x00"), said("M2", "price?"))
        await path.settle()
    tenant_id = world.tenant.tenant_id
    [lost] = await in_quarantine(db, tenant_id, "M1")
    assert (lost.external_id, lost.received_at) == ("M1", NOW)
    assert await in_quarantine(db, tenant_id, "M2") == []
    assert await in_quarantine(db, TenantId(tenant_id + 1), "M1") == []


async def test_what_was_recorded_in_a_commit_whose_answer_was_lost_is_answered(
    db: Database, world: World
) -> None:
    store = Weak(db, after=1)
    path = Path.build(db, world, messages=store)
    async with path.running():
        path.see(said("M1", "price?"))
        async with asyncio.timeout(30):
            while not path.said:
                await path.settle()
                await asyncio.sleep(0.01)
        assert path.said == ["From 10 to 50."]


async def test_two_chats_that_become_one_are_answered_in_one_lane(db: Database, world: World) -> None:
    await world.record(said("P0"), said("L0", by=ANA_LID))
    for message in await world.messages.undecided(world.account):
        await world.db.execute(
            "UPDATE sidestep.decisions SET action_taken = 'imported' WHERE message_id = $1", message.id
        )
    path = Path.build(db, world)
    async with path.running():
        path.see(said("P1", "price?"))
        path.see(said("L1", "hello?", by=ANA_LID))
        await path.pipeline.inbox.drained()
        path.see(said("M1", "anyone?", by=ANA_BOTH))
        await path.settle()
        assert path.said == ["From 10 to 50."]
        assert path.decided == [Action.JOINED, Action.JOINED, Action.KEYWORD_REPLIED]
        assert await world.messages.undecided(world.account) == []


async def test_what_a_killed_daemon_left_undecided_is_answered_at_the_next_start(
    db: Database, world: World
) -> None:
    await world.record(said("M1", "price?"))
    await world.record(said("M2", "hello?", at=NOW - timedelta(days=1)))
    path = Path.build(db, world)
    async with path.running():
        await path.pipeline.recover()
        await path.settle()
        assert path.said == ["From 10 to 50."]
        assert sorted(path.decided) == [Action.IGNORED_TOO_OLD, Action.KEYWORD_REPLIED]
