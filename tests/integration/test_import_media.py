"""The files of an archive are kept with their messages, each once, and never under a name that it brings."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from bot.importing.files import Files
from bot.media.keeper import Keeper
from bot.media.shelf import Shelf
from storage.database import Database
from storage.imports import ImportStore
from storage.media import MediaStore
from storage.models import MessageType
from tests.integration.import_world import ImportWorld
from tests.integration.media_world import MEGABYTE, MediaWorld, png
from tests.integration.store_world import NOW, World, said
from tests.integration.test_import_files import packed

NAME = "IMG-20260113-WA0001.jpg"
CHAT = f"13/01/2026, 10:00 - Ana: {NAME} (file attached)\nour shop\n13/01/2026, 10:01 - Dona: nice\n"


@pytest.fixture
async def place(db: Database, tmp_path: Path) -> ImportWorld:
    (tmp_path / "kept").mkdir()
    made = ImportWorld(world=await World.open(db), folder=tmp_path)
    keeper = Keeper(db, Shelf(MediaWorld.config_of(tmp_path / "kept")))
    made.files = Files(keeper, MediaStore(db), ImportStore(db), lambda: NOW, most_bytes=MEGABYTE)
    return made


async def media(place: ImportWorld) -> list[asyncpg.Record]:
    return await place.world.db.fetch("SELECT * FROM sidestep.media_files ORDER BY media_id")


def kept(place: ImportWorld) -> list[bytes]:
    return [path.read_bytes() for path in sorted((place.folder / "kept").rglob("*")) if path.is_file()]


async def test_an_attached_file_is_kept_once_with_its_message(place: ImportWorld) -> None:
    picture = png(size=(8, 8))
    content = packed({"_chat.txt": CHAT, NAME: picture, "../../evil.sh": b"x"})
    for new, files in ((2, 1), (0, 0)):
        report = await place.bring(content, "WhatsApp Chat - Ana.zip")
        assert (report.refused, report.tally.new, report.tally.files) == (None, new, files)
    [medium] = await media(place)
    assert (medium["status"], medium["mime"], medium["name"], medium["type"]) == (
        "stored",
        "image/png",
        NAME,
        "image",
    )
    assert medium["message_id"] == next(r["id"] for r in await place.rows() if r["text"] == "our shop")
    assert picture in kept(place)
    assert not [path for path in place.folder.rglob("*") if NAME in path.name or "evil" in path.name]


async def test_files_come_later_than_their_messages_too(place: ImportWorld) -> None:
    await place.bring(CHAT)
    assert await media(place) == []
    report = await place.bring(packed({"_chat.txt": CHAT, NAME: png()}), "chat.zip")
    assert (report.tally.new, report.tally.known, report.tally.files) == (0, 2, 1)


async def test_a_file_that_whatsapp_keeps_no_longer_comes_from_the_archive(place: ImportWorld) -> None:
    at = datetime(2026, 1, 13, 10, 0, 5, tzinfo=UTC)
    await place.world.record(said("LIVE", "our shop", type=MessageType.IMAGE, at=at, raw="{}"), now=at)
    await place.world.db.execute("UPDATE sidestep.media SET status = 'expired', due_at = NULL")
    report = await place.bring(packed({"_chat.txt": CHAT, NAME: png()}), "chat.zip")
    assert (report.tally.new, report.tally.known, report.tally.files) == (1, 1, 1)
    assert [m["status"] for m in await media(place)] == ["stored"]


async def test_a_file_that_cannot_be_had_costs_nothing_else(place: ImportWorld) -> None:
    other = "IMG-20260113-WA0002.jpg"
    chat = CHAT + f"13/01/2026, 10:02 - Ana: {other} (file attached)\n"
    broken: dict[str, Any] = {
        "_chat.txt": chat,
        NAME: bytes(2 * MEGABYTE),
        other: b"\xff\xd8\xff" + bytes(range(200)),
    }
    content = bytearray(packed(broken))
    content[content.find(b"PK\x03\x04", content.find(other.encode()) - 40) + 60] ^= 0xFF
    report = await place.bring(bytes(content), "chat.zip")
    assert (report.refused, report.tally.new, report.tally.files, report.tally.files_left) == (None, 3, 0, 2)
    assert await media(place) == []
    assert kept(place) == []
