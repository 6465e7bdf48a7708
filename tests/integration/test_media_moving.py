"""Files move to another place with both addresses, are stopped and go on, and are never without one copy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.media.folder import FolderPlace
from bot.media.mover import Moved, Mover
from bot.media.places import Key, Place, PlaceUnavailable
from bot.media.shelf import Shelf
from storage.blobs import BlobStore
from storage.database import Database
from storage.models import MessageType
from tests.doubles.s3_server import KEY, SECRET, s3_server
from tests.integration.media_world import MediaWorld, png
from tests.integration.store_world import NOW

FILES = [png(shade) for shade in range(3)]


@pytest.fixture
async def media(db: Database, tmp_path: Path) -> AsyncIterator[MediaWorld]:
    """Three pictures, which are six files: each has a thumbnail of its own."""
    async with MediaWorld.open(db, tmp_path / "media") as world:
        for number, data in enumerate(FILES):
            await world.receive(f"M{number}", data)
        assert await world.statuses() == ["stored"] * 3
        yield world


async def moved(
    media: MediaWorld, to: Place, shelf: Shelf | None = None, *, remove: bool = False
) -> list[Moved]:
    mover = Mover(BlobStore(media.world.db), shelf or Shelf(media.config), to, lambda: NOW, remove=remove)
    return [one async for one in mover.move(media.world.tenant.tenant_id)]


async def addresses(media: MediaWorld) -> list[tuple[str, str | None]]:
    return [(row["url"], row["moved_url"]) for row in await media.media()]


async def check_content(media: MediaWorld) -> None:
    """Every medium reads as it was sent, from where it lies now."""
    for row, data in zip(await media.media(), FILES, strict=True):
        assert await media.keeper.read(row["moved_url"] or row["url"]) == data


async def test_both_addresses_are_known_and_both_lead_to_the_file(media: MediaWorld, tmp_path: Path) -> None:
    before = await addresses(media)
    to = FolderPlace(tmp_path / "else where")
    assert [one.error for one in await moved(media, to)] == [None] * 6
    after = await addresses(media)
    assert [old for old, _ in after] == [old for old, _ in before]
    for (old, new), data in zip(after, FILES, strict=True):
        assert new is not None
        assert new.startswith(f"{to.base}/")
        assert await media.keeper.read(old) == await media.keeper.read(new) == data
    assert await moved(media, to) == []


async def test_one_that_is_stopped_goes_on(
    media: MediaWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to, put, left = FolderPlace(tmp_path / "elsewhere"), FolderPlace.put, 4

    async def fills_up(self: FolderPlace, key: Key, data: bytes) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise PlaceUnavailable("no space left")
        await put(self, key, data)

    with monkeypatch.context() as filling:
        filling.setattr(FolderPlace, "put", fills_up)
        with pytest.raises(PlaceUnavailable):
            await moved(media, to)
    await check_content(media)
    assert len(await moved(media, to)) == 2
    await check_content(media)
    assert all(new for _, new in await addresses(media))


async def test_files_are_removed_from_where_they_lay_if_asked_also_afterwards(
    media: MediaWorld, tmp_path: Path
) -> None:
    to = FolderPlace(tmp_path / "elsewhere")
    await moved(media, to)
    assert len(media.files()) == 6
    await moved(media, to, remove=True)
    assert media.files() == []
    assert all(old and new for old, new in await addresses(media))
    await check_content(media)


async def test_a_second_move_leaves_no_copy_that_nobody_knows_and_back_is_a_move_too(
    media: MediaWorld, tmp_path: Path
) -> None:
    first, second = FolderPlace(tmp_path / "first"), FolderPlace(tmp_path / "second")
    await moved(media, first)
    await moved(media, second)
    assert media.files() == []
    assert all(old.startswith(first.base) for old, _ in await addresses(media))
    await check_content(media)
    await moved(media, first)
    assert all((new or "").startswith(first.base) for _, new in await addresses(media))
    await check_content(media)


async def test_what_is_missing_or_damaged_stays_and_is_told(media: MediaWorld, tmp_path: Path) -> None:
    lost, damaged, *_ = media.files()
    lost.unlink()
    damaged.write_bytes(b"?")
    told = await moved(media, FolderPlace(tmp_path / "elsewhere"))
    assert {one.blob.url: one.error for one in told if one.error} == {
        lost.as_uri(): "is missing",
        damaged.as_uri(): "is not what it was",
    }
    assert len(told) == 6


async def test_a_move_to_the_same_place_under_another_address_loses_nothing(
    media: MediaWorld, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(media.folder)
    assert await moved(media, FolderPlace(tmp_path / "link"), remove=True) == []
    await check_content(media)
    alias = FolderPlace(tmp_path / "mount")
    media.folder.rename(tmp_path / "mount")
    media.folder.symlink_to(tmp_path / "mount")
    assert len(await moved(media, alias, remove=True)) == 6
    await check_content(media)


async def test_what_comes_again_after_a_move_is_still_one_file(media: MediaWorld, tmp_path: Path) -> None:
    await moved(media, FolderPlace(tmp_path / "elsewhere"), remove=True)
    await media.receive("M9", FILES[0])
    assert media.files() == []
    assert (await media.statuses())[-1] == "stored"
    await media.receive("M10", b"new here", kind=MessageType.DOCUMENT)
    assert len(media.files()) == 1


async def test_from_a_folder_into_an_s3_store_and_back(media: MediaWorld, tmp_path: Path) -> None:
    async with s3_server(tmp_path / "s3") as address:
        url = f"{address}/bucket/media"
        keys = {"access_key_id": KEY, "secret_access_key": SECRET}
        in_bucket = MediaWorld.config_of(media.folder, url=url, **keys)
        shelf = Shelf(in_bucket)
        assert shelf.home.base == url
        assert len(await moved(media, shelf.home, shelf, remove=True)) == 6
        assert media.files() == []
        assert all(new and new.startswith(f"{url}/") for _, new in await addresses(media))
        there = media.elsewhere(in_bucket)
        await check_content(there)
        await there.receive("M9", b"a note", kind=MessageType.DOCUMENT)
        assert (await there.media())[-1]["url"].startswith(f"{url}/")
        assert media.files() == []
        home = Shelf(media.config).home
        assert len(await moved(media, home, shelf)) == 7
        assert len(media.files()) == 7
        for row in await media.world.db.fetch("SELECT url FROM sidestep.blobs"):
            assert row["url"].startswith(media.folder.as_uri())
        await media.world.db.execute("DELETE FROM sidestep.media")
        swept = await there.keeper.sweep(media.world.tenant.tenant_id)
        assert (swept.removed, swept.left) == (7, 0)
        assert media.files() == []
        assert [entry async for entry in shelf.home.entries()] == []
