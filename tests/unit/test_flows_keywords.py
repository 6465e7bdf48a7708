"""Keyword answers: what matches what, in which script, and what is said when nothing does."""

from __future__ import annotations

import pytest

from flows.errors import ConfigError
from flows.keywords import KeywordFlow, KeywordRule
from flows.words import words_of
from storage.models import Action, MessageType
from tests.unit.flow_world import outcome_of, said, turn


def matches(keyword: str, text: str) -> bool:
    return KeywordFlow([KeywordRule(match=(keyword,), answer="Yes.")]).knows(text)


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("price", "What is the PRICE?"),
        ("price", "*price*"),
        ("price", "_price_, please"),
        ("price", "price…"),
        ("how much", "Oi, how  much is it"),
        ("how much", "how\nmuch"),
        ("preço", "qual o PRECO?"),
        ("preco", "qual o preço?"),
        ("Öffnungszeiten", "oeffnungszeiten offnungszeiten"),
        ("straße", "STRASSE 5"),
        ("fiyat", "FİYAT nedir"),
        ("ışık", "isik"),
        ("łódź", "lodz"),
        ("ёлка", "ЕЛКА есть?"),
        ("τιμή", "ΤΙΜΗ;"),
        ("price", "pri\u200bce"),
        ("price", "ｐｒｉｃｅ"),
        ("café", "cafe\u0301"),
        ("24/7", "open 24/7?"),
        ("what's new", "What’s new?"),
        ("€", "5€?"),
        ("👍", "ok👍🏽!"),
        ("❤", "❤️"),
    ],
)
def test_case_accents_and_punctuation_do_not_matter(keyword: str, text: str) -> None:
    assert matches(keyword, text)


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("price", "priceless"),
        ("price", "misprice"),
        ("price", "prices"),
        ("how much", "how very much"),
        ("how much", "much how"),
        ("5", "15"),
        ("price", ""),
        ("price", "?!"),
        ("€", "5 euros"),
    ],
)
def test_a_word_matches_as_a_whole(keyword: str, text: str) -> None:
    assert not matches(keyword, text)


@pytest.mark.parametrize(
    ("keyword", "text", "does"),
    [
        ("كتاب", "كِتَاب", True),  # vowel points are optional
        ("السعر", "السعـــر؟", True),  # a stretched letter
        ("أسعار", "اسعار", True),  # hamza left out in a hurry
        ("שלום", "שָׁלוֹם", True),
        ("कीमत", "कीमत क्या है?", True),
        ("की", "कि", False),  # vowel signs are sounds
        ("कल", "कला", False),
        ("मत", "कीमत", False),  # Devanagari has spaces
        ("ราคา", "ขอทราบราคาหน่อย", True),
        ("กา", "กี", False),
        ("价格", "请问价格多少", True),
        ("价格", "格价", False),
        ("iPhone价格", "新iphone价格？", True),
        ("か", "が", False),  # a voiced sign is another sound
        ("カード", "ｶｰﾄﾞで払えますか", True),
        ("가격", "가격이 얼마예요", True),  # particles stick to the word
        ("가격", "가위", False),
        ("ราคา", "ราค", False),
    ],
)
def test_every_script_by_its_own_rules(keyword: str, text: str, does: bool) -> None:
    assert matches(keyword, text) is does


def test_signs_with_their_marks_are_one_word() -> None:
    assert words_of("ที่ ok・価格") == ("ที่", "ok", "価", "格")


FLOW = KeywordFlow(
    [
        KeywordRule(match=("price list", "catalogue"), answer="Here is the list."),
        KeywordRule(match=("price",), answer="From 10."),
    ],
    default="Thanks, we will write soon.",
)


@pytest.mark.parametrize(
    ("text", "answer", "detail"),
    [
        ("the price list", "Here is the list.", "price list"),
        ("price of the catalogue", "Here is the list.", "catalogue"),
        ("price?", "From 10.", "price"),
        ("hello", "Thanks, we will write soon.", "default"),
    ],
)
async def test_the_first_rule_answers_else_the_default(text: str, answer: str, detail: str) -> None:
    result = await outcome_of(FLOW, turn(text))
    assert (result.text, result.action, result.detail) == (answer, Action.KEYWORD_REPLIED, detail)
    assert not result.replies[0].unfenced


async def test_a_burst_is_one_text() -> None:
    assert (await outcome_of(FLOW, turn("hi", "price?"))).text == "From 10."


async def test_an_empty_default_is_silence() -> None:
    result = await outcome_of(KeywordFlow([]), turn("hello"))
    assert (result.replies, result.action) == ((), Action.IGNORED_UNSUPPORTED)


async def test_a_picture_without_words_gets_the_default() -> None:
    result = await outcome_of(FLOW, turn(said(None, kind=MessageType.IMAGE)))
    assert result.detail == "default"


@pytest.mark.parametrize(
    ("rule", "named"),
    [
        (KeywordRule(match=("?",), answer="Yes."), "'?'"),
        (KeywordRule(match=(), answer="Yes."), "nothing to match"),
        (KeywordRule(match=("price",), answer=" "), "answer is empty"),
    ],
)
def test_a_rule_that_could_never_answer_is_refused_by_its_place(rule: KeywordRule, named: str) -> None:
    good = KeywordRule(match=("a",), answer="b")
    with pytest.raises(ConfigError, match=r"rule 2") as caught:
        KeywordFlow([good, rule])
    assert named in str(caught.value)
