"""What the owner is told unasked: who waits for a person, where the bot is back; once, and quietly by night."""

from __future__ import annotations

from datetime import timedelta

from storage.models import Action
from tests.acceptance.conversation import (
    CONFIG,
    CUSTOMER,
    IDLE,
    OWNER,
    Notice,
    Shop,
    advance,
    customer,
    owner,
)
from tests.acceptance.invariants import assert_all_is_well
from tests.acceptance.test_hours import next_wall, until

OTHER, PRIVATE = "+5511988880002", "+5511999990007"


def configured(shop: Shop, *keys: str, tenant: str = "") -> None:
    notify = "".join(f"      {key}\n" for key in keys)
    shop.configure(
        CONFIG.replace(
            "    auto_resume_after: 2h\n",
            f"    auto_resume_after: 2h\n    timezone: Europe/Berlin\n{tenant}    notify:\n{notify}",
        )
    )


async def test_a_customer_who_waits_for_a_person_is_told_of_twice_and_no_more(shop: Shop) -> None:
    heard = await shop.chat(
        *(customer("/human", name="Ana"), IDLE, advance("14m"), advance("2m"), advance("10m"), IDLE),
        *(customer("hello?"), IDLE, advance("20m")),
    )
    asked, waits = heard.notices
    assert "Ana (+5511988880001) asks for a person" in asked
    assert "Ana (+5511988880001) has been waiting for a person for 16 min" in waits
    await assert_all_is_well(shop.dsn)


async def test_who_asks_for_a_person_again_and_again_in_a_pause_is_told_of_once(shop: Shop) -> None:
    asked = customer("/human")
    heard = await shop.chat(
        *(
            customer("hello"),
            IDLE,
            owner("/pause"),
            IDLE,
            asked,
            IDLE,
            asked,
            IDLE,
            advance("1h"),
            asked,
            IDLE,
        ),
        *(owner("What is it?"), IDLE, asked, IDLE, asked, IDLE),
    )
    assert len([notice for notice in heard.notices if "asks for a person" in notice]) == 2


async def test_nobody_waits_whom_the_owner_has_answered(shop: Shop) -> None:
    heard = await shop.chat(
        customer("/human"), IDLE, advance("5m"), owner("Here I am"), IDLE, advance("30m"), IDLE
    )
    assert len(heard.notices) == 1


async def test_the_bot_tells_before_and_after_it_returns(shop: Shop) -> None:
    configured(shop, "before_resume: 10m")
    heard = await shop.chat(
        *(customer("hi", name="Ana"), IDLE, owner("Hi Ana!"), IDLE, advance("109m"), advance("2m")),
        *(advance("1m"), advance("10m"), customer("price", id="Q"), IDLE),
    )
    before, after = heard.notices
    assert before.startswith("I stay out of Ana (+5511988880001) until ")
    assert after == "I answer Ana (+5511988880001) again."
    assert heard.decided("Q") == [Action.KEYWORD_REPLIED]


async def test_no_return_is_told_where_the_bot_stays_silent(shop: Shop) -> None:
    configured(shop, "before_resume: 10m")
    excluded, left = "+5511988880002", "+5511988880003"
    heard = await shop.chat(
        *(owner("Hi", chat=excluded), owner("/exclude", chat=excluded), IDLE),
        *(owner("Hi", chat=left), customer("/stop", chat=left), IDLE, advance("115m"), advance("10m"), IDLE),
        *(owner("Hi"), owner("/global pause", chat=OWNER), IDLE, advance("115m"), advance("10m"), IDLE),
    )
    assert [notice.partition(":")[0] for notice in heard.notices] == ["Excluded", "Paused everywhere"]


async def test_returns_at_one_moment_are_one_notice(shop: Shop) -> None:
    heard = await shop.chat(
        *(owner("one"), owner("two", chat=OTHER), IDLE, advance("3h"), IDLE),
    )
    [notice] = heard.notices
    assert notice.splitlines() == [f"• I answer {who} again." for who in (CUSTOMER, OTHER)]


async def test_the_owner_need_not_hear_of_returns(shop: Shop) -> None:
    configured(shop, "resumed: false", "waiting_after: never")
    heard = await shop.chat(owner("Hi"), advance("3h"), customer("/human", chat=OTHER), IDLE, advance("1h"))
    assert len(heard.notices) == 1


async def test_notices_go_to_the_number_that_was_chosen_and_wait_for_the_morning(shop: Shop) -> None:
    configured(shop, f'to: "{PRIVATE}"', "waiting_after: never")
    night = next_wall("23:00")
    heard = await shop.chat(
        *(until(night), customer("/human", id="1"), IDLE, advance("3h"), IDLE),
        *(customer("/human", id="2", chat=OTHER), IDLE, owner("/status"), IDLE),
        *(until(night + timedelta(hours=7, minutes=59)), until(night + timedelta(hours=8)), IDLE),
        *(customer("/human", id="3", chat="+5511988880003"), IDLE),
    )
    told = [(o.to, o.text) for o in heard.outputs if isinstance(o, Notice)]
    # What the owner asks is answered at once, and in the chat with themselves.
    assert [to for to, _ in told] == ["owner", PRIVATE, PRIVATE]
    held = told[1][1].splitlines()
    assert held[0] == "While it was quiet:"
    assert [line.split(" ", 1)[1].partition(".")[0] for line in held[1:]] == [
        f"{CUSTOMER} asks for a person",
        f"I answer {CUSTOMER} again",
        f"{OTHER} asks for a person",
        f"I answer {OTHER} again",
    ]
    assert "+5511988880003 asks for a person" in told[2][1]


async def test_what_is_held_back_outlives_the_process_and_is_told_once(shop: Shop) -> None:
    configured(shop, "quiet: 22:00-7:00")
    night = next_wall("23:00")
    first = await shop.chat(until(night), customer("/human"), IDLE)
    assert first.notices == []
    second = await shop.chat(until(night + timedelta(hours=9)), IDLE, advance("1h"))
    assert len(second.notices) == 1
    assert "asks for a person" in second.notices[0]
    third = await shop.chat(advance("1m"), IDLE)
    assert third.notices == []


async def test_who_asks_for_a_person_at_night_is_told_of_again_when_it_opens(shop: Shop) -> None:
    configured(shop, "waiting_after: 15m", tenant="    hours: {open: {mon-sun: 9:00-18:00}}\n")
    night = next_wall("20:00")
    heard = await shop.chat(
        *(until(night), customer("/human"), IDLE, advance("2h"), advance("10h")),
        *(until(night + timedelta(hours=13, minutes=1)), IDLE),
    )
    asked, waits = heard.notices
    assert "asks for a person" in asked
    assert "has been waiting for a person for 13 h 1 min" in waits


async def test_a_command_in_reply_to_a_notice_is_about_its_chat(shop: Shop) -> None:
    async with shop.conversation() as conversation:
        conversation.say(customer("/human", name="Ana"), IDLE)
        while not isinstance(notice := await conversation.next(), Notice):
            pass
        conversation.say(
            owner("/resume", chat=OWNER, reply_to=notice.id), IDLE, customer("price", id="Q"), IDLE
        )
        heard = await conversation.ended()
    assert heard.notices[-1] == "I answer Ana (+5511988880001) again."
    assert heard.decided("Q") == [Action.KEYWORD_REPLIED]
