"""`sidestep check --media`: files and rows agree, or it says where they do not; and it repairs what is safe."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bot.media.audit import Audit, Finding, Trouble
from bot.media.folder import FolderPlace
from bot.media.mover import Mover
from bot.media.shelf import Shelf
from storage.blobs import BlobStore
from storage.database import Database
from storage.media import MediaStore
from storage.models import MessageType
from tests.integration.media_world import MediaWorld, png
from tests.integration.store_world import NOW

PICTURE = png()


@pytest.fixture
async def media(db: Database, tmp_path: Path) -> AsyncIterator[MediaWorld]:
    """A picture with its thumbnail, and a document."""
    async with MediaWorld.open(db, tmp_path / "media") as world:
        await world.receive("M1", PICTURE)
        await world.receive("M2", b"a note", kind=MessageType.DOCUMENT)
        yield world


async def findings(media: MediaWorld, *, repair: bool = False) -> list[Finding]:
    audit = Audit(BlobStore(media.world.db), Shelf(media.config), lambda: NOW, repair=repair)
    return [finding async for finding in audit.run()]


async def path_of(media: MediaWorld, number: int, column: str = "url") -> Path:
    return Path((await media.media())[number][column].removeprefix("file://"))


async def test_where_all_is_well_there_is_nothing_to_tell(media: MediaWorld) -> None:
    assert await findings(media) == []
    assert await findings(media, repair=True) == []
    assert len(media.files()) == 3


@pytest.mark.parametrize("content", [None, b"A note", b"a"])
async def test_a_missing_and_a_damaged_file_are_found_and_fetched_again(
    media: MediaWorld, content: bytes | None
) -> None:
    path = await path_of(media, 1)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    trouble = Trouble.MISSING if content is None else Trouble.DAMAGED
    assert await findings(media) == [Finding(trouble=trouble, url=path.as_uri())]
    [repaired] = await findings(media, repair=True)
    assert repaired.trouble is trouble
    assert "to be fetched again" in str(repaired.remedy)
    assert await media.statuses() == ["stored", "pending"]
    if content is not None:
        assert (media.folder / "damaged" / path.name).read_bytes() == content
    await media.fetch()
    assert await media.statuses() == ["stored", "stored"]
    assert path.read_bytes() == b"a note"
    assert await findings(media) == []


async def test_what_can_be_fetched_no_more_ends_as_it_would_have_at_first(media: MediaWorld) -> None:
    path = await path_of(media, 1)
    path.unlink()
    media.transport.files.clear()
    await findings(media, repair=True)
    await media.fetch()
    assert await media.statuses() == ["stored", "expired"]
    await media.keeper.sweep(media.world.tenant.tenant_id)
    assert await findings(media) == []
    assert await media.world.count("blobs") == 2


async def test_what_was_kept_without_its_event_has_failed(media: MediaWorld) -> None:
    (await path_of(media, 1)).unlink()
    await media.world.db.execute("DELETE FROM sidestep.message_payloads")
    await findings(media, repair=True)
    assert await media.statuses() == ["stored", "failed"]
    assert (await media.media())[1]["error"] == "its file was lost"


async def test_a_thumbnail_is_made_anew(media: MediaWorld) -> None:
    path = await path_of(media, 0, "thumbnail_url")
    content = path.read_bytes()
    path.write_bytes(b"?")
    [repaired] = await findings(media, repair=True)
    assert repaired == Finding(trouble=Trouble.DAMAGED, url=path.as_uri(), remedy="made anew")
    assert path.read_bytes() == content
    assert await findings(media) == []


async def test_a_file_is_taken_from_where_it_lay_before(media: MediaWorld, tmp_path: Path) -> None:
    to = FolderPlace(tmp_path / "elsewhere")
    mover = Mover(BlobStore(media.world.db), Shelf(media.config), to, lambda: NOW)
    assert len([one async for one in mover.move(media.world.tenant.tenant_id)]) == 3
    path = await path_of(media, 1, "moved_url")
    path.write_bytes(b"?")
    [repaired] = await findings(media, repair=True)
    assert repaired.remedy == "taken from where it lay before"
    assert path.read_bytes() == b"a note"
    assert await findings(media) == []


async def test_a_folder_that_was_renamed_is_found_where_it_is_now(media: MediaWorld, tmp_path: Path) -> None:
    shutil.move(media.folder, tmp_path / "renamed")
    there = media.elsewhere(MediaWorld.config_of(tmp_path / "renamed"))
    assert {one.trouble for one in await findings(there)} == {Trouble.MISSING, Trouble.SPARE}
    assert {one.remedy for one in await findings(there, repair=True)} == {"found where new files go"}
    assert await findings(there) == []
    assert await media.statuses() == ["stored", "stored"]


async def test_an_orphan_is_found_and_removed(media: MediaWorld) -> None:
    path = await path_of(media, 1)
    orphan = path.parent.parent / "ab" / ("ab" * 32)
    orphan.parent.mkdir()
    orphan.write_bytes(b"?")
    assert await findings(media) == [Finding(trouble=Trouble.ORPHANED, url=orphan.as_uri())]
    await findings(media, repair=True)
    assert not orphan.exists()
    assert len(media.files()) == 3


async def test_what_a_killed_write_left_is_removed_once_it_is_old(media: MediaWorld) -> None:
    left = media.folder / ".incoming" / "abc"
    left.write_bytes(b"a no")
    assert await findings(media, repair=True) == []
    hours_ago = time.time() - 2 * 3600
    os.utime(left, (hours_ago, hours_ago))
    assert await findings(media) == [
        Finding(trouble=Trouble.LEFTOVER, url=f"{media.folder.as_uri()}/.incoming/abc")
    ]
    await findings(media, repair=True)
    assert not left.exists()


async def test_what_is_not_ours_is_told_and_left_alone(media: MediaWorld) -> None:
    mine = media.folder / "my notes.txt"
    mine.write_text("mine")
    others = media.folder / "1-123" / "ab" / ("ab" * 32)
    others.parent.mkdir(parents=True)
    others.write_bytes(b"of another database")
    told = await findings(media, repair=True)
    assert {(one.trouble, one.remedy) for one in told} == {(Trouble.FOREIGN, None)}
    assert len(told) == 2
    assert mine.exists()
    assert others.exists()


@pytest.mark.parametrize(
    ("step", "done", "swept"),
    [
        ("FolderPlace.put", False, True),
        ("FolderPlace.put", True, False),
        ("BlobStore.place", False, True),
        ("BlobStore.place", True, False),
        ("MediaStore.link", False, True),
        ("MediaStore.link", True, False),
    ],
)
async def test_cut_off_at_any_step_files_and_rows_agree_and_the_file_is_there_in_the_end(
    media: MediaWorld, monkeypatch: pytest.MonkeyPatch, step: str, done: bool, swept: bool
) -> None:
    room, name = step.split(".")
    owner: Any = {"FolderPlace": FolderPlace, "BlobStore": BlobStore, "MediaStore": MediaStore}[room]
    whole = getattr(owner, name)

    async def cut_off(*arguments: Any, **named: Any) -> None:
        if done:
            await whole(*arguments, **named)
        raise asyncio.CancelledError

    another = png(99)
    with monkeypatch.context() as cutting:
        cutting.setattr(owner, name, cut_off)
        with pytest.raises(asyncio.CancelledError):
            await media.receive("M9", another)
    assert await findings(media) == []
    if swept:
        await media.keeper.sweep(media.world.tenant.tenant_id)
        assert await findings(media) == []
    await media.clock.advance(timedelta(seconds=10))
    await media.fetch()
    assert await media.statuses() == ["stored"] * 3
    assert await media.keeper.read((await media.media())[2]["url"]) == another
    assert await findings(media) == []
    assert len(media.files()) == await media.world.count("blobs") == 5


async def test_what_is_being_written_or_removed_is_no_trouble(media: MediaWorld) -> None:
    await media.world.db.execute(
        """
        INSERT INTO sidestep.blobs (tenant_id, sha256, size_bytes, mime, url)
        SELECT tenant_id, decode(repeat('ab', 32), 'hex'), 1, 'image/png',
               regexp_replace(url, '[^/]*/[^/]*$', 'ab/' || repeat('ab', 32))
          FROM sidestep.blobs LIMIT 1
        """
    )
    await media.world.db.execute("DELETE FROM sidestep.media")
    assert await findings(media, repair=True) == []
    await media.keeper.sweep(media.world.tenant.tenant_id)
    assert await findings(media) == []
    assert media.files() == []
