"""Media as rows: noted with their message, merged with their chat, and forgotten with their person."""

from __future__ import annotations

from datetime import timedelta

import pytest

from storage.database import Database
from storage.models import Address, Arrival, MessageType
from tests.integration.store_world import ANA, ANA_BOTH, ANA_LID, BEN, NOW, TEAM, World, of_type, said, typed

YESTERDAY = NOW - timedelta(days=1)
RAW = '{"Message": {}}'
SHA = b"\x01" * 32


@pytest.fixture
async def world(db: Database) -> World:
    return await World.open(db)


def photo(external_id: str, *, by: Address = ANA, group: Address | None = None, **changes: object) -> Arrival:
    return of_type(MessageType.IMAGE, external_id, by=by, group=group, **{"raw": RAW, **changes})


async def noted(world: World) -> list[tuple[str, str, bool]]:
    """Each medium: its message's id, its status, and whether it is to be fetched."""
    rows = await world.db.fetch(
        """
        SELECT k.external_id, m.status, m.due_at IS NOT NULL AS due FROM sidestep.media m
          JOIN sidestep.message_keys k ON (k.tenant_id, k.chat_id, k.id) = (m.tenant_id, m.chat_id, m.message_id)
         ORDER BY m.media_id
        """
    )
    return [tuple(row) for row in rows]


async def keep(world: World, sha256: bytes = SHA) -> None:
    """As if the file of every medium had this content."""
    await world.db.execute(
        """
        INSERT INTO sidestep.blobs (tenant_id, sha256, size_bytes, mime, url, is_unused)
        VALUES ($1, $2, 1, 'image/png', 'file:///x', false)
        """,
        world.tenant.tenant_id,
        sha256,
    )
    await world.db.execute("UPDATE sidestep.media SET status = 'stored', due_at = NULL, sha256 = $1", sha256)


async def unused(world: World) -> int:
    return int(await world.db.fetchval("SELECT count(*) FROM sidestep.blobs WHERE is_unused"))


@pytest.mark.parametrize("kind", ["image", "video", "audio", "document", "sticker"])
async def test_a_medium_is_noted_with_its_message_and_due_at_once(world: World, kind: str) -> None:
    await world.record(said("M1"), of_type(MessageType(kind), "M2", raw=RAW), said("M3"))
    assert await noted(world) == [("M2", "pending", True)]
    assert await world.db.fetchval("SELECT type FROM sidestep.media") == kind


async def test_what_the_owner_sends_is_noted_too(world: World) -> None:
    await world.record(typed("O1", "look", type=MessageType.IMAGE, raw=RAW))
    assert await noted(world) == [("O1", "pending", True)]


async def test_a_repeat_is_noted_once(world: World) -> None:
    await world.record(photo("M1"))
    await world.record(photo("M1"), photo("M2"))
    await keep(world)
    await world.record(photo("M1"))
    assert await noted(world) == [("M1", "stored", False), ("M2", "stored", False)]


@pytest.mark.parametrize("mark", ["view_once", "unavailable"])
async def test_what_is_to_be_seen_once_is_not_kept(world: World, mark: str) -> None:
    await world.record(photo("M1", metadata={mark: True}))
    await world.record_past(photo("M2", metadata={mark: True}, at=YESTERDAY))
    assert await noted(world) == []


async def test_what_comes_without_its_event_has_nothing_to_fetch(world: World) -> None:
    await world.record(photo("M1", raw=None))
    assert await noted(world) == []


async def test_media_of_the_past_wait_until_they_are_asked_for_or_come_live(world: World) -> None:
    await world.record_past(photo("M1", at=YESTERDAY), said("M2", at=YESTERDAY), photo("M3", at=YESTERDAY))
    await world.record_past(photo("M1", at=YESTERDAY))
    assert await noted(world) == [("M1", "pending", False), ("M3", "pending", False)]
    await world.record(photo("M1"))
    assert await noted(world) == [("M1", "pending", True), ("M3", "pending", False)]


async def test_media_go_along_when_two_chats_become_one(world: World) -> None:
    await world.record(photo("M1", by=ANA), photo("M2", by=ANA_LID))
    await world.record(said("M3", by=ANA_BOTH))
    chat_id = await world.meet(ANA)
    assert await world.db.fetchval("SELECT array_agg(DISTINCT chat_id) FROM sidestep.media") == [chat_id]


async def test_a_persons_media_are_forgotten_wherever_they_wrote_and_no_one_elses(world: World) -> None:
    await world.record(
        photo("A1"),
        typed("O1", "look", type=MessageType.IMAGE, raw=RAW),
        photo("A2", group=TEAM),
        photo("B1", by=BEN),
        photo("B2", by=BEN, group=TEAM),
    )
    await keep(world)
    tenant_id = world.tenant.tenant_id
    contact_id = await world.db.fetchval("SELECT contact_id FROM sidestep.contacts WHERE jid = $1", ANA.jid)
    assert await world.db.fetchval("SELECT sidestep.forget_media_of($1, $2)", tenant_id, contact_id) == 3
    assert [one[0] for one in await noted(world)] == ["B1", "B2"]
    assert await unused(world) == 1


async def test_media_of_a_chat_and_of_messages_are_forgotten(world: World) -> None:
    first, second = await world.record(photo("A1"), photo("A2"))
    await world.record(photo("B1", by=BEN))
    tenant_id, chat_id = world.tenant.tenant_id, first.message.chat_id
    forget = "SELECT sidestep.forget_media($1, $2, $3)"
    assert await world.db.fetchval(forget, tenant_id, chat_id, [second.message.id]) == 1
    assert [one[0] for one in await noted(world)] == ["A1", "B1"]
    assert await world.db.fetchval(forget, tenant_id, chat_id, None) == 1
    assert [one[0] for one in await noted(world)] == ["B1"]


async def test_a_deleted_chat_takes_its_media_along_and_leaves_their_files_to_be_removed(
    world: World,
) -> None:
    [message] = await world.record(photo("A1"))
    await keep(world)
    assert await unused(world) == 0
    await world.db.execute("DELETE FROM sidestep.chats WHERE chat_id = $1", message.message.chat_id)
    assert await world.count("media") == 0
    assert await unused(world) == 1


async def test_a_medium_that_others_keep_is_known_by_its_address(world: World) -> None:
    [message] = await world.record(said("M1"))
    know = "SELECT sidestep.know_media($1, $2, $3, 'image', $4, 'image/png', 5, 'a.png', $5)"
    for url in ("https://example.com/1", "https://example.com/2"):
        await world.db.fetchval(
            know, world.tenant.tenant_id, message.message.chat_id, message.message.id, url, NOW
        )
    rows = await world.db.fetch("SELECT ordinal, status, url, moved_url FROM sidestep.media_files ORDER BY 1")
    assert [tuple(r) for r in rows] == [
        (0, "stored", "https://example.com/1", None),
        (1, "stored", "https://example.com/2", None),
    ]


async def test_a_moved_file_keeps_both_addresses(world: World) -> None:
    await world.record(photo("M1"))
    await keep(world)
    addresses = "SELECT url, moved_url FROM sidestep.media_files"
    assert tuple(await world.db.fetchrow(addresses) or ()) == ("file:///x", None)
    await world.db.execute("UPDATE sidestep.blobs SET former_url = url, url = 's3://bucket/x'")
    assert tuple(await world.db.fetchrow(addresses) or ()) == ("file:///x", "s3://bucket/x")
