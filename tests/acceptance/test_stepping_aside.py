"""Stepping aside, as a script of `sidestep chat --jsonl` sees it: who counts as a person, and for how long."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from storage.models import Action
from tests.acceptance.conversation import (
    CONFIG,
    CUSTOMER,
    DEFAULT,
    HOURS,
    IDLE,
    OWNER,
    PRICES,
    Line,
    Shop,
    admin,
    advance,
    customer,
    owner,
)
from tests.acceptance.invariants import assert_all_is_well


def ago(span: timedelta) -> str:
    return (datetime.now(UTC) - span).isoformat()


async def test_what_the_owner_wrote_long_ago_or_before_a_resume_pauses_no_more(shop: Shop) -> None:
    heard = await shop.chat(
        *(customer("hello"), IDLE, owner("Out of reach", id="old", at=ago(timedelta(hours=3)))),
        *(customer("price", id="1"), IDLE, owner("Here I am", id="takeover"), owner("/resume"), IDLE),
        *(owner("Sent from a tunnel", id="late", at=ago(timedelta(minutes=1))), IDLE),
        *(customer("price", id="2"), IDLE, owner("Me again", id="again"), customer("price", id="3"), IDLE),
    )
    assert heard.decided("old") == heard.decided("late") == [Action.HUMAN_SPOKE]
    assert heard.decided("takeover") == heard.decided("again") == [Action.PAUSED]
    assert heard.decided("1") == heard.decided("2") == [Action.KEYWORD_REPLIED]
    assert heard.decided("3") == [Action.IGNORED_PAUSED]
    await assert_all_is_well(shop.dsn)


@pytest.mark.parametrize("typed", [False, True], ids=["while it is gathered", "while the answer is typed"])
async def test_what_was_written_after_a_line_that_comes_late_is_answered(shop: Shop, typed: bool) -> None:
    late = owner("See you", id="late", device=2, at=ago(timedelta(hours=3)))
    heard = await shop.chat(
        customer("price", id="1"), *([advance("2.1s")] if typed else []), late, IDLE, advance("1m"), IDLE
    )
    assert heard.decided("late") == [Action.HUMAN_SPOKE]
    assert [(r.in_reply_to, r.text) for r in heard.replies] == [(("1",), PRICES)]
    assert heard.decided("1") == [Action.KEYWORD_REPLIED] * (2 if typed else 1)
    await assert_all_is_well(shop.dsn)


async def test_what_was_written_before_a_line_that_comes_late_is_not_answered(shop: Shop) -> None:
    heard = await shop.chat(
        customer("price", id="1", at=ago(timedelta(hours=4))),
        *(owner("It is 20", id="late", device=2, at=ago(timedelta(hours=3))), IDLE, advance("1m"), IDLE),
    )
    assert heard.decided("late") == [Action.HUMAN_SPOKE]
    assert heard.decided("1") == [Action.SUPERSEDED]
    assert heard.replies == []


@pytest.mark.parametrize(("device", "origin"), [(0, "phone"), (12, "device")])
async def test_every_device_of_the_owner_takes_over_and_why_tells_which(
    shop: Shop, device: int, origin: str
) -> None:
    heard = await shop.chat(
        *(customer("price"), IDLE, owner("It's me", id="takeover", device=device), customer("price", id="2")),
        IDLE,
    )
    assert heard.decided("takeover") == [Action.PAUSED]
    assert heard.decided("2") == [Action.IGNORED_PAUSED]
    [story] = await shop.why("takeover", "--json")
    told = json.loads(story)
    assert (told["author"], told["origin"], told["device"]) == ("human", origin, device)
    [head, *_] = await shop.why("takeover")
    assert ("on the phone" if device == 0 else "on device 12") in head


@pytest.mark.parametrize(
    "line",
    [
        owner("👍", type="reaction", reply_to="asked"),
        owner("", type="revoke", reply_to="mine"),
        owner("Hello, hello", type="edit", reply_to="mine"),
        owner("buy milk", chat=OWNER),
        owner("/status"),
        owner("I say something", group="120363000000000001"),
        admin("/status"),
    ],
    ids=["reaction", "revoke", "edit", "message-yourself", "command", "group", "admin"],
)
async def test_what_says_nothing_to_the_customer_takes_nothing_over(shop: Shop, line: dict[str, str]) -> None:
    heard = await shop.chat(
        *(owner("Hello", id="mine"), owner("/resume"), customer("hello", id="asked"), IDLE),
        *(line, IDLE, customer("price", id="2"), IDLE),
    )
    assert heard.decided("2") == [Action.KEYWORD_REPLIED]
    assert heard.said_to()[:2] == [DEFAULT, PRICES]


async def test_in_a_group_a_person_takes_over_where_that_is_configured(shop: Shop) -> None:
    shop.configure(CONFIG + "takeover: {groups: true}\n")
    group, ana = "120363000000000001", "+5511977770001"
    heard = await shop.chat(
        *(customer("price", group=group, sender=ana, mention=True), IDLE),
        *(owner("I am here", group=group, id="takeover"), IDLE),
        *(customer("hours", group=group, sender=ana, mention=True, id="again"), IDLE),
    )
    assert heard.decided("takeover") == [Action.PAUSED]
    assert heard.decided("again") == [Action.IGNORED_PAUSED]
    assert HOURS not in [r.text for r in heard.replies]


async def test_a_command_in_a_customers_chat_is_taken_back_and_one_elsewhere_is_not(shop: Shop) -> None:
    heard = await shop.chat(
        *(customer("hello", name="Ana"), IDLE, owner("/pause 2h", id="pause"), IDLE),
        *(owner("/status", id="status"), owner("/resume Ana", chat=OWNER, id="resume"), IDLE),
        *(
            admin("/status Ana", id="admin"),
            owner("I am here", id="said"),
            customer("/help", id="help"),
            IDLE,
        ),
    )
    assert heard.revoked == ["pause", "status"]
    assert heard.decided("pause") == [Action.PAUSED]
    assert heard.decided("said") == [Action.PAUSED]
    told = "\n".join(await shop.why("pause"))
    assert "revoked by the bot" in told
    assert "revoke" in told
    assert "sent at" in told
    await assert_all_is_well(shop.dsn)


async def test_a_command_is_left_where_the_owner_wants_it_so(shop: Shop) -> None:
    shop.configure(CONFIG + "takeover: {revoke_commands: false}\n")
    heard = await shop.chat(customer("hello"), IDLE, owner("/pause", id="pause"), IDLE)
    assert heard.revoked == []
    assert heard.decided("pause") == [Action.PAUSED]


async def test_a_command_is_taken_back_before_the_answer_that_is_being_typed(shop: Shop) -> None:
    async with shop.conversation() as conversation:
        # Half a minute of typing is ahead of it.
        conversation.say(customer("price", id="1"), advance("2.1s"), owner("/status", id="status"), IDLE)
        heard = await conversation.ended()
    kinds = [o.kind for o in heard.outputs if o.kind in ("revoke", "reply")]
    assert kinds == ["revoke", "reply"]


async def test_a_mistyped_command_takes_over_is_taken_back_and_told(shop: Shop) -> None:
    heard = await shop.chat(
        *(customer("hello", name="Ana"), IDLE, owner("/puase 2h", id="slip"), IDLE),
        *(customer("price", id="2"), IDLE, owner("/ola", id="word"), owner("/stop", id="advice"), IDLE),
    )
    assert heard.decided("slip") == [Action.PAUSED]
    assert heard.decided("2") == [Action.IGNORED_PAUSED]
    assert heard.decided("word") == heard.decided("advice") == [Action.HUMAN_SPOKE]
    assert heard.revoked == ["slip"]
    [notice] = heard.notices
    assert "/puase 2h" in notice
    assert "/pause?" in notice
    assert "Ana" in notice


async def test_a_command_is_obeyed_however_it_was_punctuated(shop: Shop) -> None:
    heard = await shop.chat(
        *(customer("/stop.", id="stop"), IDLE, customer("price", id="1"), IDLE),
        *(
            customer("\u200f/start!"),
            IDLE,
            owner("\u200f/pause, 2h", id="pause"),
            customer("price", id="2"),
            IDLE,
        ),
        *(owner("/résume.", id="resume"), IDLE, customer("price", id="3"), IDLE),
    )
    assert heard.decided("stop") == [Action.COMMAND_DONE]
    assert heard.decided("1") == [Action.IGNORED_OPTED_OUT]
    assert (heard.decided("pause"), heard.decided("resume")) == ([Action.PAUSED], [Action.RESUMED])
    assert heard.revoked == ["pause", "resume"]
    assert heard.decided("2") == [Action.IGNORED_PAUSED]
    assert heard.decided("3") == [Action.KEYWORD_REPLIED]


async def test_a_command_in_reply_to_a_notice_is_about_its_chat(shop: Shop) -> None:
    async with shop.conversation() as conversation:
        conversation.say(*(customer("hello", name="Ana"), IDLE, owner("/pause"), IDLE))
        notice = await conversation.notice()
        conversation.say(owner("/resume", chat=OWNER, reply_to=notice.id, id="back"), IDLE)
        conversation.say(customer("price", id="2"), IDLE)
        asked = customer("/human", id="human")
        conversation.say(asked, IDLE)
        wish = await conversation.notice("asks for a person")
        conversation.say(owner("/status", chat=OWNER, reply_to=wish.id), IDLE)
        conversation.say(owner("/pause 1h", chat=OWNER, reply_to=wish.id, id="again"), IDLE)
        heard = await conversation.ended()
    assert heard.decided("back") == [Action.RESUMED]
    assert heard.decided("2") == [Action.KEYWORD_REPLIED]
    assert heard.decided("again") == [Action.PAUSED]
    assert "they asked for a person" in "\n".join(heard.notices)
    assert heard.revoked == ["line-3"]


async def test_a_command_in_reply_to_an_answer_is_about_the_chat_of_that_wherever_it_was_given(
    shop: Shop,
) -> None:
    bea, given_in = "+5511988880002", (CUSTOMER, OWNER)
    commands = (
        "/resume-after Bea 4h",
        "/why Q",
        "/search Bea: price",
        "/stats Bea",
        "/failed Bea",
        "/status Bea",
    )
    async with shop.conversation() as conversation:
        conversation.say(customer("hello", name="Ana"), customer("price", id="Q", name="Bea", chat=bea), IDLE)
        for n, (command, chat) in enumerate(product(commands, given_in)):
            # In a customer's chat words are looked for there.
            if command.startswith("/search") and chat == CUSTOMER:
                continue
            conversation.say(owner(command, chat=chat), IDLE)
            answer = await conversation.notice()
            conversation.say(owner("/pause 2h", chat=OWNER, reply_to=answer.id, id=f"reply {n}"), IDLE)
            assert f"Bea ({bea})" in (await conversation.notice()).text, (command, chat)
        conversation.say(customer("price", id="1"), IDLE, owner("/help"), IDLE)
        of_none = await conversation.notice("/pause")
        conversation.say(owner("/pause", chat=OWNER, reply_to=of_none.id, id="whose"), IDLE)
        heard = await conversation.ended()
    assert heard.decided("1") == [Action.KEYWORD_REPLIED]
    assert heard.decided("whose") == [Action.COMMAND_REFUSED]


async def test_who_is_meant_is_asked_with_a_list_and_answered_with_a_number(shop: Shop) -> None:
    other = "+5511988880002"
    heard = await shop.chat(
        *(customer("hello", name="José Silva"), customer("hello", chat=other, name="Jose Souza"), IDLE),
        *(owner("7", chat=OWNER, id="note"), owner("/pause JOSÉ 2h", chat=OWNER, id="asked"), IDLE),
        *(owner("9", chat=OWNER, id="wrong"), owner("/pause jose 2h", chat=OWNER), IDLE),
        *(owner("2", chat=OWNER, id="chosen"), IDLE, owner("2", chat=OWNER, id="late"), IDLE),
        *(customer("price", id="a"), customer("price", chat=other, id="b"), IDLE),
    )
    assert heard.decided("asked") == heard.decided("wrong") == [Action.COMMAND_REFUSED]
    assert heard.decided("note") == heard.decided("late") == [Action.HUMAN_SPOKE]
    assert heard.decided("chosen") == [Action.PAUSED]
    question, no_choice, again, done = heard.notices
    assert question.splitlines()[1:] == again.splitlines()[1:]
    listed = [line for line in question.splitlines() if line[:2] in ("1.", "2.")]
    assert "ends with 2" in no_choice
    name = listed[1].removeprefix("2. ")
    assert name in done
    paused, answered = ("a", "b") if "José" in name else ("b", "a")
    assert heard.decided(paused) == [Action.IGNORED_PAUSED]
    assert heard.decided(answered) == [Action.KEYWORD_REPLIED]


async def test_a_number_answers_the_last_list_whatever_was_told_since(shop: Shop) -> None:
    bea = "+5511988880003"
    heard = await shop.chat(
        *(customer("hello", chat="+5511988880002", name="Jose Souza"), IDLE, advance("1m")),
        *(customer("hello", name="José Silva"), customer("hello", chat=bea), IDLE),
        *(owner("/exclude jose", chat=OWNER), IDLE, customer("/human", chat=bea), IDLE),
        *(owner("3", chat=OWNER, id="none"), owner("/status", chat=OWNER), IDLE, advance("14m")),
        # Written before the list, on a device that was offline.
        *(owner("2", chat=OWNER, id="old", at=ago(timedelta(hours=1))), IDLE),
        *(owner("1", chat=OWNER, id="chosen"), IDLE, owner("2", chat=OWNER, id="late"), IDLE),
    )
    assert heard.decided("none") == [Action.COMMAND_REFUSED]
    assert heard.decided("chosen") == [Action.COMMAND_DONE]
    assert heard.decided("old") == heard.decided("late") == [Action.HUMAN_SPOKE]
    assert f"Excluded: I never answer José Silva ({CUSTOMER})" in heard.notices[-1]


async def test_who_was_chosen_is_meant_also_under_another_name(shop: Shop) -> None:
    other = "+5511988880002"
    heard = await shop.chat(
        *(customer("hello", chat=other, name="Jose Souza"), IDLE, advance("1m")),
        *(customer("hello", name="José Silva"), IDLE, owner("/exclude jose", chat=OWNER), IDLE),
        *(customer("x", name="Pedrinho"), IDLE, owner("1", chat=OWNER, id="chosen"), IDLE),
    )
    listed, done = heard.notices
    assert listed.splitlines()[1] == f"1. José Silva ({CUSTOMER})"
    assert CUSTOMER in done
    assert heard.decided("chosen") == [Action.COMMAND_DONE]


async def test_who_was_chosen_is_meant_also_among_newer_ones(shop: Shop) -> None:
    def anas(first: int) -> list[Line]:
        return [customer("hi", chat=f"+551197770{n:04}", name=f"Ana {n}") for n in range(first, first + 5)]

    heard = await shop.chat(
        *(*anas(10), IDLE, owner("/exclude ana", chat=OWNER), IDLE, advance("1m"), *anas(20), IDLE),
        *(owner("1", chat=OWNER, id="chosen"), IDLE),
    )
    listed, done = heard.notices
    assert heard.decided("chosen") == [Action.COMMAND_DONE]
    assert listed.splitlines()[1].removeprefix("1. ") in done


async def test_an_admin_chooses_in_reply_and_is_a_customer_otherwise(shop: Shop) -> None:
    other = "+5511988880002"
    async with shop.conversation() as conversation:
        conversation.say(customer("hello", name="Ana A"), customer("hello", chat=other, name="Ana B"), IDLE)
        conversation.say(admin("/pause ana", id="asked"), IDLE)
        question = await conversation.reply("Which one?")
        conversation.say(admin("1", id="words"), IDLE, admin("1", reply_to=question.id, id="chosen"), IDLE)
        heard = await conversation.ended()
    assert heard.decided("asked") == [Action.COMMAND_REFUSED]
    assert heard.decided("words") == [Action.KEYWORD_REPLIED]
    assert heard.decided("chosen") == [Action.PAUSED]


async def test_times_in_a_command_count_from_when_it_was_written(shop: Shop) -> None:
    written, other = timedelta(hours=2), "+5511988880002"
    over = f"{datetime.now(UTC) - timedelta(hours=1):%H:%M}"
    heard = await shop.chat(
        *(customer("hello"), customer("hello", chat=other), IDLE),
        *(owner(f"/pause until {over}", id="until", at=ago(written)), IDLE),
        *(owner("/pause 30m", id="for", at=ago(written)), IDLE, customer("price", id="1"), IDLE),
        *(owner("/pause 3h", id="open", at=ago(written), chat=other), IDLE, advance("58m")),
        *(customer("price", id="2", chat=other), IDLE, advance("3m")),
        *(customer("price", id="3", chat=other), IDLE),
    )
    assert heard.decided("until") == heard.decided("for") == [Action.IGNORED_TOO_OLD]
    assert [n for n in heard.notices if "when its time was over" in n] == heard.notices[:2]
    assert heard.decided("1") == [Action.KEYWORD_REPLIED]
    assert heard.decided("open")[0] is Action.PAUSED
    assert heard.decided("2")[0] is Action.IGNORED_PAUSED
    assert heard.decided("3") == [Action.KEYWORD_REPLIED]


@pytest.mark.parametrize(
    ("newer", "older", "is_answered"),
    [
        *(("/resume", "/pause", True), ("/pause", "/resume", False), ("/pause", "/pause 5m", False)),
        *(("/include", "/exclude", True), ("/exclude", "/include", False)),
        *(("/global resume", "/global pause", True), ("/global pause", "/global resume", False)),
    ],
)
async def test_an_older_command_does_not_undo_a_newer_one(
    shop: Shop, newer: str, older: str, is_answered: bool
) -> None:
    heard = await shop.chat(
        *(customer("hello"), IDLE, owner(newer, id="newer"), IDLE),
        *(owner(older, id="older", at=ago(timedelta(minutes=1)), device=2), IDLE, advance("10m")),
        *(customer("price", id="1"), IDLE),
    )
    assert heard.decided("older") == [Action.SUPERSEDED]
    assert "a newer command since" in heard.notices[-1]
    assert (heard.decided("1") == [Action.KEYWORD_REPLIED]) is is_answered
    await assert_all_is_well(shop.dsn)


GREETING = "Hello, thank you for writing to Dona's bakery! We will be with you in a moment."


@pytest.fixture
def within() -> Callable[[float], str]:
    """Seconds after the test's start, as a line's time: lines may follow upon each other faster than they come."""
    start = datetime.now(UTC)
    return lambda seconds: (start + timedelta(seconds=seconds)).isoformat()


async def test_a_configured_text_takes_nothing_over_wherever_it_comes(shop: Shop) -> None:
    texts = json.dumps(["Hello *, thank you for writing!", "We are closed"])
    shop.configure(CONFIG + f"takeover: {{ignore: {texts}}}\n")
    heard = await shop.chat(
        *(customer("hello"), owner("HELLO Ana Souza, thank you for writing", id="greeting"), IDLE),
        *(owner("We are closed.", id="away"), customer("price", id="asked"), IDLE),
        *(owner("We are closed now, sorry", id="human"), customer("price", id="2"), IDLE),
    )
    assert heard.decided("greeting") == heard.decided("away") == [Action.IGNORED_AUTOMATIC]
    assert heard.decided("asked") == [Action.KEYWORD_REPLIED]
    assert heard.decided("human") == [Action.PAUSED]
    assert heard.decided("2") == [Action.IGNORED_PAUSED]
    assert heard.notices == []
    await assert_all_is_well(shop.dsn)


async def test_a_greeting_is_not_obeyed_and_the_owner_is_asked_once_and_says_yes(
    shop: Shop, within: Callable[[float], str]
) -> None:
    other, third = "+5511988880002", "+5511988880003"
    async with shop.conversation() as conversation:
        conversation.say(customer("price", name="Ana", id="1", at=within(0)))
        conversation.say(owner(GREETING, id="greeting", at=within(1)), IDLE)
        question = await conversation.notice("/automatic yes")
        conversation.say(customer("price", chat=other, id="2", at=within(5)))
        conversation.say(owner(GREETING, chat=other, id="again", at=within(6)), IDLE)
        conversation.say(owner("/automatic yes", chat=OWNER, reply_to=question.id, id="answer"), IDLE)
        # From now on it is known, also where it comes late.
        conversation.say(customer("price", chat=third, id="3", at=within(10)))
        conversation.say(owner(GREETING.upper(), chat=third, id="late", at=within(60)), IDLE)
        conversation.say(
            owner("Sorry, here I am at last, and shall gladly help you", id="human", at=within(70))
        )
        conversation.say(customer("price", id="4"), IDLE)
        heard = await conversation.ended()
    for flagged in ("greeting", "again", "late"):
        assert heard.decided(flagged) == [Action.IGNORED_AUTOMATIC]
    assert [heard.decided(n) for n in "123"] == [[Action.KEYWORD_REPLIED]] * 3
    assert heard.decided("answer") == [Action.COMMAND_DONE]
    assert (heard.decided("human"), heard.decided("4")) == ([Action.PAUSED], [Action.IGNORED_PAUSED])
    assert len([n for n in heard.notices if "/automatic yes" in n]) == 1
    assert "Ana" in question.text
    await assert_all_is_well(shop.dsn)
    # It is known for good.
    heard = await shop.chat(
        customer("price", chat="+5511988880004"), owner(GREETING, chat="+5511988880004", id="x")
    )
    assert heard.decided("x") == [Action.IGNORED_AUTOMATIC]


async def test_what_was_the_owner_after_all_takes_over_from_its_own_time(
    shop: Shop, within: Callable[[float], str]
) -> None:
    other = "+5511988880002"
    heard = await shop.chat(
        *(customer("price", id="1", at=within(0)), owner(GREETING, id="word", at=within(2)), IDLE),
        *(owner("/automatic no", chat=OWNER, id="answer"), IDLE, customer("price", id="2"), IDLE),
        *(
            customer("price", chat=other, id="3", at=within(5)),
            owner(GREETING, chat=other, id="word 2", at=within(6)),
        ),
        *(IDLE, customer("price", chat=other, id="4"), IDLE),
    )
    assert heard.decided("word") == [Action.IGNORED_AUTOMATIC]
    assert heard.decided("answer") == [Action.COMMAND_DONE]
    assert heard.decided("2") == [Action.IGNORED_PAUSED]
    assert heard.decided("word 2") == [Action.PAUSED]
    assert heard.decided("4") == [Action.IGNORED_PAUSED]


async def test_a_change_of_mind_about_a_text_undoes_what_was_done_about_it(
    shop: Shop, within: Callable[[float], str]
) -> None:
    other = "+5511988880002"
    heard = await shop.chat(
        *(customer("hello", at=within(0)), owner(GREETING, id="greeting", at=within(1)), IDLE),
        *(owner("/automatic no", chat=OWNER), IDLE, customer("price", id="no"), IDLE),
        *(owner("/automatic yes 1", chat=OWNER), IDLE, customer("price", id="yes"), IDLE),
        # It is known by now, and where it goes out is not forgotten.
        *(customer("hello", chat=other, at=within(2)), owner(GREETING, chat=other, id="known", at=within(3))),
        *(IDLE, owner("/automatic no 1", chat=OWNER), IDLE),
        *(customer("hours", id="no again"), customer("hours", chat=other, id="other"), IDLE),
    )
    assert heard.decided("greeting") == heard.decided("known") == [Action.IGNORED_AUTOMATIC]
    assert [heard.decided(i) for i in ("no", "no again", "other")] == [[Action.IGNORED_PAUSED]] * 3
    assert heard.decided("yes") == [Action.KEYWORD_REPLIED]
    await assert_all_is_well(shop.dsn)


async def test_a_short_greeting_is_suspect_with_the_second_new_customer_and_put_right_with_the_first(
    shop: Shop, within: Callable[[float], str]
) -> None:
    other, third = "+5511988880002", "+5511988880003"
    heard = await shop.chat(
        *(customer("hello", at=within(0)), owner("How can we help?", id="first", at=within(1)), IDLE),
        *(customer("price", id="lost"), IDLE, customer("hello", chat=other, at=within(5))),
        *(owner("How can we help?", chat=other, id="second", at=within(6)), IDLE),
        *(owner("/automatic yes", chat=OWNER), IDLE, customer("price", id="back"), IDLE),
        *(customer("price", chat=third, id="3", at=within(10)),),
        *(owner("How can we help?", chat=third, id="third", at=within(11)), IDLE),
    )
    assert heard.decided("first") == [Action.PAUSED]
    assert heard.decided("lost") == [Action.IGNORED_PAUSED]
    assert heard.decided("second") == heard.decided("third") == [Action.IGNORED_AUTOMATIC]
    assert heard.decided("back") == heard.decided("3") == [Action.KEYWORD_REPLIED]
    assert len([n for n in heard.notices if "/automatic yes" in n]) == 1


async def test_the_same_few_words_to_customers_who_are_known_are_a_person_s(
    shop: Shop, within: Callable[[float], str]
) -> None:
    chats = ["+5511988880001", "+5511988880002", "+5511988880003"]
    known = [customer("hello", chat=chat, at=within(-600)) for chat in chats]
    asked = [
        line
        for n, chat in enumerate(chats)
        for line in (
            customer("and now?", chat=chat, at=within(700 + 10 * n)),
            owner("Yes!", chat=chat, id=f"{n}", at=within(701 + 10 * n)),
            IDLE,
        )
    ]
    heard = await shop.chat(*known, advance("10m"), IDLE, *asked)
    assert [heard.decided(f"{n}") for n in range(3)] == [[Action.PAUSED]] * 3


async def test_an_away_text_is_suspect_in_the_second_chat_and_put_right_in_the_first(
    shop: Shop, within: Callable[[float], str]
) -> None:
    other = "+5511988880002"
    away = "We are closed today and will answer you tomorrow morning."
    # Both have written before: none of them is greeted.
    heard = await shop.chat(
        *(
            customer("hello", at=within(-600)),
            customer("hello", chat=other, at=within(-600)),
            advance("10m"),
            IDLE,
        ),
        *(customer("price", at=within(700)), owner(away, id="first", at=within(701)), IDLE),
        *(
            customer("price", chat=other, at=within(710)),
            owner(away, chat=other, id="second", at=within(711)),
            IDLE,
        ),
        *(owner("/automatic yes", chat=OWNER), IDLE, customer("price", id="back"), IDLE),
    )
    assert heard.decided("first") == [Action.PAUSED]
    assert heard.decided("second") == [Action.IGNORED_AUTOMATIC]
    assert heard.decided("back") == [Action.KEYWORD_REPLIED]


async def test_who_wrote_before_an_outage_is_not_greeted_after_it(
    shop: Shop, within: Callable[[float], str]
) -> None:
    # All of it comes at once, minutes late: what was written first is old all the same.
    heard = await shop.chat(
        *(customer("hello", at=within(-600)), IDLE, customer("price", at=within(-300))),
        *(owner(GREETING, id="word", at=within(-299)), IDLE),
    )
    assert heard.decided("word") == [Action.PAUSED]


async def test_what_a_person_may_have_typed_is_obeyed_at_once(
    shop: Shop, within: Callable[[float], str]
) -> None:
    lines = {"short": ("Hi!", 1), "late": (GREETING, 4), "web": (GREETING, 1)}
    for n, (name, (text, seconds)) in enumerate(lines.items()):
        chat = f"+551198888001{n}"
        heard = await shop.chat(
            customer("hello", chat=chat, at=within(0)),
            owner(text, chat=chat, id=name, at=within(seconds), device=7 if name == "web" else 0),
            IDLE,
        )
        assert heard.decided(name) == [Action.PAUSED]
