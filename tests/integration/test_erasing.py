"""Erasing a person: nothing of them is left in any table or folder, nobody else loses anything, nothing comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path as Folder

import pytest

from bot.people import meant
from storage.database import Database
from storage.erasing import Erasing, PersonRefused
from storage.models import Address, ExternalId, Jid, MessageType, Status
from tests.conftest import until
from tests.integration.media_world import MediaWorld, png
from tests.integration.path_world import Path
from tests.integration.store_world import (
    ANA,
    ANA_BOTH,
    ANA_LID,
    BEN,
    LONG_AGO,
    NOW,
    SHOP,
    TEAM,
    World,
    receipt,
    said,
    typed,
)

ANA_S = ("5511988880001", "100000000000001", "Ana Souza", "secret")
"""Whatever of hers may be left nowhere: her number, her LID, her name and her words."""


async def everything(db: Database) -> str:
    """All rows of all tables of ours and of the library, as text."""
    tables = await db.fetch(
        "SELECT c.oid::regclass::text AS name FROM pg_class c"
        " WHERE c.relnamespace IN ('sidestep'::regnamespace, 'whatsmeow'::regnamespace) AND c.relkind = 'r'"
    )
    found = []
    for table in tables:
        rows = await db.fetch(f"SELECT t::text AS row FROM {table['name']} t")  # noqa: S608  from the catalogue
        found += [f"{table['name']}: {r['row']}" for r in rows]
    return "\n".join(found)


async def left_of_ana(db: Database) -> list[str]:
    told = await everything(db)
    hexed = [text.encode().hex() for text in ANA_S]
    return [line for line in told.splitlines() if any(text in line for text in (*ANA_S, *hexed))]


async def erase(world: World, reference: str = "+5511988880001") -> Mapping[str, int]:
    erasing = Erasing(world.db, world.tenant.tenant_id, lambda: NOW)
    person = await meant(erasing, world.tenant, reference)
    return await erasing.erase(person.people, person.jids, lambda _: None)


@pytest.fixture
async def media(db: Database, tmp_path: Folder) -> AsyncIterator[MediaWorld]:
    async with MediaWorld.open(db, tmp_path) as world:
        yield world


def raw(*texts: str) -> str:
    return json.dumps({"texts": texts})


LIBRARY = """
UPDATE sidestep.accounts SET jid = '5511999990000@s.whatsapp.net';
CREATE TABLE whatsmeow.whatsmeow_contacts (our_jid text, their_jid text, full_name text);
CREATE TABLE whatsmeow.whatsmeow_sessions (our_jid text, their_id text);
CREATE TABLE whatsmeow.whatsmeow_lid_map (lid text, pn text);
INSERT INTO whatsmeow.whatsmeow_contacts
VALUES ('5511999990000:7@s.whatsapp.net', '5511988880001@s.whatsapp.net', 'Ana Souza'),
       ('5511999990000:7@s.whatsapp.net', '5511988880002@s.whatsapp.net', 'Ben');
INSERT INTO whatsmeow.whatsmeow_sessions
VALUES ('5511999990000:7@s.whatsapp.net', '100000000000001_1:0'),
       ('5511999990000:7@s.whatsapp.net', '100000000000002_1:0');
INSERT INTO whatsmeow.whatsmeow_lid_map
VALUES ('100000000000001', '5511988880001'), ('100000000000002', '5511988880002');
"""

NOTED = """
WITH told AS (
    INSERT INTO sidestep.notices (tenant_id, account_id, kind, subject, chat_id, text, noted_at, due_at)
    SELECT tenant_id, account_id, 'handoff', 'A1', chat_id, 'Ana Souza asks for a person', $2, $2
      FROM sidestep.chats WHERE jid LIKE '%1@%' AND NOT is_group)
INSERT INTO sidestep.noted_events
VALUES ($1, 'A1', 'message', 'handled', $2), ($1, 'B1', 'message', 'handled', $2)
"""

WRITTEN = """
INSERT INTO sidestep.people (tenant_id, name, phone, created_at, updated_at)
VALUES ($1, 'Ana Souza', '+55 11 98888-0001', $2, $2), ($1, 'Ana Souza at work', '+55 11 8888-0001', $2, $2),
       ($1, 'Ben', '+55 11 98888-0002', $2, $2)
"""


async def a_life(media: MediaWorld) -> None:
    """Ana in everything that there is: alone and in a group, with Ben beside her in each."""
    world, db = media.world, media.world.db
    await world.record(
        said("A1", "my secret", by=ANA_BOTH, push_name="Ana Souza", raw=raw("secret")),
        said("B1", "hello", by=BEN),
    )
    ana, ben = await world.meet(ANA), await world.meet(BEN)
    await world.record(
        said("A2", "a corrected secret", by=ANA_BOTH, type=MessageType.EDIT, reply_to=ExternalId("A1")),
        said("A3", "+", by=ANA_BOTH, type=MessageType.REACTION, reply_to=ExternalId("A1")),
        said("A4", "?", by=ANA_BOTH, type=MessageType.REVOKE, reply_to=ExternalId("never came")),
        typed("O1", "dear Ana Souza", to=ANA),
        said("G1", "a secret for all", by=ANA_LID, group=TEAM, raw=raw("secret")),
        said("G2", "so it is", by=BEN, group=TEAM, reply_to=ExternalId("G1"), raw=raw("quotes the secret")),
        said("G3", "not about her", by=BEN, group=TEAM, raw=raw("of Ben")),
        said("G4", "@100000000000001 look", by=BEN, group=TEAM, raw=raw(ANA_LID.jid)),
    )
    await world.record(
        said("G5", "!", by=ANA_LID, group=TEAM, type=MessageType.REACTION, reply_to=ExternalId("G3")),
    )
    for chat in (ana, ben):
        await world.queue(chat, "an answer", fenced=False)
        due = await world.due(chat)
        await world.outbox.claim(due, NOW, LONG_AGO)
        await world.outbox.mark_sent(due, ExternalId(f"3EB{chat}"), NOW, overlapped=False)
        await world.queue(chat, "not sent yet", fenced=False)
    for by in (ANA, BEN):
        await world.outbox.receive(receipt(f"early {by.jid}", Status.READ, chat=by), NOW)
        event = said(f"bad {by.jid}", "unreadable", by=by).event
        await world.messages.quarantine(world.account, event, "bad", NOW)
    await media.receive("P1", png(1), name="secret.png")
    await media.receive("P2", png(2), by=BEN)
    await media.receive("P3", png(2))
    await db.execute(LIBRARY)
    await db.execute(NOTED, world.tenant.tenant_id, NOW)
    await db.execute(WRITTEN, world.tenant.tenant_id, NOW)


async def test_nothing_of_a_person_is_left_anywhere(media: MediaWorld) -> None:
    await a_life(media)
    assert len(await left_of_ana(media.world.db)) > 20
    assert len(media.files()) == 4
    went = await erase(media.world)
    await media.keeper.sweep(media.world.tenant.tenant_id)
    # That Ben mentioned her is in words of his, which stay.
    assert await left_of_ana(media.world.db) == [
        line for line in (await everything(media.world.db)).splitlines() if "@100000000000001 look" in line
    ]
    assert len(media.files()) == 2
    assert went["messages"] == 11
    assert went["noted_events"] == 1
    assert went["whatsmeow"] == 3
    assert went["people"] == 2
    assert {t for t, n in went.items() if n} >= {
        "messages", "message_keys", "message_payloads", "message_versions", "reactions", "early_changes", "media",
        "outbox", "decisions", "early_receipts", "quarantine", "chats", "chat_aliases", "chat_state", "threads",
        "contacts",
    }  # fmt: skip


async def test_nobody_else_loses_anything(media: MediaWorld) -> None:
    await a_life(media)
    world = media.world
    ben = await world.meet(BEN)
    team = await world.messages.identify(world.account, TEAM, NOW, is_group=True)
    of_ben = (
        "SELECT * FROM sidestep.messages WHERE chat_id = $1 OR external_id IN ('G2', 'G3', 'G4') ORDER BY id"
    )
    before = await world.db.fetch(of_ben, ben)
    await erase(world)
    assert len(before) == 7
    assert await world.db.fetch(of_ben, ben) == before
    texts = await world.db.fetch("SELECT text FROM sidestep.messages WHERE chat_id = $1 ORDER BY id", team)
    assert [r["text"] for r in texts] == ["so it is", "not about her", "@100000000000001 look"]
    for table, number in (
        ("outbox", 2),
        ("quarantine", 1),
        ("early_receipts", 1),
        ("contacts", 1),
        ("media", 1),
        ("noted_events", 1),
    ):
        assert await world.count(table) == number, table
    raws = await world.db.fetch("SELECT raw::text AS raw FROM sidestep.message_payloads")
    assert sorted(r["raw"] for r in raws) == sorted([raw("of Ben"), '{"id": "P2"}'])


async def test_the_receipt_is_kept_and_names_nobody(media: MediaWorld) -> None:
    await a_life(media)
    went = await erase(media.world)
    row = await media.world.db.fetchrow("SELECT erased_at, went FROM sidestep.erasures")
    assert row is not None
    assert (row["erased_at"], row["went"]) == (NOW, went)
    again = await erase(media.world)
    assert set(again.values()) == {0}


async def test_one_person_of_two_contacts_goes_whole(db: Database) -> None:
    world = await World.open(db)
    # The number and the LID are not known to be one, but to the library.
    await world.record(said("A1", "my secret"), said("G1", "a secret", by=ANA_LID, group=TEAM))
    await db.execute(
        "CREATE TABLE whatsmeow.whatsmeow_lid_map (lid text, pn text);"
        "INSERT INTO whatsmeow.whatsmeow_lid_map VALUES ('100000000000001', '5511988880001')"
    )
    assert await world.count("contacts") == 2
    await erase(world)
    assert await left_of_ana(db) == []


async def test_the_other_way_of_writing_a_number_is_the_same_person(db: Database) -> None:
    world = await World.open(db)
    old = Address(jid=Jid("551188880001@s.whatsapp.net"))
    await world.record(said("A1", "my secret", by=old))
    await erase(world, "(11) 98888-0001")
    assert await world.count("messages") == await world.count("contacts") == 0


async def test_a_name_must_be_one_person_s(db: Database) -> None:
    world = await World.open(db)
    await world.record(said("A1", push_name="Ana Souza"), said("B1", by=BEN, push_name="ana souza"))
    with pytest.raises(PersonRefused, match=r"2 people.*\+5511988880001, \+5511988880002"):
        await erase(world, "Ana Souza")
    with pytest.raises(PersonRefused, match="nobody is called that"):
        await erase(world, "Eva")
    with pytest.raises(PersonRefused, match="a group"):
        await erase(world, TEAM.jid)
    assert await world.count("messages") == 2


async def test_another_tenant_s_person_stays(db: Database) -> None:
    shop = await World.open(db)
    cafe = await World.open(db, replace(SHOP, instance_name="cafe", owner="+5511999990009"))
    await shop.record(said("A1"))
    await cafe.record(said("A1"))
    await erase(shop)
    assert await shop.db.fetchval("SELECT array_agg(tenant_id) FROM sidestep.messages") == [
        cafe.tenant.tenant_id
    ]


async def test_what_was_erased_does_not_come_back_with_the_past(db: Database) -> None:
    world = await World.open(db)
    await world.record(said("A1", "my secret", push_name="Ana Souza"), said("G1", "a secret", group=TEAM))
    await world.queue(await world.meet(), "dear Ana Souza", fenced=False)
    due = await world.due(await world.meet())
    await world.outbox.claim(due, NOW, LONG_AGO)
    await world.outbox.mark_sent(due, ExternalId("3EB1"), NOW, overlapped=False)
    await erase(world)
    later = NOW + timedelta(days=1)
    past = [said("A1", "my secret"), said("G1", "a secret", group=TEAM), typed("3EB1", "dear Ana Souza")]
    assert await world.record_past(*past, now=later) == 0
    await world.outbox.receive(receipt("3EB1", Status.READ), later)
    assert await left_of_ana(db) == []
    assert await world.record_past(*past, said("B1", by=BEN), now=later) == 1


async def test_who_writes_again_is_somebody_new(db: Database) -> None:
    world = await World.open(db)
    await world.record(said("A1", "my secret"), said("G1", "a secret", group=TEAM))
    await erase(world)
    # The same store, which knew where they were.
    await world.record(said("A2", "hello again"), said("G2", "hello all", group=TEAM))
    rows = await db.fetch(
        "SELECT m.text, c.contact_id FROM sidestep.messages m"
        " LEFT JOIN sidestep.contacts c ON c.contact_id = m.sender_id ORDER BY m.id"
    )
    assert [r["text"] for r in rows] == ["hello again", "hello all"]
    assert all(r["contact_id"] is not None for r in rows)
    assert set((await erase(world)).values()) > {0}
    assert await world.count("messages") == 0


async def test_a_running_daemon_says_nothing_more_and_meets_a_stranger(db: Database) -> None:
    world = await World.open(db)
    path = Path.build(db, world)
    async with path.running():
        path.see(said("A1", "price"))
        await path.pipeline.inbox.drained()
        # It waits for the rest of the burst; then its chat is gone.
        await erase(world)
        await path.settle()
        assert path.said == []
        path.see(said("A2", "price"))
        await path.settle()
        assert path.said == ["From 10 to 50."]
    assert await world.texts() == ["price", "From 10 to 50."]


async def test_what_is_just_being_sent_ends_before_all_goes(db: Database) -> None:
    world = await World.open(db)
    await world.record(said("A1"))
    chat = await world.meet()
    await world.queue(chat, fenced=False)
    due = await world.due(chat)
    await world.outbox.claim(due, NOW, LONG_AGO)
    erasing = asyncio.create_task(erase(world))

    async def silenced() -> bool:
        return (await world.session(chat)).is_excluded

    await until(silenced)
    assert await world.count("messages") == 2
    await world.outbox.mark_sent(due, ExternalId("3EB1"), NOW, overlapped=False)
    assert (await erasing)["outbox"] == 1
    assert await world.count("message_keys") == 0


async def test_messages_go_in_batches_and_an_erasure_that_was_cut_off_goes_on(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.erasing._BATCH", 2)
    world = await World.open(db)
    await world.record(*(said(f"A{n}") for n in range(5)))
    told: list[int] = []

    def cut(messages: int) -> None:
        told.append(messages)
        if messages == 4:
            raise ConnectionResetError

    person = await meant(
        erasing := Erasing(db, world.tenant.tenant_id, lambda: NOW), world.tenant, "+5511988880001"
    )
    with pytest.raises(ConnectionResetError):
        await erasing.erase(person.people, person.jids, cut)
    assert told == [2, 4]
    assert await world.count("messages") == 1
    assert (await world.session(await world.meet())).is_excluded
    await erase(world)
    assert await world.count("messages") == await world.count("chats") == await world.count("contacts") == 0


async def test_every_table_that_knows_a_chat_or_a_person_is_erased_from(db: Database) -> None:
    """Whoever adds a table decides here what becomes of it."""
    rows = await db.fetch(
        "SELECT DISTINCT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
        " WHERE c.relnamespace = 'sidestep'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
        "   AND a.attnum > 0 AND a.attname ~ '(chat_id|contact_id|sender|jid|phone|message_id|external_id)'"
    )
    assert {r["relname"] for r in rows} - OURS_TO_KEEP == ERASED_FROM


OURS_TO_KEEP = {"accounts"}
ERASED_FROM = {
    "messages", "message_keys", "message_payloads", "message_versions", "reactions", "early_changes", "early_receipts",
    "noted_events", "media", "outbox", "decisions", "quarantine", "tallies", "chats", "chat_aliases", "chat_state",
    "threads", "notices",
    "contacts", "people", "automatic_sightings",
}  # fmt: skip
