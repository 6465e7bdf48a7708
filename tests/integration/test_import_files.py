"""Archives, JSON lines, and files that mean harm: each ends in a clear message, and the store is unharmed."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.importing.jsonlines import MessageLine, read_line, write_line
from storage.database import Database
from storage.models import Channel, MessageType
from tests.integration.import_world import ImportWorld
from tests.integration.store_world import ANA, NOW, World, said, typed

CHAT = (
    "13/01/2026, 10:00 - Ana: IMG-20260113-WA0001.jpg (file attached)\nour shop\n"
    "13/01/2026, 10:01 - Dona: nice\n"
)
PICTURE = b"\xff\xd8\xff" + bytes(500)


@pytest.fixture
async def place(rollback_db: Database, tmp_path: Path) -> ImportWorld:
    return ImportWorld(world=await World.open(rollback_db), folder=tmp_path)


def packed(entries: dict[str, bytes | str], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return stream.getvalue()


class TestArchive:
    @pytest.mark.parametrize("inner", ["WhatsApp Chat with Ana.txt", "_chat.txt"])
    async def test_its_chat_is_imported(self, place: ImportWorld, inner: str) -> None:
        await place.world.record(said("L1", by=ANA, push_name="Ana"))
        content = packed(
            {inner: CHAT, "IMG-20260113-WA0001.jpg": PICTURE, "notes.txt": "a text somebody sent"}
        )
        if inner != "_chat.txt":
            content = packed({inner: CHAT, "IMG-20260113-WA0001.jpg": PICTURE})
        report = await place.bring(content, "WhatsApp Chat - Ana.zip", chat=None, me=())
        assert (report.refused, report.tally.new) == (None, 2)
        picture = next(r for r in await place.rows() if r["type"] == "image")
        assert picture["text"] == "our shop"
        assert picture["metadata"]["media"] == {"name": "IMG-20260113-WA0001.jpg", "size_bytes": len(PICTURE)}
        # The same chat without media is the same.
        assert (await place.bring("13/01/2026, 10:00 - Ana: <Media omitted>\nour shop\n")).tally.known == 1

    async def test_nothing_of_it_is_written_anywhere(self, place: ImportWorld) -> None:
        names = ("../../escaped.jpg", "/etc/escaped.jpg", "..\\escaped.jpg", "C:\\escaped.jpg")
        content = packed({"chat.txt": CHAT, **dict.fromkeys(names, PICTURE)})
        before = set(place.folder.parent.rglob("*"))
        report = await place.bring(content, "chat.zip")
        assert report.tally.new == 2
        assert set(place.folder.parent.rglob("*")) - before == {place.folder / "chat.zip"}

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (packed({"inner.zip": packed({"chat.txt": CHAT})}), "another archive: unpack it"),
            (packed({"a.jpg": PICTURE}), "no chat is in the archive"),
            (packed({"a.txt": CHAT, "b.txt": CHAT}), "several chats"),
            (packed({"chat.txt": CHAT})[:-30], "broken archive"),
            (packed({"chat.txt": b"\x89PNG\x00"}), "line 1"),
            (packed({}), "no chat is in the archive"),
            (b"PK\x03\x04" + bytes(100), "broken archive"),
        ],
        ids=["zip in a zip", "no chat", "two chats", "cut off", "binary", "empty", "no archive"],
    )
    async def test_what_is_no_export_is_refused(self, place: ImportWorld, content: bytes, words: str) -> None:
        report = await place.bring(content, "chat.zip")
        assert words in str(report.refused)
        assert await place.is_untouched()

    async def test_a_bomb_is_refused_by_what_it_says_of_itself(self, place: ImportWorld) -> None:
        bomb = packed({"chat.txt": CHAT.encode() + b"a" * (9 << 20)})
        assert "more than 200 times" in str((await place.bring(bomb, "bomb.zip")).refused)
        many = packed({f"{n}.jpg": b"" for n in range(50)} | {"chat.txt": CHAT})
        assert "more than 10 files" in str(
            (await place.with_caps(entries=10).bring(many, "many.zip")).refused
        )
        place.with_caps(total_bytes=1 << 20)
        large = packed({"chat.txt": CHAT, "a.mp4": bytes(2 << 20)}, zipfile.ZIP_STORED)
        assert "larger than 1 MiB" in str((await place.bring(large, "large.zip")).refused)
        assert await place.is_untouched()

    async def test_a_bomb_that_lies_of_its_size_is_refused_while_it_is_read(self, place: ImportWorld) -> None:
        content = packed({"chat.txt": CHAT.encode() * 4000})
        assert "larger than 65536 bytes" in str(
            (await place.with_caps(text_bytes=1 << 16).bring(content, "a.zip")).refused
        )
        # The list of files says 100 bytes: more of them is not read, and their sum does not fit.
        lying = bytearray(content)
        at = lying.rfind(b"PK\x01\x02")
        lying[at + 24 : at + 28] = struct.pack("<I", 100)
        report = await place.with_caps().bring(bytes(lying), "lying.zip")
        assert report.refused is not None
        assert await place.is_untouched()

    async def test_a_list_of_files_without_end_is_not_read_into_memory(self, place: ImportWorld) -> None:
        content = bytearray(packed({"chat.txt": CHAT}))
        at = content.rfind(b"PK\x05\x06")
        content[at + 12 : at + 16] = struct.pack("<I", 1 << 30)
        assert "more than" in str((await place.bring(bytes(content), "chat.zip")).refused)

    async def test_an_encrypted_one_is_told(self, place: ImportWorld) -> None:
        content = bytearray(packed({"chat.txt": CHAT}))
        content[6] |= 1
        content[content.rfind(b"PK\x01\x02") + 8] |= 1
        assert "encrypted" in str((await place.bring(bytes(content), "chat.zip")).refused)

    async def test_a_broken_entry_leaves_the_store_as_it_was(self, place: ImportWorld) -> None:
        content = bytearray(packed({"chat.txt": CHAT * 50}))
        content[60] ^= 0xFF
        assert "broken" in str((await place.bring(bytes(content), "chat.zip")).refused)
        assert await place.is_untouched()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x7fELF\x02\x01\x01\x00" + bytes(range(256)) * 100, "line 2: the byte 0x80"),
        (CHAT.replace("nice", "ol\u00e1").encode("latin-1"), "Latin-1"),
        (CHAT.encode() + b"x" * (2 << 20), "line 4: it is longer"),
        (b"", "no message in it"),
        (b"hello\nworld\n", "no message in it"),
    ],
    ids=["binary", "Latin-1", "a line without end", "empty", "a text"],
)
async def test_what_is_no_export_is_refused_as_a_whole(
    place: ImportWorld, content: bytes, words: str
) -> None:
    report = await place.bring(content)
    assert words in str(report.refused)
    assert await place.is_untouched()


async def test_utf_16_is_read(place: ImportWorld) -> None:
    assert (await place.bring(CHAT.replace("nice", "olá").encode("utf-16"))).tally.new == 2


async def test_a_missing_file_is_told(place: ImportWorld) -> None:
    report = await place.importer().run(place.folder / "missing.txt")
    assert "cannot be read" in str(report.refused)
    assert "no file" in str((await place.importer().run(place.folder)).refused)


def as_lines(*values: dict[str, Any] | str) -> str:
    return "".join((v if isinstance(v, str) else json.dumps(v)) + "\n" for v in values)


def message(text: str = "hi", **more: object) -> dict[str, Any]:
    return {
        "chat": "+5511988880001",
        "from": "customer",
        "text": text,
        "sent_at": "2026-01-13T10:00:00Z",
        **more,
    }


class TestLines:
    async def test_each_line_is_a_message_of_its_conversation(self, place: ImportWorld) -> None:
        content = as_lines(
            message("hi", id="M1", chat_name="Ana"),
            message("hello", id="M2", **{"from": "owner"}),
            message("from 10", id="M3", **{"from": "bot"}, edited_at="2026-01-13T10:05:00Z"),
            message("👍", id="M4", type="reaction", reply_to="M3"),
            message("who?", id="M5", chat="120363000000000001@g.us", sender="+5511988880002", chat_name="Team"),
            message(id="M6", chat="c-17", channel="telegram", participant="@Eva", type="image", media_url="https://x.example/a.jpg"),
            {"kind": "chat", "chat": "+5511988880001"},
        )  # fmt: skip
        for new, known in ((6, 0), (0, 6)):
            report = await place.bring(content, "all.jsonl")
            assert (report.tally.new, report.tally.known, report.problems.told) == (new, known, [])
        rows = {r["external_id"]: r for r in await place.rows()}
        assert [rows[f"M{n}"]["author"] for n in range(1, 4)] == ["customer", "human", "bot"]
        assert [rows[f"M{n}"]["direction"] for n in range(1, 4)] == ["inbound", "outbound", "outbound"]
        assert rows["M3"]["edited_at"] == datetime(2026, 1, 13, 10, 5, tzinfo=UTC)
        assert rows["M6"]["media_url"] == "https://x.example/a.jpg"
        assert await place.world.count("reactions") == 1
        media = await place.world.db.fetchrow("SELECT status, url FROM sidestep.media")
        assert media is not None
        assert tuple(media) == ("stored", "https://x.example/a.jpg")
        chats = await place.world.db.fetch(
            "SELECT c.jid, c.channel, a.name AS account, c.name FROM sidestep.chats c JOIN sidestep.accounts a"
            " USING (tenant_id, account_id) ORDER BY chat_id"
        )
        assert [tuple(r) for r in chats] == [
            (ANA.jid, "whatsapp", "shop", None),
            ("120363000000000001@g.us", "whatsapp", "shop", "Team"),
            ("c-17", "telegram", "shop-telegram", None),
        ]
        # It is no number that the bot could serve.
        served = await place.world.tenants.accounts(place.world.tenant.tenant_id)
        assert [account.name for account in served] == ["shop"]

    async def test_an_id_that_was_heard_live_is_the_same_message(self, place: ImportWorld) -> None:
        await place.world.record(said("M1", "hi"), typed("M2", "hello"))
        report = await place.bring(
            as_lines(message("hi", id="M1"), message("hello", id="M2", **{"from": "owner"})), "all.jsonl"
        )
        assert (report.tally.new, report.tally.known) == (0, 2)

    async def test_lines_without_an_id_get_one_from_their_content(self, place: ImportWorld) -> None:
        content = as_lines(message("hi"), message("hi"), message("hi", sent_at="2026-01-13T10:01:00Z"))
        for new in (3, 0):
            assert (await place.bring(content, "all.jsonl")).tally.new == new

    async def test_what_is_wrong_is_told_line_by_line_and_costs_nothing_else(
        self, place: ImportWorld
    ) -> None:
        content = as_lines(
            message("good", id="M1"),
            "not json",
            "[1]",
            message(id="M2", chat="somebody"),
            message(id="M3", sent_at=5),
            message(id="M4", sent_at="2096-01-01T00:00:00Z"),
            message(id="M5", sent_at="2026-01-13T10:00:00"),
            message(id="M6", type="poem"),
            message(id="M7", colour="red"),
            message("a\0b", id="M8"),
            message(id="M9", type="reaction"),
            "",
            message("good too", id="M10"),
        )
        report = await place.bring(content, "all.jsonl")
        assert report.tally.new == 2
        assert [line.partition(":")[0] for line in report.problems.lines()] == [
            f"line {n}" for n in range(2, 12)
        ]
        assert not [line for line in report.problems.lines() if "poem" in line or "somebody" in line]

    @pytest.mark.parametrize(
        "end", [b"x" * (2 << 20), b"\xff", b"\0"], ids=["a line without end", "Latin-1", "binary"]
    )
    async def test_what_is_no_text_to_its_end_is_refused_before_its_beginning_is_recorded(
        self, place: ImportWorld, end: bytes
    ) -> None:
        report = await place.bring(as_lines(message()).encode() + end, "all.jsonl")
        assert "line 2" in str(report.refused)
        assert await place.is_untouched()

    async def test_of_many_problems_the_first_are_told(self, place: ImportWorld) -> None:
        report = await place.bring(as_lines(message("good"), *["{"] * 1000), "all.jsonl")
        assert report.problems.left_out == 1000
        assert len(report.problems.lines()) == 21
        assert report.problems.lines()[-1] == "… and 980 more"

    async def test_a_dry_run_makes_no_account(self, place: ImportWorld) -> None:
        report = await place.bring(as_lines(message(id="M6", channel="telegram")), "all.jsonl", dry=True)
        assert report.tally.new == 1
        assert await place.world.count("accounts") == 1
        assert await place.is_untouched()


async def test_what_the_database_refuses_costs_that_line_alone(db: Database, tmp_path: Path) -> None:
    place = ImportWorld(world=await World.open(db), folder=tmp_path)
    content = as_lines(
        *(message(f"hi {n}", id=f"M{n}") for n in range(6)), message(id="BAD", metadata={"a": "\0"})
    )
    report = await place.bring(content, "all.jsonl")
    assert (report.tally.new, report.problems.left_out) == (6, 1)
    assert report.problems.told[0].startswith("line 7: the database refuses it")


_texts = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=30)
_ids = st.text(st.characters(categories=("L", "N"), codec="utf-8"), min_size=1, max_size=20)
_times = st.datetimes(min_value=datetime(2010, 1, 1), max_value=datetime(2026, 3, 1), timezones=st.just(UTC))  # noqa: DTZ001


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.builds(
        MessageLine,
        channel=st.sampled_from(Channel),
        chat=_ids,
        id=st.none() | _ids,
        who=st.sampled_from(["customer", "owner", "bot"]),
        sender_name=st.none() | _texts,
        type=st.sampled_from([t for t in MessageType if t not in ("edit", "reaction")]),
        text=st.none() | _texts,
        sent_at=_times,
        edited_at=st.none() | _times,
        metadata=st.dictionaries(_ids, _texts | st.booleans() | st.none(), max_size=3),
    )
)
def test_what_is_written_as_json_lines_is_read_as_it_was(line: MessageLine) -> None:
    written = json.dumps(write_line(line), ensure_ascii=False)
    assert read_line(json.loads(written)) == line
    assert line.sent_at < NOW
