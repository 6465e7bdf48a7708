"""Exporting: what is written can be imported into an empty store, and says there what it said here."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from bot.export import lines
from bot.people import meant
from storage.database import Database
from storage.erasing import Erasing, Person
from storage.models import ExternalId, MessageType
from tests.conftest import fresh_database
from tests.integration.import_world import ImportWorld
from tests.integration.store_world import ANA, ANA_BOTH, BEN, LONG_AGO, NOW, TEAM, World, said, typed

# What of the messages must be the same, whatever the ids of ours are.
TOLD = """
SELECT c.is_group, coalesce(p.jid, c.jid) AS chat, m.author, m.type, m.text, m.reply_to, m.deleted_at, m.edited_at, m.metadata,
       coalesce(m.external_id, o.external_id) AS external_id, coalesce(o.sent_at, m.sent_at) AS sent_at, w.jid AS sender,
       (SELECT array_agg(v.text ORDER BY v.version_id) FROM sidestep.message_versions v WHERE v.chat_id = m.chat_id AND v.id = m.id) AS versions,
       (SELECT array_agg(r.emoji) FROM sidestep.reactions r WHERE r.chat_id = m.chat_id AND r.id = m.id) AS reactions
  FROM sidestep.messages m JOIN sidestep.chats c USING (chat_id)
  LEFT JOIN sidestep.outbox o ON o.chat_id = m.chat_id AND o.id = m.id
  LEFT JOIN sidestep.contacts p ON p.contact_id = c.contact_id
  LEFT JOIN sidestep.contacts w ON w.contact_id = m.sender_id
 WHERE coalesce(o.status, '') <> 'queued' ORDER BY external_id
"""  # noqa: E501


async def a_talk(world: World) -> None:
    await world.record(said("A1", "price?", by=ANA_BOTH, push_name="Ana"), said("B1", "hello", by=BEN))
    chat = await world.meet(ANA_BOTH)
    await world.queue(chat, "From 10 to 50.", fenced=False)
    due = await world.due(chat)
    await world.outbox.claim(due, NOW, LONG_AGO)
    await world.outbox.mark_sent(due, ExternalId("3EB1"), NOW, overlapped=False)
    await world.queue(chat, "never said", fenced=False)
    await world.record(
        said("A2", "the price?", by=ANA, type=MessageType.EDIT, reply_to=ExternalId("A1")),
        said("A3", "a mistake", by=ANA, metadata={"voice": True}),
        said("A4", None, by=ANA, type=MessageType.REVOKE, reply_to=ExternalId("A3")),
        said("A5", "+", by=ANA, type=MessageType.REACTION, reply_to=ExternalId("3EB1")),
        typed("O1", "I am here", reply_to=ExternalId("A1")),
        said("G1", "to all", by=ANA, group=TEAM),
        said("G2", "of Ben", by=BEN, group=TEAM),
    )


async def exported(world: World, reference: str | None) -> list[dict[str, Any]]:
    people: tuple[Person, ...] | None = None
    if reference is not None:
        erasing = Erasing(world.db, world.tenant.tenant_id, lambda: NOW)
        people = (await meant(erasing, world.tenant, reference)).people
    return [orjson.loads(orjson.dumps(line)) async for line in lines(world.db, world.tenant, people)]


@pytest.mark.parametrize("page", [1000, 2])
async def test_what_was_exported_is_the_same_in_an_empty_store(
    db: Database, postgres: str, template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr("storage.exporting._PAGE", page)
    world = await World.open(db)
    await a_talk(world)
    file = tmp_path / "all.jsonl"
    file.write_bytes(b"\n".join(orjson.dumps(line) for line in await exported(world, None)))
    before = [dict(row) for row in await db.fetch(TOLD)]
    assert len(before) == 10
    async with fresh_database(postgres, template) as dsn:
        other = await Database.open(dsn)
        try:
            there = ImportWorld(world=await World.open(other), folder=tmp_path)
            importer = replace(there.importer(), now=lambda: NOW + timedelta(days=1))
            report = await importer.run(file)
            assert (report.tally.new, report.problems.told) == (10, [])
            assert [dict(row) for row in await other.fetch(TOLD)] == before
            assert (await importer.run(file)).tally.new == 0
        finally:
            await other.close()


async def test_a_person_s_data_are_theirs(db: Database) -> None:
    world = await World.open(db)
    await a_talk(world)
    found = await exported(world, "Ana")
    assert [line["kind"] for line in found[:2]] == ["export", "contact"]
    assert found[1] == {
        "kind": "contact", "phone": "+5511988880001", "jid": ANA.jid, "lid": ANA_BOTH.jid, "name": "Ana",
    }  # fmt: skip
    messages = [line for line in found if "kind" not in line]
    assert [line["id"] for line in messages] == ["A1", "3EB1", "A2", "A3", "A4", "A5", "O1", "G1"]
    assert [line["chat"] for line in found if line.get("kind") == "chat"] == ["+5511988880001", TEAM.jid]
    assert messages[-1]["sender"] == "+5511988880001"
    assert messages[1]["from"] == "bot"


async def test_where_files_lie_is_told(db: Database) -> None:
    world = await World.open(db)
    [recorded] = await world.record(said("P1", "look", type=MessageType.IMAGE))
    await db.execute(
        "SELECT sidestep.know_media($1, $2, $3, 'image', 'https://files.test/1', 'image/png', 7, 'a.png', $4)",
        world.tenant.tenant_id, recorded.message.chat_id, recorded.message.id, NOW,
    )  # fmt: skip
    found = await exported(world, "+5511988880001")
    assert next(line for line in found if line.get("id") == "P1")["media_url"] == "https://files.test/1"
    medium = next(line for line in found if line.get("kind") == "medium")
    assert (medium["url"], medium["name"], medium["mime"]) == ("https://files.test/1", "a.png", "image/png")


async def test_of_nobody_there_is_nothing(db: Database) -> None:
    world = await World.open(db)
    await a_talk(world)
    assert [line["kind"] for line in await exported(world, "+5511988880009")] == ["export"]


async def test_a_person_is_told_as_another_system_has_written_them_down(db: Database) -> None:
    world = await World.open(db)
    await a_talk(world)
    await db.execute(
        "INSERT INTO sidestep.people (tenant_id, name, phone, created_at, updated_at)"
        " VALUES ($1, 'Ana S.', '+55 11 98888-0001', $2, $2), ($1, 'Ben', '+55 11 98888-0002', $2, $2)",
        world.tenant.tenant_id, NOW,
    )  # fmt: skip
    told = [
        sorted(line["name"] for line in await exported(world, reference) if line.get("kind") == "person")
        for reference in ("+5511988880001", None)
    ]
    assert told == [["Ana S."], ["Ana S.", "Ben"]]
