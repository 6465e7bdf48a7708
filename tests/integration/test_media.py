"""Media for real: each file once, under the address of its content, however it was sent and whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import pytest

from bot.media.fetcher import MediaFetcher
from bot.media.keeper import Swept
from bot.media.places import PlaceUnavailable, split
from bot.metrics import Metrics
from bot.transports.base import Medium, NotConnected, TransportError
from storage.database import Database
from storage.media import MediaId, MediaStore
from storage.models import MessageType
from tests.conftest import until
from tests.integration.media_world import MEGABYTE, MediaWorld, png
from tests.integration.store_world import ANA, BEN, NOW, of_type

DAY = timedelta(days=1)
VOICE = b"OggS\x00\x02" + bytes(20) + b"\x01\x13OpusHead\x01\x01" + bytes(30)
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + bytes(100)


@pytest.fixture
async def media(db: Database, tmp_path: Path) -> AsyncIterator[MediaWorld]:
    async with MediaWorld.open(db, tmp_path / "media", max_size="1MB") as world:
        yield world


def at(media: MediaWorld, data: bytes) -> Path:
    """Where a file with this content lies."""
    name = sha256(data).hexdigest()
    return media.folder / media.shelf / name[:2] / name


async def rows(media: MediaWorld, table: str) -> int:
    return await media.world.count(table)


class TestWhatIsSent:
    async def test_a_picture_is_stored_under_its_hash_with_its_kind_size_and_thumbnail(
        self, media: MediaWorld
    ) -> None:
        picture = png()
        await media.receive("M1", picture)
        [row] = await media.media()
        assert (row["status"], row["mime"], row["size_bytes"]) == ("stored", "image/png", len(picture))
        assert (row["width"], row["height"]) == (400, 300)
        assert row["sha256"] == sha256(picture).digest()
        assert row["url"] == at(media, picture).as_uri()
        assert at(media, picture).read_bytes() == picture
        small = await media.keeper.read(row["thumbnail_url"])
        assert small.startswith(b"\xff\xd8\xff")
        assert len(small) < 20_000
        assert media.files() == sorted([at(media, picture), at(media, small)])

    @pytest.mark.parametrize(
        ("kind", "data", "mime"),
        [(MessageType.AUDIO, VOICE, "audio/ogg"), (MessageType.DOCUMENT, PDF, "application/pdf")],
    )
    async def test_a_voice_note_and_a_document_are_stored_whatever_their_sender_calls_them(
        self, media: MediaWorld, kind: MessageType, data: bytes, mime: str
    ) -> None:
        await media.receive("M1", data, kind=kind, name="../../../etc/cron.d/preços\0.pdf")
        [row] = await media.media()
        assert (row["status"], row["mime"], row["type"], row["thumbnail_url"]) == ("stored", mime, kind, None)
        assert row["name"] == "../../../etc/cron.d/preços�.pdf"
        assert media.files() == [at(media, data)]
        assert at(media, data).read_bytes() == data

    async def test_the_same_picture_sent_again_by_anybody_is_one_file(self, media: MediaWorld) -> None:
        picture = png()
        await media.receive("M1", picture)
        written = at(media, picture).stat().st_mtime_ns
        await media.receive("M2", picture)
        await media.receive("M3", picture, by=BEN, kind=MessageType.DOCUMENT)
        assert await media.statuses() == ["stored"] * 3
        assert len(media.files()) == 2
        assert await rows(media, "blobs") == 2
        assert at(media, picture).stat().st_mtime_ns == written

    async def test_many_at_once_of_one_file_leave_one_file(self, media: MediaWorld) -> None:
        picture, tenant_id = png(), media.world.tenant.tenant_id
        await media.world.record(*(media.sent(f"M{n}", picture) for n in range(20)))
        ids = [MediaId(row["media_id"]) for row in await media.media()]
        await asyncio.gather(*(media.keeper.keep(tenant_id, each, picture, NOW) for each in ids))
        assert len(media.files()) == 2
        assert await media.statuses() == ["stored"] * 20

    async def test_a_file_that_came_with_an_import_is_kept_once_however_often_it_is_imported(
        self, media: MediaWorld
    ) -> None:
        tenant_id, store = media.world.tenant.tenant_id, MediaStore(media.world.db)
        [past] = await media.world.record(of_type(MessageType.DOCUMENT, "M1"))
        whose = (tenant_id, past.message.chat_id, past.message.id, MessageType.DOCUMENT, NOW)
        media_id = await store.add(*whose)
        assert media_id is not None
        assert await store.add(*whose) == media_id
        await media.keeper.keep(tenant_id, media_id, PDF, NOW, name="list.pdf")
        assert await store.add(*whose) is None
        [row] = await media.media()
        assert (row["status"], row["mime"], row["name"]) == ("stored", "application/pdf", "list.pdf")

    async def test_a_file_that_was_lost_is_written_again_when_it_comes_again(self, media: MediaWorld) -> None:
        picture = png()
        await media.receive("M1", picture)
        at(media, picture).unlink()
        await media.receive("M2", picture)
        assert at(media, picture).read_bytes() == picture

    async def test_an_empty_file_is_a_file(self, media: MediaWorld) -> None:
        await media.receive("M1", b"", kind=MessageType.DOCUMENT)
        [row] = await media.media()
        assert (row["status"], row["size_bytes"]) == ("stored", 0)
        assert at(media, b"").read_bytes() == b""


class TestWhatGoesWrong:
    async def test_what_the_platform_keeps_no_longer_has_expired_and_is_not_asked_for_again(
        self, media: MediaWorld
    ) -> None:
        await media.receive("M1", None)
        await media.clock.advance(30 * DAY)
        await media.fetch()
        [row] = await media.media()
        assert (row["status"], row["error"]) == ("expired", "this platform keeps no such file")
        assert not media.folder.exists()

    async def test_what_is_too_large_has_failed(self, media: MediaWorld) -> None:
        await media.receive("M1", bytes(MEGABYTE), kind=MessageType.DOCUMENT)
        await media.receive("M2", bytes(MEGABYTE + 1), kind=MessageType.DOCUMENT)
        assert await media.statuses() == ["stored", "failed"]
        assert "1048577 bytes" in (await media.media())[1]["error"]

    async def test_what_fails_is_tried_less_and_less_often_and_then_given_up(
        self, media: MediaWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tries: list[timedelta] = []

        async def fails(_: str, *, most_bytes: int) -> Medium:
            tries.append(media.clock.now() - NOW)
            raise NotConnected("the media server answers 503")

        monkeypatch.setattr(media.transport, "download", fails)
        await media.receive("M1", png())
        while (due := await MediaStore(media.world.db).next_due_at(media.world.account)) is not None:
            assert await media.statuses() == ["pending"]
            await media.clock.advance(due - media.clock.now())
            await media.fetch()
        pauses = [after - before for before, after in pairwise(tries)]
        assert pauses == sorted(pauses)
        assert (len(tries), pauses[0], DAY < tries[-1] < 3 * DAY) == (9, timedelta(seconds=10), True)
        [row] = await media.media()
        assert (row["status"], row["error"]) == ("failed", "the media server answers 503")

    async def test_without_a_connection_nothing_is_tried_and_nothing_is_lost(self, media: MediaWorld) -> None:
        await media.transport.suspend()
        for _ in range(20):
            await media.receive("M1", png())
            await media.clock.advance(DAY)
        assert await media.statuses() == ["pending"]
        await media.transport.resume()
        await media.fetch()
        assert await media.statuses() == ["stored"]

    async def test_a_connection_that_breaks_during_it_is_no_attempt(
        self, media: MediaWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = media.transport.download

        async def breaks(_: str, *, most_bytes: int) -> Medium:
            await media.transport.suspend()
            raise NotConnected("not connected")

        with monkeypatch.context() as breaking:
            breaking.setattr(media.transport, "download", breaks)
            for _ in range(20):
                await media.receive("M1", png())
                await media.transport.resume()
        assert media.transport.download == whole
        await media.fetch()
        assert await media.statuses() == ["stored"]

    async def test_a_folder_that_cannot_be_written_costs_no_medium(self, media: MediaWorld) -> None:
        media.folder.write_text("in the way")
        await media.receive("M1", png())
        for _ in range(20):
            await media.clock.advance(DAY)
            await media.fetch()
        [row] = await media.media()
        assert row["status"] == "pending"
        assert "cannot be used" in row["error"]
        media.folder.unlink()
        await media.clock.advance(DAY)
        await media.fetch()
        assert await media.statuses() == ["stored"]

    @pytest.mark.parametrize("error", [TransportError("what is this?"), RuntimeError("a mistake of ours")])
    async def test_what_nobody_has_foreseen_stops_no_other_medium(
        self, media: MediaWorld, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        first = True
        download = media.transport.download

        async def fails_once(raw: str, *, most_bytes: int) -> Medium:
            nonlocal first
            if first:
                first = False
                raise error
            return await download(raw, most_bytes=most_bytes)

        monkeypatch.setattr(media.transport, "download", fails_once)
        await media.world.record(media.sent("M1", png(1)), media.sent("M2", png(2)))
        await media.fetch()
        assert sorted(await media.statuses()) == ["pending", "stored"]
        await media.clock.advance(timedelta(seconds=10))
        await media.fetch()
        assert await media.statuses() == ["stored", "stored"]

    async def test_what_is_no_longer_known_of_its_message_has_failed(self, media: MediaWorld) -> None:
        await media.world.record(media.sent("M1", png()))
        await media.world.db.execute("DELETE FROM sidestep.message_payloads")
        await media.fetch()
        assert await media.statuses() == ["failed"]


class TestTheWorker:
    async def test_fetches_what_it_is_woken_for_and_what_others_queue(self, media: MediaWorld) -> None:
        working = asyncio.create_task(media.fetcher.run())

        async def stored() -> bool:
            return await media.statuses() == ["stored"]

        await media.world.record(media.sent("M1", png()))
        media.fetcher.wake()
        try:
            await until(stored)
            await media.world.record(media.sent("M2", png(1)))  # and tells nobody

            async def both() -> bool:
                return await media.statuses() == ["stored", "stored"]

            await until(both)
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    async def test_fetches_nothing_where_that_is_switched_off_and_sweeps_all_the_same(
        self, media: MediaWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await media.receive("M1", png(1))
        await media.world.db.execute("DELETE FROM sidestep.media")
        await media.world.record(media.sent("M2", png(2)))
        monkeypatch.setattr("bot.media.fetcher._SWEEP_SECONDS", 0.0)
        idle = MediaFetcher(
            media.world.account, media.transport, media.world.db, media.keeper, media.clock, Metrics(),
            most_bytes=None,
        )  # fmt: skip
        working = asyncio.create_task(idle.run())
        try:

            async def swept() -> bool:
                return not media.files()

            await until(swept)
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
        assert await media.statuses() == ["pending"]

    async def test_goes_on_where_a_killed_one_was_cut_off(
        self, media: MediaWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = asyncio.Event()

        async def hangs(_: str, *, most_bytes: int) -> Medium:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError

        with monkeypatch.context() as hanging:
            hanging.setattr(media.transport, "download", hangs)
            await media.world.record(media.sent("M1", png()))
            working = asyncio.create_task(media.fetcher.step())
            await asked.wait()
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
        await media.fetch()
        assert await media.statuses() == ["pending"]
        await media.clock.advance(timedelta(seconds=10))
        await media.fetch()
        assert await media.statuses() == ["stored"]


class TestForgetting:
    async def test_a_chats_media_go_with_their_files_but_for_those_that_others_sent_too(
        self, media: MediaWorld
    ) -> None:
        shared, own = png(1), png(2)
        [first] = await media.world.record(media.sent("A1", shared))
        await media.world.record(media.sent("A2", own), media.sent("B1", shared, by=BEN))
        await media.fetch()
        tenant_id = media.world.tenant.tenant_id
        async with media.world.db.transaction() as connection:
            assert await MediaStore.forget(connection, tenant_id, first.message.chat_id) == 2
        assert await media.keeper.sweep(tenant_id) == Swept(removed=2)
        assert not at(media, own).exists()
        assert at(media, shared).exists()
        assert len(media.files()) == await rows(media, "blobs") == 2
        assert await media.keeper.sweep(tenant_id) == Swept()

    async def test_a_persons_media_go_wherever_they_were_sent(self, media: MediaWorld) -> None:
        await media.receive("A1", png(1))
        await media.receive("B1", png(2), by=BEN)
        contact_id = await media.world.db.fetchval(
            "SELECT contact_id FROM sidestep.contacts WHERE jid = $1", ANA.jid
        )
        tenant_id = media.world.tenant.tenant_id
        async with media.world.db.transaction() as connection:
            assert await MediaStore.forget_person(connection, tenant_id, contact_id) == 1
        await media.keeper.sweep(tenant_id)
        assert not at(media, png(1)).exists()
        assert at(media, png(2)).exists()

    async def test_what_is_erased_while_it_is_fetched_leaves_no_file(
        self, media: MediaWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        download = media.transport.download

        async def slow(raw: str, *, most_bytes: int) -> Medium:
            await media.world.db.execute("DELETE FROM sidestep.media")
            return await download(raw, most_bytes=most_bytes)

        monkeypatch.setattr(media.transport, "download", slow)
        await media.receive("M1", png())
        assert len(media.files()) == 2
        await media.keeper.sweep(media.world.tenant.tenant_id)
        assert media.files() == []
        assert await rows(media, "blobs") == 0

    async def test_a_file_that_cannot_be_removed_is_left_for_the_next_sweep(
        self, media: MediaWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await media.receive("M1", PDF, kind=MessageType.DOCUMENT)
        await media.world.db.execute("DELETE FROM sidestep.media")
        tenant_id = media.world.tenant.tenant_id

        async def fails(_: object, __: str) -> None:
            raise PlaceUnavailable("not now")

        with monkeypatch.context() as failing:
            failing.setattr("bot.media.shelf.Shelf.remove", fails)
            assert await media.keeper.sweep(tenant_id) == Swept(left=1)
        assert await media.keeper.sweep(tenant_id) == Swept(removed=1)
        assert (media.files(), await rows(media, "blobs")) == ([], 0)

    async def test_what_is_sent_again_while_it_is_swept_is_kept(self, media: MediaWorld) -> None:
        picture, tenant_id = png(), media.world.tenant.tenant_id
        for n in range(10):
            await media.receive(f"M{n}", picture)
            await media.world.db.execute("DELETE FROM sidestep.media")
            [again] = await media.world.record(media.sent(f"N{n}", picture))
            sweep = asyncio.create_task(media.keeper.sweep(tenant_id))
            await asyncio.gather(sweep, media.fetch())
            assert again.is_new
            [row] = await media.media()
            assert row["status"] == "stored"
            assert await media.keeper.read(row["url"]) == picture
            await media.keeper.sweep(tenant_id)
            assert await media.keeper.read(row["thumbnail_url"])
            assert split(row["url"])[0] == media.folder.as_uri()
            await media.world.db.execute("DELETE FROM sidestep.media")
