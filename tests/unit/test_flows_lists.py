"""What /search, /stats and /failed tell the staff, and how their pages are turned."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from storage.models import Action, Author, Direction, MessageType
from storage.reading.models import Stats, Tally
from tests.unit.flow_world import ANA, BEN, NOW, MemoryReader, chat, given, given_at_home, said


def from_ben(text: str) -> object:
    return replace(said(text), chat_id=BEN.chat_id)


SEVEN = MemoryReader(messages=[said(f"cake number {n}") for n in range(7)])
BOTH = MemoryReader(messages=[said("Ana's cake"), from_ben("Ben's cake")])  # type: ignore[list-item]  # a Message


async def test_in_a_customers_chat_the_words_are_looked_for_there() -> None:
    result = await given("/search cake", reader=BOTH)
    head, line = result.text.splitlines()
    assert head == "“cake” with Ana Souza (+5511999990001), newest first:"
    assert line == "• 5 min ago, from the customer: “Ana's *cake*”"
    assert (result.effects, result.action, result.detail) == ((), Action.COMMAND_DONE, "search")


async def test_in_ones_own_chat_they_are_looked_for_everywhere_or_with_somebody() -> None:
    everywhere = (await given_at_home("/search cake", reader=BOTH)).text
    assert "Ana Souza (+5511999990001), 5 min ago" in everywhere
    assert "Ben (+5511999990002), 5 min ago" in everywhere
    with_ben = (await given_at_home("/search Ben: cake", reader=BOTH)).text
    assert "Ben's *cake*" in with_ben
    assert "Ana" not in with_ben
    assert "“Zoe”" in (await given_at_home("/search Zoe: cake", reader=BOTH)).text
    two = MemoryReader(chats=(ANA, chat(3, "Ana Lima")))
    assert (await given_at_home("/search Ana: cake", reader=two)).detail == "ambiguous"


async def test_what_failed_is_named_also_where_it_has_no_words() -> None:
    failed = [said(None, Author.BOT, kind=kind) for kind in (MessageType.REVOKE, MessageType.IMAGE)]
    lines = (await given_at_home("/failed", reader=MemoryReader(messages=failed))).text.splitlines()
    assert "5 min ago: a message with image" in lines[1]
    assert "5 min ago: the deletion of a command of yours" in lines[2]


@pytest.mark.parametrize("verb", ["retry", "drop"])
async def test_all_that_failed_are_all_however_many(verb: str) -> None:
    reader = MemoryReader(messages=[said(f"number {n}", Author.BOT) for n in range(225)])
    result = await given_at_home(f"/failed {verb} all", reader=reader)
    assert len(result.effects) == 225
    assert "225 messages" in result.text


async def test_a_link_is_something_to_look_for() -> None:
    reader = MemoryReader(messages=[said("see https://shop.example/cake")])
    assert (
        "*https://shop.example*" in (await given_at_home("/search https://shop.example", reader=reader)).text
    )


async def test_pages_are_turned_by_what_the_page_before_says() -> None:
    first = (await given_at_home("/search cake", reader=SEVEN)).text.splitlines()
    assert len(first) == 7
    assert first[-1] == "More: /search cake page 2"
    second = (await given_at_home(first[-1].removeprefix("More: "), reader=SEVEN)).text.splitlines()
    assert [line.rstrip("”")[-1] for line in second[1:]] == ["1", "0"]
    assert (
        await given_at_home("/search cake page 3", reader=SEVEN)
    ).text == "No more with “cake” in all chats."


async def test_words_are_asked_for_and_nothing_is_told_with_a_way_on() -> None:
    assert "/search Ana: cake" in (await given_at_home("/search")).text
    assert "For example: /search cake" in (await given("/search")).text
    assert "cak*" in (await given("/search tea", reader=BOTH)).text
    blind = MemoryReader(has_unaccent=False)
    assert "unaccent" in (await given("/search tea", reader=blind)).text


async def test_what_could_not_be_sent_is_listed_with_its_reason() -> None:
    text = (await given("/failed", reader=BOTH)).text
    assert text.splitlines()[1].startswith("• 5 min ago: “Ana's cake” (no such number) [")
    assert "To try again: /failed retry all" in text
    assert (await given_at_home("/failed retry", reader=BOTH)).text.startswith("Which?")
    assert (await given_at_home("/failed drop 12", reader=BOTH)).text == (
        "Nothing that could not be sent is called “12”."
    )
    text = (await given_at_home("/failed", reader=BOTH)).text
    assert "Ben (+5511999990002), 5 min ago: “Ben's cake”" in text
    assert "Ana" not in (await given_at_home("/failed Ben", reader=BOTH)).text
    assert (await given_at_home("/failed", reader=SEVEN)).text.endswith("More: /failed page 2")
    assert (await given_at_home("/failed Ana", reader=SEVEN)).text.endswith("More: /failed Ana page 2")
    assert (await given_at_home("/failed")).text == "I could send everything."
    assert "no more" in (await given_at_home("/failed page 9", reader=BOTH)).text


def told(author: Author, kind: MessageType, messages: int, **more: object) -> Tally:
    tally = Tally(
        direction=Direction.INBOUND if author is Author.CUSTOMER else Direction.OUTBOUND,
        author=author,
        is_group=False,
        type=kind,
        command=None,
        messages=messages,
        media=0,
    )
    return replace(tally, **more)  # type: ignore[arg-type]  # fields by name, checked when run


NUMBERS = Stats(
    tallies=(
        told(Author.CUSTOMER, MessageType.TEXT, 30),
        told(Author.CUSTOMER, MessageType.IMAGE, 3, media=3, is_group=True),
        told(Author.BOT, MessageType.TEXT, 20),
        told(Author.HUMAN, MessageType.TEXT, 4, command="pause"),
    ),
    failed=2,
)


@pytest.mark.parametrize("span", ["", " 7d"])
async def test_statistics_tell_the_documents_numbers(span: str) -> None:
    reader = MemoryReader(statistics={None: NUMBERS, ANA.chat_id: NUMBERS})
    lines = (await given_at_home(f"/stats{span}", reader=reader)).text.splitlines()
    assert lines == [
        "All chats, the last 7 days:" if span else "All chats, since the beginning:",
        "57 messages: 33 in, 24 out (20 by me, 4 by one of you)",
        "With media: 3, commands: 4, failed: 2",
        "Kinds: text 54, image 3",
        "Commands: pause 4",
        "In groups: 3, in private: 54",
    ]
    assert reader.asked_since == [NOW - timedelta(days=7) if span else None]
    assert (await given(f"/stats{span}", reader=reader)).text.startswith("Ana Souza (+5511999990001), ")
    assert (await given_at_home(f"/stats Ana{span}", reader=reader)).text.startswith("Ana Souza")
    assert "Nothing was said." in (await given_at_home(f"/stats Ben{span}", reader=reader)).text
