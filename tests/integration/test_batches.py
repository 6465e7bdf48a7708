"""Many chats in one call to PostgreSQL: each fares as it would alone, and none waits for another's trouble."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import asyncpg
import pytest

from storage.database import Database
from storage.models import (
    Action,
    Address,
    ChatId,
    Claim,
    Decision,
    ExternalId,
    Jid,
    Outgoing,
    Recorded,
    Status,
)
from storage.outbox import AlreadyDecided, OutboxStore
from tests.conftest import connected
from tests.integration.store_world import LONG_AGO, NOW, World, receipt, said, typed

PEOPLE = [Address(jid=Jid(f"55119777700{n:02d}@s.whatsapp.net")) for n in range(6)]


@pytest.fixture
async def world(db: Database) -> World:
    return await World.open(db)


async def asked(world: World) -> list[Recorded]:
    """A question from each of the people, recorded."""
    return await world.record(*(said(f"Q{n}", by=who) for n, who in enumerate(PEOPLE)))


async def answer(world: World, question: Recorded, *, epoch: int = 0) -> int | None:
    """How many replies were queued; None: the answer was stale."""
    message = question.message
    decisions = [Decision(message_id=message.id, action=Action.KEYWORD_REPLIED)]
    replies = [Outgoing(text="one"), Outgoing(text="two")]
    queued = await world.outbox.answer(message.chat_id, epoch, decisions, [message.id], replies, NOW)
    return None if queued is None else len(queued)


async def held(connection: asyncpg.Connection[asyncpg.Record], chat_id: ChatId) -> None:
    """Somebody's long transaction has changed this chat."""
    await connection.execute(
        "UPDATE sidestep.chat_state SET reply_jid = reply_jid WHERE chat_id = $1", chat_id
    )


async def test_each_answer_of_a_call_has_its_own_chat_s_epoch_and_number_of_decisions(world: World) -> None:
    questions = await asked(world)
    await world.record(typed("H1", to=PEOPLE[1]))
    results = await asyncio.gather(*(answer(world, question) for question in questions))
    assert results == [2, None, 2, 2, 2, 2]
    rows = await world.db.fetch(
        "SELECT o.chat_id, o.answers, m.text FROM sidestep.outbox o JOIN sidestep.messages m USING (chat_id, id)"
        " ORDER BY o.chat_id, o.id"
    )
    expected = [
        (q.message.chat_id, [q.message.id], text)
        for n, q in enumerate(questions)
        if n != 1
        for text in ("one", "two")
    ]
    assert [tuple(row.values()) for row in rows] == expected
    assert await world.action(questions[0].message.id) is Action.KEYWORD_REPLIED
    assert await world.action(questions[1].message.id) is None


async def test_one_message_that_was_decided_elsewhere_costs_only_its_own_answer(world: World) -> None:
    questions = await asked(world)
    other = questions[2].message
    await world.outbox.dismiss(other.chat_id, [Decision(message_id=other.id, action=Action.FAILED)], NOW)
    results = await asyncio.gather(*(answer(world, q) for q in questions), return_exceptions=True)
    assert isinstance(results.pop(2), AlreadyDecided)
    assert results == [2] * 5
    assert await world.count("outbox") == 10


async def test_a_chat_that_somebody_holds_keeps_no_other_answer_waiting(world: World, dsn: str) -> None:
    questions = await asked(world)
    async with connected(dsn) as other:
        async with other.transaction():
            await held(other, questions[3].message.chat_id)
            tasks = [asyncio.create_task(answer(world, question)) for question in questions]
            free = [task for n, task in enumerate(tasks) if n != 3]
            assert await asyncio.gather(*free) == [2] * 5
            assert not tasks[3].done()
        assert await tasks[3] == 2


async def queued(world: World, questions: Sequence[Recorded]) -> list[ChatId]:
    chats = [question.message.chat_id for question in questions]
    for chat_id in chats:
        await world.queue(chat_id)
    return chats


async def claim(world: World, chat_id: ChatId) -> Claim:
    return await world.outbox.claim(await world.due(chat_id), NOW, LONG_AGO)


async def test_of_the_claims_in_a_call_only_that_of_a_chat_taken_over_is_refused(world: World) -> None:
    chats = await queued(world, await asked(world))
    dues = [await world.due(chat_id) for chat_id in chats]
    # Not by the daemon: what it knows of cancels the rows itself.
    await world.db.execute("UPDATE sidestep.chat_state SET epoch = epoch + 1 WHERE chat_id = $1", chats[1])
    await world.db.execute(
        "UPDATE sidestep.chat_state SET is_paused = true, pause_reason = 'manual_pause', epoch = epoch + 1"
        " WHERE chat_id = $1",
        chats[4],
    )
    await world.db.execute("UPDATE sidestep.outbox SET epoch = epoch + 1 WHERE chat_id = $1", chats[4])
    claims = await asyncio.gather(*(world.outbox.claim(due, NOW, LONG_AGO) for due in dues))
    assert claims == [Claim.CANCELLED if n in (1, 4) else Claim.CLAIMED for n in range(6)]


async def test_a_global_pause_refuses_every_claim_of_a_call(world: World) -> None:
    chats = await queued(world, await asked(world))
    # As other programs do it, which take nothing back that is queued.
    await world.db.execute(
        "INSERT INTO sidestep.processing_state (tenant_id, is_paused) VALUES ($1, true)",
        world.tenant.tenant_id,
    )
    assert await asyncio.gather(*(claim(world, c) for c in chats)) == [Claim.CANCELLED] * 6


async def test_a_chat_that_somebody_holds_keeps_no_other_claim_waiting(world: World, dsn: str) -> None:
    chats = await queued(world, await asked(world))
    async with connected(dsn) as other:
        async with other.transaction():
            await held(other, chats[0])
            tasks = [asyncio.create_task(claim(world, chat_id)) for chat_id in chats]
            assert await asyncio.gather(*tasks[1:]) == [Claim.CLAIMED] * 5
            assert not tasks[0].done()
            await other.execute(
                "UPDATE sidestep.chat_state SET epoch = epoch + 1 WHERE chat_id = $1", chats[0]
            )
        assert await tasks[0] is Claim.CANCELLED


async def test_two_processes_claim_each_message_once(world: World) -> None:
    chats = await queued(world, await asked(world))
    dues = [await world.due(chat_id) for chat_id in chats]
    stores = [OutboxStore(world.db, world.account, world.lease) for _ in range(4)]
    claims = await asyncio.gather(*(s.claim(due, NOW, LONG_AGO) for s in stores for due in dues))
    assert sorted(claims) == sorted([*[Claim.CLAIMED] * 6, *[Claim.GONE] * 18])


async def test_receipts_of_many_chats_come_with_each_its_own_change(world: World) -> None:
    chats = await queued(world, await asked(world))
    dues = [await world.due(chat_id) for chat_id in chats]
    await asyncio.gather(*(world.outbox.claim(due, NOW, LONG_AGO) for due in dues))
    early = replace(receipt("S5", Status.READ), chat=PEOPLE[5])
    assert await world.outbox.receive(early, NOW) == []
    statuses = await asyncio.gather(
        *(
            world.outbox.mark_sent(due, ExternalId(f"S{n}"), NOW, overlapped=n == 2)
            for n, due in enumerate(dues)
        )
    )
    assert statuses == [*[Status.SENT] * 5, Status.READ]
    told = [
        replace(receipt(f"S{n}", Status.READ if n == 1 else Status.DELIVERED), chat=who)
        for n, who in enumerate(PEOPLE)
    ]
    changes = await asyncio.gather(*(world.outbox.receive(each, NOW) for each in told))
    assert [[(c.chat_id, c.external_id, c.status) for c in each] for each in changes] == [
        *([(chats[n], f"S{n}", told[n].status)] for n in range(5)),
        [],
    ]
    rows = await world.db.fetch("SELECT overlapped FROM sidestep.outbox ORDER BY id")
    assert [row["overlapped"] for row in rows].count(True) == 1


async def test_two_receipts_of_one_message_under_both_addresses_leave_the_further_one(world: World) -> None:
    lid = Address(jid=Jid("100000000000009@lid"), alt=PEOPLE[0].jid)
    await world.record(said("Q", by=lid))
    chat_id = await world.meet(PEOPLE[0])
    await world.queue(chat_id)
    due = await world.due(chat_id)
    await world.outbox.claim(due, NOW, LONG_AGO)
    await world.outbox.mark_sent(due, ExternalId("S"), NOW, overlapped=False)
    await asyncio.gather(
        world.outbox.receive(replace(receipt("S", Status.READ), chat=PEOPLE[0]), NOW),
        world.outbox.receive(replace(receipt("S", Status.DELIVERED), chat=Address(jid=lid.jid)), NOW),
    )
    row = await world.row(due.id)
    assert (row["status"], row["delivered_at"], row["read_at"]) == ("read", NOW, NOW)
