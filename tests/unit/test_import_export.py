# ruff: noqa: E501 - what stands in an export is as long as it is
"""Exports are read as they were written, in every form; what WhatsApp adds of its own is told from what people say."""

from __future__ import annotations

import io
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.importing.errors import ImportRefused
from bot.importing.export import LONGEST_TEXT, Entry, Stray, entries
from bot.importing.order import DateOrder
from bot.importing.scan import MOST_SENDERS, scan
from bot.importing.stamps import INVISIBLE, read_stamp
from bot.importing.text import lines
from bot.importing.wording import Content, read_content
from storage.models import MessageType
from tests.unit.export_forms import FORMS, Form

NOW = datetime(2026, 3, 10, 14)  # noqa: DTZ001 - a phone's clock

_LETTERS = st.characters(
    codec="utf-8", categories=("L", "N", "P", "S", "Zs", "M"), exclude_characters="<>:\u200e\u200f"
)
_LINE = st.text(_LETTERS, max_size=40).map(lambda s: INVISIBLE.sub("", s))
_TEXT = st.lists(_LINE, min_size=1, max_size=4).map("\n".join).map(str.strip).filter(bool)
_NAMES = st.sampled_from(
    ["Ana", "Dona Padaria", "+55 11 98888-0001", "Бен", "محمد", "홍길동", "O'Neil (shop)", "~ Eva"]
)
_MOMENTS = st.datetimes(min_value=datetime(2012, 1, 1), max_value=NOW)  # noqa: DTZ001


@pytest.mark.parametrize("form", FORMS, ids=[form.name for form in FORMS])
@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])  # as is a busy machine
@given(said=st.lists(st.tuples(_MOMENTS, _NAMES, _TEXT), min_size=1, max_size=12))
def test_what_is_written_is_what_is_read(form: Form, said: list[tuple[datetime, str, str]]) -> None:
    said = [
        (at.replace(microsecond=0, second=at.second if form.seconds else 0), name, text)
        for at, name, text in sorted(said, key=lambda each: each[0])
        # What looks like the beginning of a message is one.
        if not any(isinstance(e, Entry) for e in entries(text.split("\n")))
    ]
    whole = "".join(form.write(*each) for each in said)
    read = list(entries(lines(io.BytesIO(whole.encode()))))
    if not said:
        assert read == []
        return
    assert form.order in scan(read, NOW).orders
    assert [
        (e.stamp.read(form.order), e.sender, read_content(e.text).text) for e in read if isinstance(e, Entry)
    ] == [(at, name.removeprefix("~ "), text) for at, name, text in said]


@pytest.mark.parametrize("form", FORMS, ids=[form.name for form in FORMS])
def test_the_order_of_dates_is_told_from_a_whole_conversation(form: Form) -> None:
    start = datetime(2025, 12, 20, 9)  # noqa: DTZ001
    written = "".join(form.write(start + timedelta(hours=7 * n), "Ana", f"message {n}") for n in range(60))
    assert scan(entries(written.splitlines()), NOW).orders == [form.order]


class TestOrder:
    def look(self, *written: str) -> list[DateOrder]:
        return scan(entries(written), NOW).orders

    def test_one_impossible_date_tells_it(self) -> None:
        assert self.look("01/02/2025, 10:00 - A: x", "02/13/2025, 10:00 - A: x") == [DateOrder.MDY]

    def test_what_goes_back_or_is_to_come_tells_it(self) -> None:
        assert self.look(
            "01/02/2025, 10:00 - A: x", "02/02/2025, 10:00 - A: x", "01/03/2025, 10:00 - A: x"
        ) == [DateOrder.DMY]
        assert self.look("01/12/2026, 10:00 - A: x") == [DateOrder.MDY]

    def test_the_name_of_a_picture_tells_it(self) -> None:
        assert self.look("03/04/2025, 10:00 - A: IMG-20250304-WA0001.jpg (file attached)") == [DateOrder.MDY]
        assert self.look(
            "[03/04/25, 10:00:01] A: \u200e<attached: 00000012-PHOTO-2025-04-03-10-00-01.jpg>"
        ) == [DateOrder.DMY]

    def test_nobody_writes_the_month_first_and_then_a_dot(self) -> None:
        assert self.look("03.04.2025, 10:00 - A: x") == [DateOrder.DMY]

    def test_where_all_orders_mean_the_same_it_does_not_matter(self) -> None:
        assert len(self.look("03/03/2025, 10:00 - A: x")) == 1

    def test_else_it_is_ambiguous(self) -> None:
        assert self.look("03/04/2025, 10:00 - A: x") == [DateOrder.DMY, DateOrder.MDY]


@pytest.mark.parametrize(
    ("written", "hour"),
    [
        ("1/2/2025, 12:05 AM", 0), ("1/2/2025, 12:05 PM", 12), ("1/2/2025, 1:05 p.m.", 13), ("1/2/2025 中午12:05", 12),
        ("1/2/2025 中午1:05", 13), ("1/2/2025 凌晨12:05", 0), ("1/2/2025 晚上9:05", 21), ("1/2/2025, 9:05 ÖS", 21),
        ("1/2/2025, 9:05 SA", 9), ("1.2.2025, 21:05 Uhr", 21), ("21:05, 1/2/2025", 21), ("1.2.2025 ip. 9.05", 21),
        ("१/२/२०२५, ९:०५ अपराह्न", 21), ("1/2/2568 21:05", 21), ("2025년 2월 1일 오후 9:05", 21), ("1/2/25, 9:05 ب.ظ.", 21),
    ],
)  # fmt: skip
def test_the_half_of_the_day_is_told_in_many_languages(written: str, hour: int) -> None:
    stamp = read_stamp(written)
    assert stamp is not None
    order = DateOrder.DMY if DateOrder.DMY in stamp.orders() else DateOrder.YMD
    assert stamp.read(order) == datetime(2025, 2, 1, hour, 5)  # noqa: DTZ001


@pytest.mark.parametrize(
    "written", ["", "1/2", "31/12/2025, 25:61", "31/12/2025, 9:05 xyzzy", "call 555 1234567 at 10:00"]
)
def test_what_is_no_time_is_none(written: str) -> None:
    assert read_stamp(written) is None


class TestGrammar:
    def read(self, *written: str) -> list[Entry | Stray]:
        return list(entries(written))

    def test_a_pasted_conversation_is_part_of_the_message(self) -> None:
        pasted = ("[31/12/25, 21:41:12] Ben: me too", "12/31/25, 9:41 PM - Ben: me too")
        [entry] = self.read("31/12/2025, 21:41 - Ana: look:", *pasted)
        assert isinstance(entry, Entry)
        assert entry.text == "\n".join(("look:", *pasted))

    @pytest.mark.parametrize(
        "note",
        [
            "Messages and calls are end-to-end encrypted.",
            'Ana created group "Party: 2025"',
            "Ana changed the subject from “A: x” to “B: y",
            "Your security code with Ana changed. Tap to learn more.",
        ],
    )
    def test_a_note_has_no_sender(self, note: str) -> None:
        [entry] = self.read(f"31/12/2025, 21:41 - {note}")
        assert isinstance(entry, Entry)
        assert entry.sender is None

    def test_koreas_own_form_is_read(self) -> None:
        [entry] = self.read("2025년 12월 31일 오후 9:41, 홍길동 : 안녕: 하세요")
        assert isinstance(entry, Entry)
        assert (entry.sender, entry.text) == ("홍길동", "안녕: 하세요")

    def test_lines_before_the_first_message_are_strays(self) -> None:
        assert self.read("an export", "", "31/12/2025, 21:41 - Ana: hi")[:1] == [Stray(1)]

    def test_an_empty_message_is_one(self) -> None:
        [entry] = self.read("31/12/2025, 21:41 - Ana:")
        assert isinstance(entry, Entry)
        assert (entry.sender, entry.text) == ("Ana", "")

    def test_a_message_without_end_is_cut_and_costs_no_memory(self) -> None:
        [entry] = list(entries(["31/12/2025, 21:41 - Ana: hi", *(["x" * 1000] * 1000)]))
        assert isinstance(entry, Entry)
        assert entry.is_cut
        assert len(entry.text) <= LONGEST_TEXT

    def test_a_million_senders_are_no_chat(self) -> None:
        written = (f"31/12/2025, 21:41 - Person {n}: hi" for n in range(1_000_000))
        with pytest.raises(ImportRefused, match=rf"line {MOST_SENDERS + 1}: more than"):
            scan(entries(written), NOW)

    def test_a_file_without_a_message_is_refused(self) -> None:
        with pytest.raises(ImportRefused, match="no message in it"):
            scan(entries(["hello", "world"]), NOW)


def image(text: str | None = None, file: str | None = None) -> Content:
    return Content(text=text, type=MessageType.IMAGE, file=file)


@pytest.mark.parametrize(
    ("written", "content"),
    [
        *[
            (mark, Content(text=None, type=MessageType.UNKNOWN))
            for mark in (
                "<Media omitted>", "<Mídia oculta>", "<Multimedia omitido>", "<Archivo omitido>", "<Medien ausgeschlossen>",
                "<Médias omis>", "<Media omessi>", "<Media weggelaten>", "<Без медиафайлов>", "<Файл пропущен>",
                "<Medya dahil edilmedi>", "<Media tidak disertakan>", "<省略多媒体文件>", "<メディアは含まれていません>",
                "<미디어 파일 제외됨>", "<המדיה לא נכללה>", "<تم استبعاد الوسائط>", "<pominięto multimedia>",
            )
        ],
        ("<Media omitted>\nour shop", Content(text="our shop", type=MessageType.UNKNOWN)),
        ("\u200eIMG-20251231-WA0001.jpg (file attached)\nour shop", image("our shop", "IMG-20251231-WA0001.jpg")),
        ("IMG-20251231-WA0001.jpg (arquivo anexado)", image(None, "IMG-20251231-WA0001.jpg")),
        ("IMG-20251231-WA0001.jpg (in words nobody knows)", image(None, "IMG-20251231-WA0001.jpg")),
        ("\u200e<attached: 00000012-PHOTO-2025-12-31-21-41-12.jpg>", image(None, "00000012-PHOTO-2025-12-31-21-41-12.jpg")),
        ("our shop \u200e<adjunto: 00000012-PHOTO-2025-12-31-21-41-12.jpg>", image("our shop", "00000012-PHOTO-2025-12-31-21-41-12.jpg")),
        ("PTT-20251231-WA0003.opus (file attached)", Content(text=None, type=MessageType.AUDIO, file="PTT-20251231-WA0003.opus")),
        ("price list.pdf (Datei angehängt)", Content(text=None, type=MessageType.DOCUMENT, file="price list.pdf")),
        ("Ana.vcf (file attached)", Content(text=None, type=MessageType.CONTACT, file="Ana.vcf")),
        *[
            (f"\u200e{mark}", image())
            for mark in (
                "image omitted", "imagem ocultada", "imagen omitida", "Bild weggelassen", "image absente", "immagine omessa",
                "afbeelding weggelaten", "изображение отсутствует", "忽略图片", "이미지 생략됨",
            )
        ],
        ("our shop \u200eimage omitted", image("our shop")),
        ("\u200eGIF omitted", Content(text=None, type=MessageType.VIDEO)),
        ("\u200efigurinha omitida", Content(text=None, type=MessageType.STICKER)),
        *[
            (mark, Content(text=None, type=MessageType.REVOKE, deleted=True))
            for mark in (
                "This message was deleted", "\u200eYou deleted this message.", "Essa mensagem foi apagada",
                "Eliminaste este mensaje.", "Diese Nachricht wurde gelöscht.", "Vous avez supprimé ce message",
                "Questo messaggio è stato eliminato", "Данное сообщение удалено", "Bu mesaj silindi", "此消息已删除",
                "このメッセージは削除されました", "삭제된 메시지입니다", "הודעה זו נמחקה", "تم حذف هذه الرسالة",
            )
        ],
        *[
            (f"at nine {mark}", Content(text="at nine", edited=True))
            for mark in (
                "<This message was edited>", "\u200e<This message was edited>", "<Mensagem editada>", "<Se editó este mensaje.>",
                "<Diese Nachricht wurde bearbeitet.>", "<Ce message a été modifié>", "<已编辑此消息>",
            )
        ],
        ("location: https://maps.google.com/?q=-23.5,-46.6", Content(
            text="location: https://maps.google.com/?q=-23.5,-46.6", type=MessageType.LOCATION)),
        ("POLL:\nWhen?\nOPTION: now (\u200e2 votes)\nOPTION: later (1 vote)", Content(
            text="POLL:\nWhen?\nOPTION: now (2 votes)\nOPTION: later (1 vote)", type=MessageType.POLL)),
        ("\u200eMissed voice call", Content(text="Missed voice call", by_whatsapp=True)),
    ],
)  # fmt: skip
def test_whatsapps_own_words_are_told_from_peoples(written: str, content: Content) -> None:
    assert read_content(written) == content


@pytest.mark.parametrize(
    "written",
    ["<b>", "image omitted", "a <b> c", "see (file attached)", "use <edit this>", "This message was deleted, I think",
     "notes.md (my own words)", "<a: b.c>", "POLL:\nno options", "@\u2068Ana\u2069 hi"],
)  # fmt: skip
def test_what_people_write_stays_what_it_is(written: str) -> None:
    assert read_content(written) == Content(text=INVISIBLE.sub("", written))


def test_a_file_of_the_archive_is_one_in_any_language() -> None:
    assert read_content("notes.md (zzz)", frozenset({"notes.md"})).file == "notes.md"
    assert read_content("\u200e<zzz: 12-notes.md>", frozenset({"12-notes.md"})).file == "12-notes.md"


class TestLines:
    def test_a_line_of_a_gigabyte_is_refused_at_the_cap(self) -> None:
        class Endless:
            given = 0

            def read(self, size: int = -1, /) -> bytes:
                self.given += size
                assert self.given < 1 << 30
                return b"a" * size

        with pytest.raises(ImportRefused, match="line 1: it is longer"):
            list(lines(stream := Endless()))
        assert stream.given < 4 << 20

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    def test_any_unicode_is_read(self, encoding: str) -> None:
        text = "olá 🍰\r\n\r\nдва\u2028three\n"
        whole = io.BytesIO((text * 5000).encode(encoding))
        assert list(lines(whole)) == ["olá 🍰", "", "два\u2028three"] * 5000

    def test_big_endian_is_read_too(self) -> None:
        assert list(lines(io.BytesIO(b"\xfe\xff" + "olá\nyes".encode("utf-16-be")))) == ["olá", "yes"]

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("one\nolá\n".encode("latin-1"), "line 2: the byte 0xe1 is not UTF-8"),
            (b"one\ntwo\nthr\x00e", "line 3: .*binary"),
            (b"\x89PNG\r\n\x1a\n\x00\x00", "line 1: the byte 0x89"),
            ("hi".encode("utf-16-le"), "line 1: .*binary"),
            (b"\xff\xfeh\x00i", "line 1: the byte"),
        ],
    )
    def test_what_is_no_text_is_told_with_its_place(self, content: bytes, words: str) -> None:
        with pytest.raises(ImportRefused, match=words):
            list(lines(io.BytesIO(content)))
