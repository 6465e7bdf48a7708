"""The face of the messaging import document: conversations as its CRM reads and upserts them, and who they are with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from storage.database import Connection, Database
from storage.models import Action, ExternalId, MessageType
from storage.reading.stats import tally
from tests.integration.face_world import (
    DOCUMENTS,
    columns,
    crowd,
    defaults,
    documented,
    face,
    first_tenant,
    plan,
    refused,
)
from tests.integration.store_world import ANA, ANA_BOTH, ANA_LID, BEN, NOW, TEAM, World, said, typed

PRINTED: list[dict[str, Any]] = json.loads((DOCUMENTS / "crm.json").read_text(encoding="utf-8"))["messages"]
"""The messages that the document prints, word for word; the second lacks what is null in the first."""

# What the document names; the other columns are ours.
CONVERSATION = documented(
    """
chat_conversations.id UUID
chat_conversations.platform TEXT
chat_conversations.external_conversation_id TEXT
chat_conversations.person_id UUID
chat_conversations.entity_table TEXT
chat_conversations.entity_id UUID
chat_conversations.participant_identifier TEXT
chat_conversations.participant_name TEXT
chat_conversations.messages JSONB
chat_conversations.message_count INTEGER
chat_conversations.last_message_at TIMESTAMPTZ
chat_conversations.last_message_preview TEXT
chat_conversations.user_id UUID
chat_conversations.created_at TIMESTAMPTZ
chat_conversations.updated_at TIMESTAMPTZ
"""
)
CHOSEN = documented(
    """
chat_conversation_archives.id UUID
chat_conversation_archives.conversation_id UUID
chat_conversation_archives.platform TEXT
chat_conversation_archives.external_conversation_id TEXT
chat_conversation_archives.date DATE
chat_conversation_archives.messages JSONB
chat_conversation_archives.message_count INTEGER
chat_conversation_archives.first_message_at TIMESTAMPTZ
chat_conversation_archives.last_message_at TIMESTAMPTZ
chat_conversation_days.external_conversation_id TEXT
chat_conversation_days.date DATE
chat_conversation_days.platform TEXT
chat_conversation_days.conversation_id UUID
chat_conversation_days.messages JSONB
chat_conversation_days.message_count INTEGER
chat_conversation_days.first_message_at TIMESTAMPTZ
chat_conversation_days.last_message_at TIMESTAMPTZ
people.id UUID
people.name TEXT
people.phone TEXT
people.username TEXT
people.created_at TIMESTAMPTZ
people.updated_at TIMESTAMPTZ
messaging_connections.id UUID
messaging_connections.platform TEXT
messaging_connections.name TEXT
messaging_connections.identifier TEXT
messaging_connections.status TEXT
messaging_connections.connected_at TIMESTAMPTZ
messaging_connections.created_at TIMESTAMPTZ
"""
)
UPSERT = """
INSERT INTO chat_conversations (external_conversation_id, platform, participant_identifier, participant_name, messages,
                                message_count, last_message_at, last_message_preview)
VALUES ($1, $2, $3, $4, $5, 99, now(), 'whatever') RETURNING *
"""
ONE = "SELECT * FROM chat_conversations WHERE external_conversation_id = $1"
PARTNERS = """
WITH met AS (
    INSERT INTO sidestep.contacts (tenant_id, jid, created_at, updated_at)
    SELECT tenant_id, jid, now(), now() FROM sidestep.chats RETURNING tenant_id, contact_id, jid)
UPDATE sidestep.chats c SET contact_id = met.contact_id FROM met WHERE met.tenant_id = c.tenant_id AND met.jid = c.jid
"""
ADD_PERSON = "INSERT INTO people (name, phone) VALUES ($1, $2) RETURNING id"


@pytest.fixture
async def world(rollback_db: Database) -> World:
    await first_tenant(rollback_db)
    return await World.open(rollback_db)


@pytest.fixture
async def crm(world: World) -> AsyncIterator[Connection]:
    async with face(world.db, "crm") as connection:
        yield connection


def message(external_id: str, content: str | None = "hi", **changes: object) -> dict[str, object]:
    """A message as the document prints it."""
    printed = {
        "id": external_id,
        "direction": "inbound",
        "type": "text",
        "content": content,
        "media_url": None,
    }
    return {**printed, "sent_at": "2026-02-01T10:30:00Z", **changes}


async def upsert(
    crm: Connection,
    called: str = "thread-17",
    platform: str = "whatsapp",
    who: str | None = "+55 11 98888-0001",
    name: str | None = "Ana",
    messages: Sequence[object] = (),
) -> asyncpg.Record:
    row = await crm.fetchrow(UPSERT, called, platform, who, name, list(messages))
    assert row is not None
    return row


async def burst(world: World, number: int, *, at: datetime = NOW, text: str = "hello") -> None:
    """So many messages of Ana's in one second, M0 first."""
    for first in range(0, number, 500):
        some = range(first, min(first + 500, number))
        await world.record(*(said(f"{at:%d}M{n}", text, at=at) for n in some), now=at)


async def archived(crm: Connection) -> list[dict[str, Any]]:
    rows = await crm.fetch("SELECT messages FROM chat_conversation_archives ORDER BY date, id")
    return [one for row in rows for one in row["messages"]]


# Columns -------------------------------------------------------------------------------------------------


async def test_the_columns_are_those_of_the_document_and_of_the_documentation(world: World) -> None:
    assert await columns(world.db, "crm") == CONVERSATION | CHOSEN
    assert await defaults(world.db, "crm") == {
        "chat_conversations.messages": "'[]'::jsonb", "people.id": "gen_random_uuid()", "people.created_at": "now()",
        "people.updated_at": "now()",
    }  # fmt: skip


@pytest.mark.parametrize(
    "table",
    ["chat_conversations", "chat_conversation_archives", "chat_conversation_days", "people", "messaging_connections"],
)  # fmt: skip
async def test_sizes_are_those_of_the_core_and_its_setup_fails_loudly(
    crm: Connection, world: World, table: str
) -> None:
    await world.record(said("M1"))
    assert await crm.fetchval("SELECT pg_total_relation_size($1)", table) > 0
    async with refused(crm, asyncpg.DuplicateTableError):
        await crm.execute(f"CREATE TABLE {table} (id uuid PRIMARY KEY)")
    async with refused(crm):
        await crm.execute(f"CREATE INDEX idx ON {table} (id)")


# What the bot has recorded -------------------------------------------------------------------------------


async def test_a_conversation_is_current_to_the_last_message(crm: Connection, world: World) -> None:
    await world.record(said("M1", "how much?", at=NOW, push_name="Ana"), typed("H1", "10"), now=NOW)
    await world.record(said("M2", "x" * 150, at=NOW + timedelta(minutes=2)), now=NOW + timedelta(minutes=2))
    row = await crm.fetchrow(ONE, ANA.jid)
    assert row is not None
    assert row["messages"] == [
        message("M1", "how much?", sent_at="2026-03-10T14:00:00Z"),
        message("H1", "10", direction="outbound", sent_at="2026-03-10T14:00:00Z"),
        message("M2", "x" * 150, sent_at="2026-03-10T14:02:00Z"),
    ]
    assert (row["message_count"], row["last_message_preview"]) == (3, "x" * 100)
    assert (row["participant_identifier"], row["participant_name"]) == ("+5511988880001", "Ana")
    assert (row["created_at"], row["last_message_at"]) == (NOW, NOW + timedelta(minutes=2))
    assert row["person_id"] is None


async def test_what_was_changed_deleted_or_never_said_is_not_told(crm: Connection, world: World) -> None:
    await world.record(
        said("M1", "helo"), said("E1", "hello", type=MessageType.EDIT, reply_to=ExternalId("M1")),
        said("M2", "oops"), said("R1", None, type=MessageType.REVOKE, reply_to=ExternalId("M2")),
        said("X1", "+", type=MessageType.REACTION, reply_to=ExternalId("M1")),
    )  # fmt: skip
    chat_id = await world.meet()
    await world.withdraw(chat_id, await world.queue(chat_id, "never mind"))
    await crm.execute("UPDATE sidestep.outbox SET status = 'cancelled', due_at = NULL")
    row = await crm.fetchrow(ONE, ANA.jid)
    assert row is not None
    assert [one["content"] for one in row["messages"]] == ["hello"]
    assert (row["message_count"], row["last_message_preview"]) == (1, "hello")


async def test_a_group_has_no_participant_and_is_no_person_s(crm: Connection, world: World) -> None:
    await world.record(said("G1", "hello", group=TEAM))
    person = await crm.fetchval(ADD_PERSON, "Ana", None)
    row = await crm.fetchrow(ONE, TEAM.jid)
    assert row is not None
    assert (row["participant_identifier"], row["message_count"]) == (None, 1)
    async with refused(crm, asyncpg.CheckViolationError, "group"):
        await crm.execute("UPDATE chat_conversations SET person_id = $1", person)


async def test_counts_come_from_the_sums_of_months_that_are_over_and_from_what_is_open(
    crm: Connection, world: World
) -> None:
    for at in (NOW - timedelta(days=70), NOW - timedelta(days=35), NOW):
        await burst(world, 4, at=at)
    count = "SELECT message_count FROM chat_conversations"
    assert await crm.fetchval(count) == 12
    await tally(world.db, world.tenant.tenant_id, NOW)
    assert await world.count("tallied_months") > 1
    assert await crm.fetchval(count) == 12
    await crm.execute("UPDATE sidestep.messages SET deleted_at = now() WHERE external_id = '03M1'")
    await crm.execute("UPDATE sidestep.messages SET deleted_at = now() WHERE external_id = '10M1'")
    assert await crm.fetchval(count) == 10


# Limits, archives and days -------------------------------------------------------------------------------


async def test_what_passes_five_hundred_is_in_the_archives_and_nothing_is_twice(
    crm: Connection, world: World
) -> None:
    await burst(world, 1300, at=NOW - timedelta(days=1))
    await burst(world, 300)
    row = await crm.fetchrow(ONE, ANA.jid)
    assert row is not None
    assert (len(row["messages"]), row["message_count"]) == (500, 1600)
    parts = await crm.fetch("SELECT * FROM chat_conversation_archives ORDER BY id")
    assert [p["message_count"] for p in parts] == [len(p["messages"]) for p in parts] == [500, 500, 100]
    assert {p["conversation_id"] for p in parts} == {row["id"]}
    assert len({p["id"] for p in parts}) == 3
    told = [one["id"] for one in await archived(crm) + row["messages"]]
    assert told == [f"09M{n}" for n in range(1300)] + [f"10M{n}" for n in range(300)]


async def test_no_array_passes_a_megabyte(crm: Connection, world: World) -> None:
    await burst(world, 60, text="é" * 30_000)
    row = await crm.fetchrow(ONE, ANA.jid)
    assert row is not None
    arrays = [row["messages"]] + [
        r["messages"] for r in await crm.fetch("SELECT messages FROM chat_conversation_archives")
    ]
    assert all(len(json.dumps(a, ensure_ascii=False).encode()) < 1 << 20 for a in arrays)
    assert sum(map(len, arrays)) == 60
    assert row["message_count"] == 60


async def test_a_message_larger_than_the_limit_is_told_alone(crm: Connection, world: World) -> None:
    await world.record(said("M1"), said("M2", "x" * 1_200_000), said("M3", "y" * 1_200_000))
    row = await crm.fetchrow(ONE, ANA.jid)
    assert row is not None
    assert [one["id"] for one in row["messages"]] == ["M3"]
    assert [one["id"] for one in await archived(crm)] == ["M1", "M2"]


async def test_a_day_has_a_row_where_something_was_said(crm: Connection, world: World) -> None:
    await burst(world, 3, at=NOW - timedelta(days=9))
    await burst(world, 600, at=NOW - timedelta(days=1))
    await world.record(said("B1", by=BEN), now=NOW)
    rows = await crm.fetch(
        "SELECT date, message_count, messages FROM chat_conversation_days WHERE external_conversation_id = $1 ORDER BY date",
        ANA.jid,
    )
    assert [(r["date"], r["message_count"], len(r["messages"])) for r in rows] == [
        (date(2026, 3, 1), 3, 3), (date(2026, 3, 9), 600, 500),
    ]  # fmt: skip
    # What does not fit into a day's row does not fit into the conversation's either.
    assert [one["id"] for one in await archived(crm)][3:] == [f"09M{n}" for n in range(100)]
    day = await crm.fetch(
        "SELECT external_conversation_id, messages FROM chat_conversation_days WHERE date = '2026-03-10'"
    )
    assert [(r[0], [one["id"] for one in r[1]]) for r in day] == [(BEN.jid, ["B1"])]


# What others write ---------------------------------------------------------------------------------------


async def test_the_documents_upsert_appends_and_dedupes(crm: Connection, world: World) -> None:
    row = await upsert(crm)
    assert (row["messages"], row["message_count"], row["last_message_preview"]) == ([], 0, None)
    assert row["last_message_at"] == row["created_at"]
    row = await upsert(crm, messages=PRINTED[:1])
    assert (row["external_conversation_id"], row["participant_identifier"]) == ("thread-17", "+5511988880001")
    assert (row["message_count"], row["last_message_preview"]) == (1, PRINTED[0]["content"])
    again = await upsert(crm, messages=PRINTED)
    assert again["id"] == row["id"]
    assert again["messages"] == [PRINTED[0], {**PRINTED[1], "media_url": None}]
    assert again["created_at"] == datetime(2026, 2, 1, 10, 30, tzinfo=UTC)
    # What is left out is no order to forget it.
    assert (await upsert(crm, messages=[]))["message_count"] == 2
    rows = await world.db.fetch("SELECT id FROM sidestep.messages")
    assert {await world.action(r["id"]) for r in rows} == {Action.IMPORTED}
    assert await world.count("outbox") == 0


async def test_an_update_appends_to_the_array(crm: Connection, world: World) -> None:
    await world.record(said("M1", "hello"))
    await world.queue(await world.meet(), "on its way")
    await crm.execute(
        "UPDATE chat_conversations SET messages = jsonb_concat(messages, $1), message_count = 99, last_message_at = now()",
        [message("N1", "from elsewhere", direction="outbound", sent_at="2026-03-10T15:00:00Z")],
    )
    row = await crm.fetchrow(ONE, ANA.jid)
    assert row is not None
    assert [one["content"] for one in row["messages"]] == ["hello", "on its way", "from elsewhere"]
    assert row["message_count"] == await world.count("messages") == 3


async def test_a_conversation_of_the_bot_s_goes_by_the_name_that_another_system_gives_it(
    crm: Connection, world: World
) -> None:
    await world.record(said("M1", "hello"))
    row = await upsert(crm, "wa:4711", who="5511988880001", messages=[message("M1"), message("N1")])
    assert row["message_count"] == 2
    assert await crm.fetchval("SELECT count(*) FROM chat_conversations") == 1
    assert (await crm.fetchrow(ONE, "wa:4711")) is not None
    async with refused(crm, asyncpg.UniqueViolationError, "under another"):
        await upsert(crm, "wa:4712", who="5511988880001")
    async with refused(crm, asyncpg.FeatureNotSupportedError):
        await crm.execute("UPDATE chat_conversations SET external_conversation_id = 'x'")


async def test_a_conversation_stays_what_it_was_called_when_two_become_one(
    crm: Connection, world: World
) -> None:
    await world.record(said("M1", "hello", by=ANA_LID))
    by_lid = await crm.fetchrow(ONE, ANA_LID.jid)
    assert by_lid is not None
    assert by_lid["participant_identifier"] == ANA_LID.jid
    written = await upsert(crm, messages=PRINTED)
    person = await crm.fetchval(ADD_PERSON, "Ana", None)
    await crm.execute("UPDATE chat_conversations SET person_id = $1 WHERE id = $2", person, written["id"])
    await world.record(said("M2", "it is me", by=ANA_BOTH))
    [row] = await crm.fetch("SELECT * FROM chat_conversations")
    assert (row["external_conversation_id"], row["message_count"], row["person_id"]) == (
        "thread-17",
        4,
        person,
    )
    assert (await upsert(crm, messages=[message("N1")]))["message_count"] == 5


@pytest.mark.parametrize(
    ("platform", "called", "who", "shown"),
    [
        ("telegram", "42", "@Ana", "ana"),
        ("signal", "s-1", "+55 11 98888-0001", "+5511988880001"),
        ("wechat", "wx_ana", None, "wx_ana"),
        ("email", "thread-9", "Ana@example.com", "ana@example.com"),
    ],
)
async def test_other_platforms_have_conversations_and_connections_too(
    crm: Connection, platform: str, called: str, who: str | None, shown: str
) -> None:
    row = await upsert(crm, called, platform, who, messages=PRINTED)
    assert (row["external_conversation_id"], row["participant_identifier"]) == (called, shown)
    assert (await upsert(crm, called, platform, who))["id"] == row["id"]
    rows = await crm.fetch(
        "SELECT platform, name, status FROM messaging_connections ORDER BY created_at, name"
    )
    assert [tuple(r) for r in rows] == [
        ("whatsapp", "shop", "pending"),
        (platform, f"shop-{platform}", "connected"),
    ]


async def test_a_medium_is_known_by_its_address(crm: Connection, world: World) -> None:
    photo = message("P1", None, type="photo", media_url="http://x/1.jpg")
    row = await upsert(crm, messages=[photo, message("S1", type="carrier-pigeon")])
    assert [(one["type"], one["media_url"]) for one in row["messages"]] == [
        ("image", "http://x/1.jpg"),
        ("unknown", None),
    ]
    assert await world.db.fetchval("SELECT url FROM sidestep.media") == "http://x/1.jpg"


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        ([message("A1"), message("A2", direction="sideways")], r"messages\[1\]: direction"),
        ([{"direction": "inbound"}], r"messages\[0\]: a message needs an id"),
        ([message("")], r"messages\[0\]: a message needs an id"),
        ([message("A1", sent_at="yesterday-ish")], r"messages\[0\]: sent_at"),
        (["hello"], r"messages\[0\]"),
    ],
)
async def test_a_bad_message_says_where_it_is_and_nothing_is_written(
    crm: Connection, world: World, messages: Sequence[object], told: str
) -> None:
    async with refused(crm, asyncpg.CheckViolationError, told):
        await upsert(crm, messages=messages)
    assert await world.count("chats") == await world.count("messages") == 0


async def test_what_must_be_said_is_asked_for(crm: Connection) -> None:
    async with refused(crm, asyncpg.NotNullViolationError, '"platform"'):
        await crm.execute("INSERT INTO chat_conversations (external_conversation_id) VALUES ('x')")
    async with refused(crm, asyncpg.NotNullViolationError, '"external_conversation_id"'):
        await crm.execute("INSERT INTO chat_conversations (platform) VALUES ('whatsapp')")
    async with refused(crm, asyncpg.CheckViolationError, "participant_identifier"):
        await upsert(crm, who=None)
    async with refused(crm, asyncpg.CheckViolationError, "platform"):
        await upsert(crm, platform="fax")
    async with refused(crm, asyncpg.CheckViolationError, "array"):
        await crm.fetchrow(UPSERT, "x", "whatsapp", "+5511988880001", None, {"messages": PRINTED})


async def test_of_many_who_write_to_a_new_conversation_at_once_nobody_loses_a_message(db: Database) -> None:
    world = await World.open(db)

    async def write(n: int) -> None:
        async with face(db, "crm") as connection:
            await upsert(connection, messages=[message(f"N{n}"), message("shared")])

    await asyncio.gather(*(write(n) for n in range(20)))
    async with face(db, "crm") as connection:
        [row] = await connection.fetch("SELECT * FROM chat_conversations")
    assert {one["id"] for one in row["messages"]} == {*(f"N{n}" for n in range(20)), "shared"}
    assert row["message_count"] == len(row["messages"]) == 21
    assert await world.count("chats") == await world.count("threads") == 1


async def test_whoever_writes_many_messages_holds_up_no_new_customer(db: Database) -> None:
    world = await World.open(db)
    await world.record(said("M1"))  # the months are there
    async with face(db, "crm") as connection:
        await upsert(connection, messages=PRINTED[:1])
        async with connection.transaction():
            await upsert(connection, messages=PRINTED)
            await asyncio.wait_for(world.record(said("B1", by=BEN)), 60)


async def test_an_entity_and_a_user_are_kept_and_left_alone_by_what_does_not_name_them(
    crm: Connection,
) -> None:
    entity, user = uuid4(), uuid4()
    row = await upsert(crm, messages=PRINTED)
    await crm.execute(
        "UPDATE chat_conversations SET entity_table = 'deals', entity_id = $1, user_id = $2 WHERE id = $3",
        entity, user, row["id"],
    )  # fmt: skip
    again = await upsert(crm, name=None)
    assert (again["entity_table"], again["entity_id"], again["user_id"]) == ("deals", entity, user)
    assert again["participant_name"] == "Ana"


# People --------------------------------------------------------------------------------------------------


async def person_of(crm: Connection, called: str) -> UUID | None:
    row = await crm.fetchrow(ONE, called)
    assert row is not None
    found: UUID | None = row["person_id"]
    return found


@pytest.mark.parametrize("phone", ["+55 (11) 98888-0001", "005511988880001", "+55 11 8888 0001"])
async def test_a_person_and_a_conversation_find_each_other_whoever_comes_first(
    crm: Connection, world: World, phone: str
) -> None:
    await world.record(said("M1"))
    ana = await crm.fetchval(ADD_PERSON, "Ana", phone)
    ben = await crm.fetchval(ADD_PERSON, "Ben", "+55 11 98888-0002")
    await world.record(said("B1", by=BEN))
    assert (await person_of(crm, ANA.jid), await person_of(crm, BEN.jid)) == (ana, ben)


async def test_a_username_finds_its_person(crm: Connection) -> None:
    await crm.execute("INSERT INTO people (name, username) VALUES ('Ana', '@AnaS')")
    row = await upsert(crm, "42", "telegram", "anas")
    assert row["person_id"] == await crm.fetchval("SELECT id FROM people")


async def test_whom_somebody_has_linked_stays_linked(crm: Connection, world: World) -> None:
    await world.record(said("M1"))
    wife = await crm.fetchval(ADD_PERSON, "Ana's wife", None)
    await crm.execute("UPDATE chat_conversations SET person_id = $1", wife)
    await crm.fetchval(ADD_PERSON, "Ana", "+5511988880001")
    assert await person_of(crm, ANA.jid) == wife
    assert await crm.execute("DELETE FROM people WHERE id = $1", wife) == "DELETE 1"
    assert await person_of(crm, ANA.jid) is None
    async with refused(crm, asyncpg.ForeignKeyViolationError, "people"):
        await crm.execute("UPDATE chat_conversations SET person_id = $1", wife)


async def test_a_person_s_number_is_corrected(crm: Connection, world: World) -> None:
    await world.record(said("M1"))
    ana = await crm.fetchval(ADD_PERSON, "Ana", "+5511988880009")
    assert await person_of(crm, ANA.jid) is None
    await crm.execute("UPDATE people SET phone = '+5511988880001', name = 'Ana S.' WHERE id = $1", ana)
    assert await person_of(crm, ANA.jid) == ana
    async with refused(crm, asyncpg.FeatureNotSupportedError):
        await crm.execute("UPDATE people SET id = $1", uuid4())


# Speed ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("SELECT messages FROM chat_conversations WHERE external_conversation_id = $1", "chats_conversation"),
        ("SELECT messages FROM chat_conversations WHERE id = $1::text::uuid", "chats_uuid"),
        ("SELECT messages FROM chat_conversations WHERE person_id = $1::text::uuid", "contacts_person"),
        ("SELECT messages FROM chat_conversation_archives WHERE conversation_id = $1::text::uuid", "chats_uuid"),
        ("SELECT messages FROM chat_conversation_days WHERE external_conversation_id = $1 AND date = '2026-03-10'", "chats_conversation"),
    ],
)  # fmt: skip
async def test_what_is_looked_up_is_found_by_an_index(crm: Connection, query: str, index: str) -> None:
    await crowd(crm)
    await crm.execute(PARTNERS)
    await crm.execute("ANALYZE sidestep.contacts, sidestep.chats")
    assert index in await plan(crm, query, str(uuid4()))


PAGE = """
SELECT id, participant_name, last_message_at, last_message_preview, message_count
  FROM chat_conversations ORDER BY last_message_at DESC LIMIT 20
"""


async def test_a_page_of_the_list_makes_what_it_shows_and_no_more(crm: Connection, world: World) -> None:
    await world.record(said("M1"))
    await crowd(crm)
    await crm.execute("SET LOCAL track_functions = 'pl'")
    assert len(await crm.fetch(PAGE)) == 20
    calls = await crm.fetch(
        "SELECT funcname, calls FROM pg_stat_xact_user_functions WHERE schemaname = 'sidestep'"
    )
    made = {r["funcname"]: r["calls"] for r in calls}
    assert (made["conversation_preview"], made["conversation_count"]) == (20, 20)
    assert "messages_between" not in made


@pytest.mark.parametrize(
    "query",
    [
        PAGE,
        PAGE.replace("id,", "*,"),
        "SELECT * FROM chat_conversation_days WHERE date = '2026-03-10'",
        "SELECT * FROM chat_conversation_days WHERE conversation_id = sidestep.uuid_of(1, 0)",
        "SELECT * FROM chat_conversation_archives WHERE conversation_id = sidestep.uuid_of(1, 0)",
    ],
)
async def test_nothing_is_taken_for_so_costly_that_a_server_would_compile_it(
    crm: Connection, world: World, query: str
) -> None:
    for days in range(0, 720, 30):
        at = NOW - timedelta(days=days)
        await crm.execute("SELECT sidestep.ensure_months($1, $1)", at)
    await crowd(crm)
    cost = (await crm.fetchval(f"EXPLAIN (FORMAT json) {query}"))[0]["Plan"]["Total Cost"]
    assert cost < 100_000  # jit_above_cost; where months are part of a plan, compiling it takes seconds
