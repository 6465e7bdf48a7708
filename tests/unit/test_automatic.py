"""Automatic texts: what matches a configured one, and how the owner says what a text is."""

from __future__ import annotations

import pytest

from bot.automatic import digest_of, pattern_of
from flows.contract import Automatic
from flows.registry import mistyped
from flows.words import words_of
from storage.models import Action, AutomaticText, ExternalId, TextId, Topic
from tests.unit.flow_world import NOW, OWN, MemoryReader, given, given_at_home


def matches(pattern: str, text: str) -> bool:
    return bool(pattern_of(pattern).fullmatch("".join(f"{word}\n" for word in words_of(text))))


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("Hello!", "hello"),
        ("Olá, obrigado!", "OLA obrigado"),
        ("Hello *, thank you", "Hello Ana Souza, thank you!"),
        ("Hello *, thank you", "hello thank you"),
        ("We are closed*", "We are closed until Monday. 🎄"),
        ("*closed*", "Sorry, we are closed now"),
        ("1+1 (sale)", "1 + 1 sale"),
    ],
)
def test_a_text_is_known_by_its_words(pattern: str, text: str) -> None:
    assert matches(pattern, text)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("Hello", "Hello Ana"),
        ("Hello *", "Othello Ana"),
        ("We are closed*", "Are we closed?"),
        ("*closed", "closed now"),
        ("a.c", "abc"),
    ],
)
def test_other_words_are_another_text(pattern: str, text: str) -> None:
    assert not matches(pattern, text)


def test_a_digest_is_the_same_for_the_same_words() -> None:
    assert digest_of("Olá,  mundo!") == digest_of("ola mundo")
    assert digest_of("ola mundo") != digest_of("olam undo")


TEXTS = (
    AutomaticText(text_id=TextId(5), text="Hello and welcome", is_automatic=True),
    AutomaticText(text_id=TextId(7), text="We are closed"),
)
READER = MemoryReader(automatic=TEXTS)


async def test_the_only_open_question_is_meant() -> None:
    result = await given_at_home("/automatic yes", reader=READER)
    assert result.effects == (Automatic(text_id=TextId(7), is_automatic=True),)
    assert "We are closed" in result.text


async def test_a_number_or_the_question_that_is_replied_to_names_the_text() -> None:
    result = await given_at_home("/automatic no 1", reader=READER)
    assert result.effects == (Automatic(text_id=TextId(5), is_automatic=False),)
    reader = MemoryReader(automatic=TEXTS, notices={ExternalId("Q"): (Topic(text_id=TextId(5)), NOW)})
    result = await given("/automatic no", chat=OWN, reader=reader, own_chat=True, reply_to="Q")
    assert result.effects == (Automatic(text_id=TextId(5), is_automatic=False),)


async def test_a_reply_to_what_is_not_known_yet_means_the_only_open_question() -> None:
    result = await given("/automatic no", chat=OWN, reader=READER, own_chat=True, reply_to="too new")
    assert result.effects == (Automatic(text_id=TextId(7), is_automatic=False),)


@pytest.mark.parametrize("said", ["/automatic no 3", "/automatic yes 0", "/automatic maybe"])
async def test_what_names_no_text_changes_nothing(said: str) -> None:
    result = await given_at_home(said, reader=READER)
    assert (result.effects, result.action) == ((), Action.COMMAND_REFUSED)


async def test_without_more_it_lists_what_is_known() -> None:
    result = await given_at_home("/automatic", reader=READER)
    assert result.text.splitlines()[1:] == [
        "1. “Hello and welcome”: automatic",
        "2. “We are closed”: not answered yet",
    ]
    assert "no text" in (await given_at_home("/automatic", reader=MemoryReader())).text


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        *(("/resum", "/resume"), ("/puase 2h", "/pause"), ("/Staus", "/status"), ("/pauses", "/pause")),
        *(
            (line, "/pause")
            for line in ("/pause-2h", "/pause2h", "//pause", "/ pause", "(/pause) 2h", "\u200f/puase")
        ),
        ("/resum\nplease", "/resume"),
    ],
)
def test_a_line_that_is_nearly_a_command_was_meant_as_one(line: str, meant: str) -> None:
    assert mistyped(line) == meant


@pytest.mark.parametrize("line", ["/ola", "/stop", "/stop.", "/resume", "resum", "/", "50/60", "/etc/hosts"])
def test_a_line_that_is_something_else_was_not(line: str) -> None:
    assert mistyped(line) is None
