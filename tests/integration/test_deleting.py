"""Deleting single messages: softly they are read by nobody, hard they are nowhere, and either way they stay away."""

from __future__ import annotations

from storage.database import Database
from storage.deleting import Deleting
from storage.models import Action, Author, ExternalId, MessageType, Status
from storage.reading.reads import Reads
from tests.integration.path_world import Path
from tests.integration.store_world import NOW, World, said


async def history(world: World) -> list[str | None]:
    chat = await world.meet()
    for_model = [m.text for m in await world.messages.history(world.tenant.tenant_id, chat, 10)]
    reads = Reads.of(world.db, world.tenant.tenant_id)
    page = await reads.messages.conversation_history(chat)
    assert [entry.message.text for entry in page.items][::-1] == for_model
    return for_model


async def test_what_is_deleted_softly_is_read_by_nobody(db: Database) -> None:
    world = await World.open(db)
    [one, _] = await world.record(said("A1", "a word"), said("A2", "another"))
    deleting = Deleting(db, world.tenant.tenant_id)
    assert await deleting.soft(one.message.chat_id, one.message.id, NOW)
    assert not await deleting.soft(one.message.chat_id, one.message.id, NOW)
    assert await history(world) == ["another"]
    assert (await Reads.of(db, world.tenant.tenant_id).search.search_messages("word")).items == ()
    assert await world.action(one.message.id) is Action.SUPERSEDED
    [again] = await world.record(said("A1", "a word"))
    assert not again.is_new
    assert await world.texts() == ["a word", "another"]


async def test_what_is_deleted_for_good_is_nowhere_and_does_not_come_again(db: Database) -> None:
    world = await World.open(db)
    raw = '{"a": "word"}'
    [one, two] = await world.record(said("A1", "a word", raw=raw), said("A2", "another"))
    await world.record(said("A3", "a better word", type=MessageType.EDIT, reply_to=ExternalId("A1")))
    deleting = Deleting(db, world.tenant.tenant_id)
    went = await deleting.hard(one.message.chat_id, one.message.id)
    assert {table: number for table, number in went.items() if number} == {
        "messages": 1, "decisions": 1, "message_payloads": 1, "message_versions": 2,
    }  # fmt: skip
    assert not any((await deleting.hard(one.message.chat_id, one.message.id)).values())
    assert await history(world) == ["another"]
    [again] = await world.record(said("A1", "a word"))
    assert not again.is_new
    assert await world.record_past(said("A1", "a word")) == 0
    assert await world.texts() == ["another", "a better word"]
    assert await world.action(two.message.id) is None


async def test_what_waits_to_be_sent_is_not_sent_any_more(db: Database) -> None:
    world = await World.open(db)
    await world.record(said("A1"))
    chat = await world.meet()
    deleting = Deleting(db, world.tenant.tenant_id)
    ours = await world.queue(chat)
    assert await deleting.soft(chat, ours, NOW)
    assert await world.status(ours) is Status.CANCELLED
    gone = await world.queue(chat)
    await deleting.hard(chat, gone)
    assert await world.outbox.next_due(chat, NOW) is None


async def test_a_running_daemon_does_not_answer_what_was_deleted(db: Database) -> None:
    world = await World.open(db)
    path = Path.build(db, world)
    deleting = Deleting(db, world.tenant.tenant_id)
    async with path.running():
        for number, delete in enumerate((True, False)):
            path.see(said(f"A{number}", "price"))
            await path.pipeline.inbox.drained()
            chat = await world.meet()
            [one] = [
                m
                for m in await world.messages.history(world.tenant.tenant_id, chat, 1)
                if m.author is Author.CUSTOMER
            ]
            if delete:
                await deleting.soft(chat, one.id, NOW)
            else:
                await deleting.hard(chat, one.id)
            await path.settle()
        assert path.said == []
        path.see(said("A9", "price"))
        await path.settle()
    assert path.said == ["From 10 to 50."]
