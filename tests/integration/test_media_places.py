"""Places of files: a folder and a real S3 server keep the same promises; and what each has of its own."""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.config import Config
from bot.config.models import Media
from bot.media.folder import FolderPlace, is_leftover
from bot.media.places import (
    Entry,
    Key,
    NoSuchFile,
    Place,
    PlaceRefused,
    PlaceUnavailable,
    file_of,
    key_of,
    split,
    url_of,
)
from bot.media.s3 import S3Place
from bot.media.shelf import Shelf
from storage.blobs import Sha256
from tests.doubles.s3_server import KEY, SECRET, s3_server

SHELF = "7-64b0a1f3c2d1e"
FILE = key_of(SHELF, Sha256(b"\xab" * 32))
OTHER = key_of(SHELF, Sha256(b"\xcd" * 32))


@pytest.fixture(scope="module")
async def s3(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    async with s3_server(tmp_path_factory.mktemp("s3")) as address:
        yield address


def bucket(address: str, name: str, *, secret: str = SECRET) -> S3Place:
    url = f"{address}/{name}"
    return S3Place(url, Media.model_validate({"url": url, "access_key_id": KEY, "secret_access_key": secret}))


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        return FolderPlace(tmp_path / "deep down" / "mídia")
    return bucket(request.getfixturevalue("s3"), f"bucket/{tmp_path.name}")


async def names(place: Place) -> list[str]:
    return sorted([entry.name async for entry in place.entries()])


class TestAPlace:
    async def test_gives_back_what_it_was_given(self, place: Place) -> None:
        assert await place.size(FILE) is None
        await place.put(FILE, b"a picture")
        await place.put(OTHER, b"")
        assert await place.get(FILE) == b"a picture"
        assert (await place.size(FILE), await place.size(OTHER)) == (9, 0)

    async def test_replaces_what_is_there(self, place: Place) -> None:
        await place.put(FILE, b"damaged, and longer")
        await place.put(FILE, b"whole")
        assert await place.get(FILE) == b"whole"
        assert await names(place) == [FILE]

    async def test_removes_also_what_is_not_there(self, place: Place) -> None:
        await place.put(FILE, b"a picture")
        for _ in range(2):
            await place.remove(FILE)
        assert await place.size(FILE) is None
        with pytest.raises(NoSuchFile):
            await place.get(FILE)
        assert await names(place) == []

    async def test_lists_what_it_has(self, place: Place) -> None:
        await place.put(FILE, b"a picture")
        await place.put(OTHER, b"note")
        found = {entry.key: entry.size_bytes async for entry in place.entries()}
        assert found == {FILE: 9, OTHER: 4}
        assert all([-60 < entry.age_seconds < 600 async for entry in place.entries()])

    async def test_sets_a_file_aside_without_destroying_it(self, place: Place) -> None:
        aside = f"damaged/{FILE.rpartition('/')[2]}"
        for content in (b"damaged", b"damaged again"):
            await place.put(FILE, content)
            await place.set_aside(FILE)
            assert await place.size(FILE) is None
            found = [(entry.name, entry.key, entry.size_bytes) async for entry in place.entries()]
            assert found == [(aside, None, len(content))]

    async def test_takes_no_key_that_is_none(self, place: Place) -> None:
        await place.put(FILE, b"a picture")
        hostile = [
            "../../etc/passwd",
            "/etc/passwd",
            f"{FILE}/..",
            f"{SHELF}/ab/../../x",
            f"{FILE}\n",
            f"x{FILE}",
            "",
            f"{SHELF}/ab/" + "é" * 64,
        ]
        for key in hostile:
            with pytest.raises(ValueError, match="no key"):
                await place.put(Key(key), b"x")
            with pytest.raises(ValueError, match="no key"):
                await place.get(Key(key))
        assert await names(place) == [FILE]

    async def test_has_an_address_that_leads_back(self, place: Place) -> None:
        assert split(url_of(place, FILE)) == (place.base, FILE)
        assert key_of(*file_of(FILE)) == FILE


class TestAFolder:
    async def test_is_its_owners_alone(self, tmp_path: Path) -> None:
        await FolderPlace(tmp_path / "media").put(FILE, b"a picture")
        for path in (tmp_path / "media").rglob("*"):
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)

    async def test_syncs_what_it_writes_before_it_is_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        steps: list[str] = []
        fsync, replace = os.fsync, Path.replace

        def synced(descriptor: int) -> None:
            kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
            steps.append(f"sync {kind}")
            fsync(descriptor)

        def renamed(self: Path, target: Path) -> Path:
            steps.append("rename")
            return replace(self, target)

        place = FolderPlace(tmp_path / "media")
        await place.put(OTHER, b"makes the folders")
        monkeypatch.setattr(os, "fsync", synced)
        monkeypatch.setattr(Path, "replace", renamed)
        await place.put(key_of(SHELF, Sha256(b"\xcd" + b"\x01" * 31)), b"a picture")
        assert steps == ["sync file", "rename", "sync folder"]

    async def test_has_nothing_half_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        place = FolderPlace(tmp_path / "media")
        full = OSError(28, "No space left on device")

        def fails(_: int) -> None:
            raise full

        with monkeypatch.context() as failing:
            failing.setattr(os, "fsync", fails)
            with pytest.raises(PlaceUnavailable, match="No space left"):
                await place.put(FILE, b"a picture")
        assert await names(place) == []
        await place.put(FILE, b"a picture")
        assert await place.get(FILE) == b"a picture"

    async def test_tells_what_a_killed_write_has_left_from_a_file(self, tmp_path: Path) -> None:
        place = FolderPlace(tmp_path / "media")
        await place.put(FILE, b"a picture")
        (tmp_path / "media" / ".incoming" / "abc").write_bytes(b"a pic")
        (tmp_path / "media" / "readme.txt").write_text("mine")
        entries = {entry.name: entry async for entry in place.entries()}
        assert entries.keys() == {FILE, ".incoming/abc", "readme.txt"}
        assert [entry.name for entry in entries.values() if entry.key] == [FILE]
        assert {name for name, entry in entries.items() if is_leftover(entry)} == {".incoming/abc"}
        await place.discard(entries[".incoming/abc"])
        for hostile in ("readme.txt", ".incoming/../readme.txt"):
            with pytest.raises(ValueError, match="not left by a write"):
                await place.discard(Entry(name=hostile, key=None, size_bytes=4, age_seconds=0))
        assert await names(place) == [FILE, "readme.txt"]

    async def test_that_cannot_be_used_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(PlaceUnavailable, match=r"media folder .*file/media cannot be used"):
            await FolderPlace(tmp_path / "file" / "media").put(FILE, b"x")

    async def test_writes_beside_the_loop(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        threads: list[threading.Thread] = []
        fsync = os.fsync

        def synced(descriptor: int) -> None:
            threads.append(threading.current_thread())
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", synced)
        await FolderPlace(tmp_path / "media").put(FILE, b"x")
        assert threads
        assert threading.main_thread() not in threads


class TestAnS3Store:
    async def test_with_the_wrong_keys_says_so_and_shows_none(self, s3: str) -> None:
        place = bucket(s3, "bucket", secret="another")
        with pytest.raises(PlaceUnavailable, match="refuses the keys") as refused:
            await place.put(FILE, b"x")
        assert "another" not in str(refused.value)

    async def test_that_is_not_there_is_unavailable(self) -> None:
        with pytest.raises(PlaceUnavailable, match=r"http://127\.0\.0\.1:9/bucket cannot be used") as refused:
            await bucket("http://127.0.0.1:9", "bucket").size(FILE)
        assert "\n" not in str(refused.value)

    @pytest.mark.parametrize(
        "url", ["s3://", "http://127.0.0.1:9", "http://key:secret@127.0.0.1:9/bucket", "s3://bucket?x=1"]
    )
    def test_without_a_bucket_or_with_keys_in_its_address_is_refused(self, url: str) -> None:
        with pytest.raises(PlaceRefused, match="should be s3://bucket/prefix") as refused:
            S3Place(url, Media())
        assert "secret@" not in str(refused.value)

    def test_without_its_library_says_how_to_get_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(sys.modules, "bot.media.s3")
        monkeypatch.setitem(sys.modules, "obstore", None)
        tenants = [{"instance_name": "shop", "owner": "+5511999990000"}]
        config = Config.model_validate({"tenants": tenants, "media": {"url": "s3://bucket"}})
        with pytest.raises(PlaceRefused, match=r"pip install 'sidestep\[s3\]'"):
            Shelf(config)
