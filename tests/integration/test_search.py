"""Search: words of any language, with or without their accents, month by month, and nobody else's."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.database import Database
from storage.models import MessageType, TenantId
from storage.reading.models import Excerpt, Find, Page
from storage.reading.search import SearchReads, excerpt_of
from tests.integration.store_world import ANA_BOTH, ANA_LID, BEN, NOW, SHOP, World, said


@pytest.fixture
async def world(rollback_db: Database) -> World:
    return await World.open(rollback_db)


NEWEST = 0


@pytest.fixture(autouse=True, params=[0, 2, 1_000], ids=["by index", "by both", "one by one"])
def newest(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever way a message is found, it is the same one."""
    monkeypatch.setattr(sys.modules[__name__], "NEWEST", request.param)


def search(world: World) -> SearchReads:
    return SearchReads(world.db, world.tenant.tenant_id, NEWEST)


def texts(page: Page[Find]) -> list[str | None]:
    return [find.entry.message.text for find in page.items]


def marked(excerpt: Excerpt) -> list[str]:
    return [excerpt.text[a:b] for a, b in excerpt.marks]


async def tell(world: World, *words: str) -> None:
    for n, text in enumerate(words):
        await world.record(said(f"M-{n}", text), now=NOW + timedelta(minutes=n))


LANGUAGES = [
    ("Olá, quanto é a AÇÃO?", "acao", ["AÇÃO"]),
    ("Ola, quanto e a acao?", "ação", ["acao"]),
    ("¿Cuánto cuesta? ¡Dígame!", "cuanto", ["Cuánto"]),
    ("Straße und Brücke", "strasse", ["Straße"]),
    ("Привет, сколько стоит торт?", "ТОРТ", ["торт"]),
    ("Καλημέρα σας", "καλημερα", ["Καλημέρα"]),
    ("我想买一个巧克力蛋糕，周日可以送吗？", "蛋糕", ["蛋糕"]),
    ("チョコレートケーキはありますか", "ケーキ", ["ケーキ"]),
    ("อยากได้เค้กช็อกโกแลต", "เค้ก", ["เค้ก"]),
    ("초콜릿 케이크 있어요?", "케이크", ["케이크"]),
    ("مَرْحَبًا كم سعر الكعكة؟", "مرحبا", []),
    ("שָׁלוֹם, כמה עולה עוגה?", "שלום", []),
    ("नमस्ते, केक कितने का है?", "केक", ["केक"]),
    ("Xin chào, bánh sô cô la giá bao nhiêu?", "banh", ["bánh"]),
    ("so good 🎂🎂 “chocolate”…", "chocolate", ["chocolate"]),
    ("write to ana@shop.example or call 555-0100", "ana@shop.example", ["ana@shop.example"]),
]


@pytest.mark.parametrize(("text", "query", "marks"), LANGUAGES)
async def test_a_word_of_any_language_is_found_and_shown(
    world: World, text: str, query: str, marks: list[str]
) -> None:
    await tell(world, "something else", text)
    found = search(world)
    if not await found.folds_accents():
        pytest.skip("this server has no unaccent")
    [find] = (await found.search_messages(query)).items
    assert find.entry.message.text == text
    assert all(any(word in mark for mark in marked(find.excerpt)) for word in marks)
    assert find.excerpt.text in text


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("chocolate", ["a chocolate cake", "hot chocolate"]),
        ("chocolate cake", ["a chocolate cake"]),
        ('"chocolate cake"', ["a chocolate cake"]),
        ('"cake chocolate"', []),
        ("chocolate -cake", ["hot chocolate"]),
        ("tea OR cake", ["a chocolate cake", "green tea"]),
        ("tea OR cake chocolate", ["a chocolate cake"]),
        ("choc", []),
        ("choc*", ["a chocolate cake", "hot chocolate"]),
        ('"hot choc', []),
        ("OR", []),
        ("-tea", []),
        ("?!", []),
        ("", []),
        ("T1", []),
        ("C1", []),
        ("a:* | b", []),
        ("'", []),
    ],
)
async def test_people_ask_as_they_do_elsewhere(world: World, query: str, found: list[str]) -> None:
    await tell(world, "green tea", "hot chocolate", "a chocolate cake")
    assert texts(await search(world).search_messages(query)) == found


async def test_what_asks_for_nothing_is_told_apart_from_what_finds_nothing(world: World) -> None:
    found = search(world)
    assert await found.is_asked("cake")
    assert not any([await found.is_asked(q) for q in ("", " ", "?", "-cake", "OR", '""')])


async def test_what_reads_otherwise_now_is_found_as_it_reads_now(world: World) -> None:
    await tell(world, "old cake", "gone cake", "kept cake")
    await world.record(
        said("E", "new bread", type=MessageType.EDIT, reply_to="M-0"),
        said("R", None, type=MessageType.REVOKE, reply_to="M-1"),
        said("X", "cake", type=MessageType.REACTION, reply_to="M-2"),
    )
    await world.queue(await world.meet(), "a cake that was never said")
    await world.pause(await world.meet())
    found = search(world)
    assert texts(await found.search_messages("cake")) == ["kept cake"]
    assert texts(await found.search_messages("bread")) == ["new bread"]


async def test_it_goes_back_month_by_month_and_page_by_page(world: World) -> None:
    moments = [NOW - timedelta(days=31 * n) for n in range(4)]
    past = [said(f"P-{n}", f"cake {n}", at=at) for n, at in enumerate(moments)]
    assert await world.record_past(*past, said("P-X", "bread", at=moments[2])) == 5
    found = search(world)
    first = await found.search_messages("cake", limit=3)
    assert texts(first) == ["cake 0", "cake 1", "cake 2"]
    assert texts(await found.search_messages("cake", limit=3, before=first.next)) == ["cake 3"]
    assert texts(await found.search_messages("cake", since=moments[1])) == ["cake 0", "cake 1"]


async def test_a_chats_search_finds_nothing_of_another_also_after_two_became_one(world: World) -> None:
    await world.record(said("1", "the cake"), said("2", "another cake", by=BEN))
    await world.record(said("3", "by the other name, a cake", by=ANA_LID), now=NOW + timedelta(minutes=1))
    chat, ben, found = await world.meet(), await world.meet(BEN), search(world)
    assert texts(await found.search_messages("cake", chat)) == ["the cake"]
    gone = await world.meet(ANA_LID)
    await world.meet(ANA_BOTH)
    both = ["by the other name, a cake", "the cake"]
    assert texts(await found.search_messages("cake", chat)) == both
    assert texts(await found.search_messages("cake", gone)) == both
    assert texts(await found.search_messages("cake", ben)) == ["another cake"]


async def test_another_tenants_words_are_never_found(world: World) -> None:
    other = await World.open(world.db, replace(SHOP, instance_name="other"))
    await world.record(said("1", "our cake"))
    await other.record(said("1", "their cake"))
    chat = await world.meet()
    assert texts(await search(world).search_messages("cake")) == ["our cake"]
    assert texts(await search(other).search_messages("cake")) == ["their cake"]
    assert texts(await search(other).search_messages("cake", chat)) == []
    assert texts(await SearchReads(world.db, TenantId(99)).search_messages("cake")) == []


async def test_no_text_is_too_long_or_too_strange_to_be_recorded(world: World) -> None:
    strange: Sequence[str] = (
        "cake " + "x" * 2_000_000,
        " ".join(f"word{n}" for n in range(100_000)),
        "-a" * 100_000,
        "\x02\x1f\x03 cake",
        "蛋" * 100_000,
    )
    recorded = await world.record(*(said(f"S-{n}", text) for n, text in enumerate(strange)))
    assert [r.is_new for r in recorded] == [True] * len(strange)
    [broken, long] = (await search(world).search_messages("cake")).items
    assert marked(broken.excerpt) == ["cake"]
    assert "\x02" not in broken.excerpt.text
    assert len(long.excerpt.text) < 200


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=30)
)
async def test_no_query_breaks_it(world: World, text: str) -> None:
    await search(world).search_messages(text)
    await search(world).search_messages(text + "\x00")


def test_a_long_text_is_shown_around_its_first_word() -> None:
    shown = excerpt_of("before " * 30 + "the \x02cake\x03 " + "after " * 60 + "\x02cake\x03")
    assert shown.text.startswith("before before")
    assert shown.text.endswith("after")
    assert marked(shown) == ["cake"]
    assert (shown.has_before, shown.has_after, len(shown.text) < 170) == (True, True, True)
    unparted = excerpt_of("蛋" * 100 + "\x02糕\x03" + "蛋" * 200)
    assert (marked(unparted), len(unparted.text)) == (["糕"], 160)


def test_marks_that_touch_become_one() -> None:
    assert excerpt_of("a \x1f\x02b\x03\x1f\x1f\x02c\x03\x1f d \x02e\x03") == Excerpt(
        text="a bc d e", marks=((2, 4), (7, 8))
    )
