"""What becomes of a model's text on its way to WhatsApp."""

from __future__ import annotations

import pytest
from hypothesis import given as for_any
from hypothesis import strategies as st

from flows.ai.wording import finished, parted, tidied


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("We are **open** today", "We are *open* today"),
        ("# Hours\n9 to 18", "*Hours*\n9 to 18"),
        ("See [our shop](https://shop.example/a)", "See our shop: https://shop.example/a"),
        ("[staff] Sure, [Staff] yes", "Sure, yes"),
        ("a\n\n\n\nb\n", "a\n\nb"),
        ("2 ** 3 and *kept*", "2 ** 3 and *kept*"),
        ("a #1 shop", "a #1 shop"),
    ],
)
def test_markup_becomes_whatsapps(written: str, shown: str) -> None:
    assert tidied(written) == shown


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("We open. We close. And th", "We open. We close."),
        ("No end to it", "No end to it"),
        ("It costs 3.50 or mo", "It costs 3.50 or mo"),
        ("好的。我们", "好的。"),
        ("He said “yes.” Then", "He said “yes.”"),
        ("Done.", "Done."),
    ],
)
def test_an_answer_that_was_cut_off_ends_with_a_sentence(text: str, kept: str) -> None:
    assert finished(text) == kept


def test_a_short_text_is_one_part() -> None:
    assert parted("Hello. You.") == ["Hello. You."]


def test_a_long_text_is_parted_at_the_best_border() -> None:
    assert parted("aaa aaa.\n\nbbb. bbb\nccc", limit=12) == ["aaa aaa.", "bbb. bbb\nccc"]
    assert parted("One two. Three four. Five", limit=12) == ["One two.", "Three four.", "Five"]
    assert parted("aaaa bbbb cccc", limit=10) == ["aaaa bbbb", "cccc"]
    assert parted("a" * 25, limit=10) == ["a" * 10, "a" * 10, "a" * 5]
    assert parted("aaaaaa aaa. b", limit=10) == ["aaaaaa", "aaa. b"]
    assert parted("It costs 3.50 today", limit=11) == ["It costs", "3.50 today"]


def test_what_does_not_fit_is_left_out_at_a_sentences_end() -> None:
    parts = parted("One. " * 4000)
    assert len(parts) == 3
    assert all(part.endswith("One.") for part in parts)
    assert parted("One two. Three four. Five", limit=12, parts=1) == ["One two."]
    assert parted("One. two three four", limit=12, parts=1) == ["One."]


@for_any(
    st.text(min_size=1, max_size=400).map(str.strip).filter(bool), st.integers(min_value=1, max_value=60)
)
def test_parts_are_never_empty_too_long_or_too_many(text: str, limit: int) -> None:
    parts = parted(text, limit=limit)
    assert 1 <= len(parts) <= 3
    assert all(0 < len(part) <= limit for part in parts)
