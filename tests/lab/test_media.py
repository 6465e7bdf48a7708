"""Media for real: what customers send lands in the folder, by the whole daemon with the real neonize."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias

import asyncpg
import pytest
from PIL import Image

from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from tests.conftest import connected, until
from tests.lab.machine import Machine

pytestmark = pytest.mark.lab

Rows: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

VOICE = b"OggS\x00\x02" + bytes(20) + b"\x01\x13OpusHead\x01\x01" + bytes(30)
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + bytes(100)
MEDIA = "SELECT * FROM sidestep.media_files ORDER BY media_id"


def picture() -> bytes:
    written = io.BytesIO()
    Image.effect_noise((640, 480), 50).convert("RGB").save(written, "JPEG")
    return written.getvalue()


@pytest.fixture
async def machine(lab: Lab, dsn: str, tmp_path: Path, owner: Owner) -> AsyncIterator[Machine]:
    """Linked to the owner's number; no daemon runs."""
    machine = Machine(lab, tmp_path / "machine", dsn)
    assert (await machine.scan(owner)).code == 0
    yield machine
    await machine.close()


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[Rows]:
    async with connected(dsn) as connection:
        yield connection


async def settled(database: Rows, *statuses: str) -> list[asyncpg.Record]:
    """The media, once they are that far."""

    async def so_far() -> bool:
        return [row["status"] for row in await database.fetch(MEDIA)] == list(statuses)

    await until(so_far, timeout=180)
    rows: list[asyncpg.Record] = await database.fetch(MEDIA)
    return rows


def path_of(url: str) -> Path:
    return Path(url.removeprefix("file://"))


async def test_a_picture_a_voice_note_and_a_document_land_in_the_folder(
    machine: Machine, database: Rows, customer: Customer
) -> None:
    photo = picture()
    async with machine.running():
        await customer.sends_image(photo, mimetype="text/html")
        await customer.sends_voice(VOICE)
        await customer.sends_media(
            "document", PDF, mimetype="image/png", filename="../../../../tmp/preços.pdf"
        )
        await customer.sends_image(photo)
        rows = await settled(database, *["stored"] * 4)
    for row, data in zip(rows, (photo, VOICE, PDF, photo), strict=True):
        assert (row["sha256"], row["size_bytes"]) == (sha256(data).digest(), len(data))
        assert path_of(row["url"]).read_bytes() == data
        assert path_of(row["url"]).name == sha256(data).hexdigest()
    assert [row["mime"] for row in rows] == ["image/jpeg", "audio/ogg", "application/pdf", "image/jpeg"]
    assert [row["name"] for row in rows] == [None, None, "../../../../tmp/preços.pdf", None]
    with Image.open(path_of(rows[0]["thumbnail_url"])) as small:
        assert small.size == (320, 240)
    assert rows[0]["url"] == rows[3]["url"], "the same picture, sent twice, is one file"
    files = [path for path in machine.home.rglob("*") if path.is_file()]
    assert {path_of(row["url"]) for row in rows} | {path_of(rows[0]["thumbnail_url"])} == set(files)

    checked = await machine.do("check", "--media")
    assert (checked.code, "4 files of media looked at" in checked.out) == (0, True), checked.out
    [told] = [json.loads(line) for line in (await machine.do("media", "status", "--json")).out.splitlines()]
    assert (told["tenant"], told["stored"], told["files"]) == ("shop", 4, 4)


async def test_killed_between_the_record_and_the_download_it_stores_the_file_after_the_restart(
    machine: Machine,
    database: Rows,
    lab: Lab,
    customer: Customer,
) -> None:
    photo = picture()
    process = await machine.start("run")
    assert process.stderr is not None
    log = asyncio.create_task(process.stderr.read())
    with lab.files.holding_downloads():
        await customer.sends_image(photo)
        await asyncio.wait_for(lab.files.asked.wait(), 180)
        await settled(database, "pending")
        process.kill()
        await log
        assert not (machine.home / "data" / "media").exists()
    async with machine.running():
        [row] = await settled(database, "stored")
    assert path_of(row["url"]).read_bytes() == photo
    assert (await machine.do("check", "--media")).code == 0


async def test_what_whatsapp_keeps_no_longer_ends_as_expired_until_its_user_asks_again(
    machine: Machine, database: Rows, lab: Lab, customer: Customer
) -> None:
    async with machine.running():
        with lab.files.failing_downloads(410):
            await customer.sends_image(picture())
            [row] = await settled(database, "expired")
        assert row["error"] == "WhatsApp keeps this file no longer"
        # What comes later is fetched before it, were that still to be fetched.
        await customer.sends_image(picture())
        await settled(database, "expired", "stored")
        again = await machine.do("media", "retry")
        assert again.out == "1 media will be asked for again while the daemon runs.\n", again.err
        await settled(database, "stored", "stored")


async def test_files_move_while_the_daemon_runs_and_a_damaged_one_is_fetched_again(
    machine: Machine, database: Rows, customer: Customer, tmp_path: Path
) -> None:
    async with machine.running():
        await customer.sends_voice(VOICE)
        [before] = await settled(database, "stored")
        moved = await machine.do("media", "move", "--to", str(tmp_path / "elsewhere"), "--remove")
        assert moved.code == 0, moved.err
        assert "1 files have moved" in moved.out
        [after] = await database.fetch(MEDIA)
        assert after["url"] == before["url"]
        assert not path_of(before["url"]).exists()
        lies = path_of(after["moved_url"])
        assert (tmp_path / "elsewhere" in lies.parents, lies.read_bytes()) == (True, VOICE)
        lies.write_bytes(b"?")
        checked = await machine.do("check", "--media")
        assert (checked.code, f"damaged: {lies.as_uri()}" in checked.out) == (1, True), checked.out
        repaired = await machine.do("check", "--media", "--repair")
        assert (repaired.code, "to be fetched again" in repaired.out) == (0, True), repaired.out
        [row] = await settled(database, "stored")
        assert path_of(row["moved_url"] or row["url"]).read_bytes() == VOICE
        assert (await machine.do("check", "--media")).code == 0
