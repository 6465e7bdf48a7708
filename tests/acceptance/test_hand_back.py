"""A good hand-back: the model knows what a person did in the chat, and what nobody answered is answered or left."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from signal import Signals

import pytest

from bot.crashpoints import VARIABLE, Point
from storage.models import Action
from tests.acceptance.conversation import (
    CONFIG,
    CUSTOMER,
    IDLE,
    PRICES,
    Decision,
    Line,
    Shop,
    admin,
    advance,
    customer,
    owner,
)
from tests.acceptance.invariants import assert_all_is_well
from tests.doubles.ai_server import AIServer, NeverAnswers, Refuses, Says

OTHER, THIRD = "+5511988880002", "+5511988880003"
RESUME = "    auto_resume_after: 2h\n"
PAUSED_BACK = [Action.IGNORED_PAUSED, Action.KEYWORD_REPLIED]


@pytest.fixture
async def server() -> AsyncIterator[AIServer]:
    async with AIServer().serving() as running:
        yield running


def with_model(shop: Shop, server: AIServer, keys: str = "", *, hand_off: bool = False) -> None:
    shop.configure(
        CONFIG.partition("flows:")[0].replace(RESUME, f"{RESUME}    llm_provider: openai\n{keys}")
        + f"ai: {{base_url: '{server.url}/v1', model: m, hand_off: {str(hand_off).lower()}}}\n"
    )


def mode(shop: Shop, mode: str) -> None:
    shop.configure(CONFIG.replace(RESUME, f"{RESUME}    resume_mode: {mode}\n"))


def prompts(server: AIServer) -> list[list[str]]:
    """What the model was asked each time: every turn, the customer's lines with `> ` before them."""
    return [
        [("> " if turn["role"] == "user" else "") + turn["content"] for turn in call.body["messages"][1:]]
        for call in server.calls
    ]


async def test_the_model_sees_what_a_person_did_and_that_they_left(shop: Shop, server: AIServer) -> None:
    with_model(shop, server)
    server.then(Says(text="It is 50."), Says(text="At seven."))
    await shop.chat(
        *(customer("How much is a cake?"), IDLE, owner("For you I make it 45"), IDLE),
        *(customer("Wonderful!"), IDLE, advance("3h"), customer("When do you close?"), IDLE),
    )
    assert prompts(server)[-1] == [
        "> How much is a cake?",
        "It is 50.\n[staff came]\n[staff] For you I make it 45",
        "> Wonderful!",
        "[staff left]",
        "> When do you close?",
    ]


async def test_the_model_is_told_that_a_promise_of_a_person_is_over(shop: Shop, server: AIServer) -> None:
    with_model(shop, server)
    server.then(Says(text="I can help."))
    await shop.chat(
        *(customer("/human"), IDLE, customer("Is there somebody?"), IDLE, advance("3h")),
        *(customer("Hello?"), IDLE),
    )
    [told] = prompts(server)
    assert told == [
        "> /human",
        "[staff was called]\nA person will answer you here as soon as possible.",
        "> Is there somebody?",
        "[nobody came]",
        "> Hello?",
    ]


async def test_the_model_is_told_of_nobody_who_never_came(shop: Shop, server: AIServer) -> None:
    with_model(shop, server)
    server.then(Says(text="Welcome."), Says(text="Tomorrow."))
    await shop.chat(
        *(customer("hello"), IDLE, owner("/pause"), IDLE, customer("Do you deliver?"), IDLE),
        *(owner("/resume"), IDLE, customer("And when?"), IDLE),
    )
    assert prompts(server)[-1] == ["> hello", "Welcome.", "> Do you deliver?\nAnd when?"]


async def test_what_the_bot_answered_when_it_was_back_is_not_in_the_person_s_stretch(
    shop: Shop, server: AIServer
) -> None:
    with_model(shop, server, "    resume_mode: from_last\n")
    server.then(Says(text="At seven."), Says(text="With pleasure."))
    await shop.chat(
        *(owner("Hi, it's me"), IDLE, customer("When do you close?"), IDLE, advance("3h"), IDLE),
        *(customer("Thanks!"), IDLE),
    )
    assert prompts(server)[-1][1:] == [
        "[staff came]\n[staff] Hi, it's me\n[staff left]",
        "> When do you close?",
        "At seven.",
        "> Thanks!",
    ]


async def test_what_a_person_answered_is_not_answered_again_and_what_nobody_did_is(
    shop: Shop, server: AIServer
) -> None:
    with_model(shop, server, "    resume_mode: from_last\n")
    server.then(Says(text="At seven."))
    heard = await shop.chat(
        *(owner("Hi, it's me"), customer("A cake?", id="1"), IDLE, owner("With pleasure"), IDLE),
        *(customer("And when do you close?", id="2"), IDLE, owner("/resume"), IDLE),
    )
    [reply] = heard.replies
    assert (reply.in_reply_to, reply.text) == (("2",), "At seven.")
    assert prompts(server)[-1][-2:] == ["[staff] With pleasure\n[staff left]", "> And when do you close?"]
    assert heard.decided("1") == [Action.IGNORED_PAUSED]
    assert heard.decided("2") == [Action.IGNORED_PAUSED, Action.AI_REPLIED]


@pytest.mark.parametrize("back", [owner("/resume"), advance("121m")], ids=["by command", "by clock"])
async def test_from_last_answers_what_came_in_a_pause(shop: Shop, back: Line) -> None:
    mode(shop, "from_last")
    heard = await shop.chat(
        *(owner("Hi!"), IDLE, customer("price", id="1"), customer("and how much?", id="2"), IDLE, back, IDLE),
        *(advance("1m"), IDLE),
    )
    [reply] = heard.replies
    assert (reply.in_reply_to, reply.text) == (("1", "2"), PRICES)
    assert heard.decided("1") == [Action.IGNORED_PAUSED, Action.JOINED]
    assert [a for a in heard.decided("2") if a is not Action.RESUMED] == PAUSED_BACK
    await assert_all_is_well(shop.dsn)


@pytest.mark.parametrize(
    ("resume_mode", "answers"), [("from_last", [PRICES]), ("from_now", [])], ids=["from_last", "from_now"]
)
async def test_a_question_whose_answer_a_pause_has_dropped_is_unanswered(
    shop: Shop, resume_mode: str, answers: list[str]
) -> None:
    mode(shop, resume_mode)
    # The pause comes while the answer is being typed.
    async with shop.conversation() as conversation:
        conversation.say(customer("price", id="1"), advance("2.1s"), admin(f"/pause {CUSTOMER} 10m"))
        conversation.say(advance("5m"), IDLE, advance("6m"), IDLE)
        heard = await conversation.ended()
    assert [reply.text for reply in heard.replies if reply.in_reply_to == ("1",)] == answers
    back = [a for a in heard.decided("1") if a is not Action.RESUMED]
    assert back == [Action.KEYWORD_REPLIED] * (
        1 + len(answers)
    )  # what was dropped is decided by the store itself
    told = "\n".join(await shop.why("1"))
    assert "asked again: ignored_paused (paused: manual_pause)" in told
    await assert_all_is_well(shop.dsn)


async def test_from_last_answers_what_came_after_the_human_s_line_though_that_came_last(shop: Shop) -> None:
    mode(shop, "from_last")
    soon = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    heard = await shop.chat(
        *(owner("Hi!"), IDLE, advance("10m"), customer("price", id="1"), IDLE),
        *(owner("See you", device=2, at=soon, id="late"), IDLE, advance("3h"), IDLE),
    )
    assert [r.in_reply_to for r in heard.replies] == [("1",)]
    assert heard.decided("1") == PAUSED_BACK
    await assert_all_is_well(shop.dsn)


async def test_from_last_answers_one_burst_also_without_a_debounce(shop: Shop) -> None:
    shop.configure(
        CONFIG.replace(RESUME, f"{RESUME}    resume_mode: from_last\n")
        + "pace: {debounce: 0s, typing: false}\n"
    )
    asked = [line for n in range(4) for line in (customer(f"price {n}", id=f"{n}"), IDLE)]
    heard = await shop.chat(owner("Hi!"), *asked, owner("/resume"), IDLE)
    assert [r.in_reply_to for r in heard.replies] == [("0", "1", "2", "3")]
    await assert_all_is_well(shop.dsn)


async def test_a_wish_to_be_left_alone_waits_for_no_answer(shop: Shop, server: AIServer) -> None:
    with_model(shop, server)
    config = (shop.folder / "config.yaml").read_text(encoding="utf-8")
    shop.configure(f"{config}pace: {{debounce: 0s, typing: false}}\n")
    server.then(NeverAnswers(), NeverAnswers(), NeverAnswers())
    heard = await shop.chat(
        *(customer(f"question {n}", id=f"{n}") for n in range(3)), customer("/stop", id="stop"), IDLE
    )
    assert heard.decided("stop") == [Action.COMMAND_DONE]
    assert [heard.decided(f"{n}") for n in range(3)] == [[Action.IGNORED_OPTED_OUT]] * 3


@pytest.mark.parametrize("said", ["", "from_now"])
async def test_from_now_and_nothing_said_leave_what_came_in_a_pause(shop: Shop, said: str) -> None:
    if said:
        mode(shop, said)
    heard = await shop.chat(
        owner("Hi!"), IDLE, customer("price", id="1"), IDLE, owner("/resume"), IDLE, advance("1m"), IDLE
    )
    assert heard.replies == []
    assert heard.decided("1") == [Action.IGNORED_PAUSED]


async def test_a_second_pause_leaves_open_what_the_first_did(shop: Shop) -> None:
    mode(shop, "from_last")
    heard = await shop.chat(
        *(customer("hi"), IDLE, owner("/pause"), IDLE, customer("price", id="1"), IDLE),
        # Both come before the burst has been gathered.
        *(owner("/resume"), owner("/pause"), IDLE, advance("1m"), IDLE),
        *(owner("/resume"), IDLE, owner("/pause"), owner("/resume"), IDLE),
    )
    assert [r.in_reply_to for r in heard.replies][1:] == [("1",)]
    assert heard.decided("1")[-1] is Action.KEYWORD_REPLIED
    await assert_all_is_well(shop.dsn)


async def test_what_is_older_than_answers_go_is_left_also_from_last(shop: Shop) -> None:
    mode(shop, "from_last")
    heard = await shop.chat(
        *(customer("hi"), IDLE, owner("/pause 8h"), IDLE, customer("price", id="1"), IDLE),
        *(advance("7h"), customer("how much?", id="2"), IDLE, advance("61m"), IDLE),
    )
    assert [r.in_reply_to for r in heard.replies][1:] == [("2",)]
    assert heard.decided("1") == [Action.IGNORED_PAUSED, Action.IGNORED_TOO_OLD]


@pytest.mark.parametrize(("said", "answered"), [("from_now", False), ("from_last", True)])
async def test_after_a_restart_what_was_written_before_it_is_left_or_answered(
    shop: Shop, said: str, answered: bool
) -> None:
    mode(shop, said)
    async with shop.conversation() as first:
        # It waits for the rest of a burst, which only the clock would end.
        first.say(customer("price", id="1"), owner("/status", id="recorded", chat=OTHER))
        while not (isinstance(told := await first.next(), Decision) and told.id == "recorded"):
            pass
        first.signal(Signals.SIGKILL)
        await first.ended()
    before = (datetime.now(UTC) - timedelta(minutes=10)).isoformat()
    heard = await shop.chat(IDLE, customer("price", id="2", chat=OTHER, at=before), IDLE)
    assert [r.in_reply_to for r in heard.replies] == ([("1",), ("2",)] if answered else [])
    expected = Action.KEYWORD_REPLIED if answered else Action.IGNORED_TOO_OLD
    assert heard.decided("2") == [expected]
    await assert_all_is_well(shop.dsn)


@pytest.mark.parametrize(
    ("line", "then"),
    [
        (customer("/stop", id="1"), Action.IGNORED_OPTED_OUT),
        (customer("/human", id="1"), Action.IGNORED_PAUSED),
        (owner("/pause", id="1"), Action.IGNORED_PAUSED),
    ],
    ids=["stop", "human", "pause"],
)
async def test_a_command_that_a_crash_had_cut_off_is_carried_out_also_from_now(
    shop: Shop, line: dict[str, str], then: Action
) -> None:
    mode(shop, "from_now")
    await shop.chat(customer("hello"), IDLE)
    async with shop.conversation(**{VARIABLE: Point.RECORDED}) as killed:
        killed.say(line)
        await killed.ended()
    heard = await shop.chat(IDLE, customer("price", id="2"), IDLE)
    assert heard.decided("2") == [then]
    assert heard.decided("1")[0] in (Action.COMMAND_DONE, Action.HANDED_OFF, Action.PAUSED)
    await assert_all_is_well(shop.dsn)


async def test_a_command_is_carried_out_however_late_it_comes_and_a_question_is_not_answered(
    shop: Shop,
) -> None:
    late = (datetime.now(UTC) - timedelta(hours=7)).isoformat()
    heard = await shop.chat(
        *(customer("hello"), customer("hello", chat=OTHER), IDLE),
        *(owner("/exclude", id="exclude", at=late), customer("/human", chat=OTHER, id="human", at=late)),
        *(IDLE, customer("price", id="1"), customer("price", chat=OTHER, id="2"), IDLE),
        *(customer("/help", chat=THIRD, id="help", at=late), IDLE),
    )
    assert heard.decided("exclude") == [Action.COMMAND_DONE]
    assert heard.decided("human")[0] is Action.HANDED_OFF
    assert heard.decided("1") == [Action.IGNORED_EXCLUDED]
    assert heard.decided("2") == [Action.IGNORED_PAUSED]
    assert heard.decided("help") == [Action.IGNORED_TOO_OLD]
    assert heard.said_to(THIRD) == []


async def test_a_provider_that_wants_money_is_told_of_once(shop: Shop, server: AIServer) -> None:
    with_model(shop, server)
    server.then(Refuses(status=402, type="billing_error"))
    async with shop.conversation() as conversation:
        conversation.say(customer("Hi", id="1"), IDLE, customer("Hello?", id="2"), IDLE)
        heard = await conversation.ended()
    assert len(heard.replies) == 2
    [notice] = heard.notices
    assert notice.startswith("I cannot answer with openai: its credit is used up.")
    assert heard.decided("1") == heard.decided("2") == [Action.FAILED]


async def test_the_model_hands_a_chat_over_and_knows_later_that_nobody_came(
    shop: Shop, server: AIServer
) -> None:
    with_model(shop, server, hand_off=True)
    reason = '{"reason": "wants her money back"}'
    server.then(Says(text="A person will help you.", calls=(("hand_off", reason),)), Says(text="I am sorry."))
    heard = await shop.chat(
        *(customer("I want my money back!", id="1", name="Ana"), IDLE, customer("Hello?", id="2"), IDLE),
        *(advance("3h"), customer("Anybody?", id="3"), IDLE),
    )
    assert heard.said_to() == ["A person will help you.", "I am sorry."]
    assert heard.decided("1") == [Action.HANDED_OFF]
    assert heard.decided("2")[0] is Action.IGNORED_PAUSED
    assert heard.notices[0] == "I hand Ana (+5511988880001) over to you: wants her money back"
    assert prompts(server)[-1] == [
        "> I want my money back!",
        "[staff was called]\nA person will help you.",
        "> Hello?",
        "[nobody came]",
        "> Anybody?",
    ]
    await assert_all_is_well(shop.dsn)
