"""Back by clock: after so much of the owner's silence as the chat or the business says, at a time, or never."""

from __future__ import annotations

from datetime import timedelta

import pytest

from storage.models import Action
from tests.acceptance.conversation import CONFIG, CUSTOMER, IDLE, OWNER, Shop, admin, advance, customer, owner
from tests.acceptance.test_hours import change_of_clocks, until

OTHER = "+5511988880002"


async def test_a_chat_has_a_time_of_its_own(shop: Shop) -> None:
    heard = await shop.chat(
        *(owner("/resume-after 4h", id="set"), owner("Hi"), owner("Hi", chat=OTHER), IDLE, advance("3h")),
        *(customer("price", id="1"), customer("price", id="other", chat=OTHER), IDLE),
        *(advance("61m"), customer("price", id="2"), IDLE),
    )
    assert heard.decided("set") == [Action.COMMAND_DONE]
    assert heard.decided("1")[0] is Action.IGNORED_PAUSED
    assert heard.decided("2") == heard.decided("other") == [Action.KEYWORD_REPLIED]
    assert f"the chat with {CUSTOMER} I am back when you have been quiet for 4 h" in heard.notices[0]


async def test_never_is_never_and_the_business_s_time_comes_back(shop: Shop) -> None:
    heard = await shop.chat(
        *(owner("/resume-after never"), owner("Hi"), IDLE, advance("240h"), customer("price", id="1"), IDLE),
        *(owner("/resume-after default"), IDLE, advance("1s"), customer("price", id="2"), IDLE),
    )
    assert heard.decided("1")[0] is Action.IGNORED_PAUSED
    # The ten days count: it was due as soon as it could be.
    assert heard.decided("2") == [Action.KEYWORD_REPLIED]


async def test_who_writes_in_a_pause_for_a_time_is_not_interrupted_when_it_ends_never_where_never_is_said(
    shop: Shop,
) -> None:
    shop.configure(CONFIG.replace("auto_resume_after: 2h", "auto_resume_after: never"))
    heard = await shop.chat(
        *(owner("/pause 30m"), owner("/pause 30m", chat=OTHER), IDLE, advance("29m")),
        *(owner("I look it up, one moment"), IDLE, advance("2m"), customer("price", id="1"), IDLE),
        *(advance("24h"), customer("price", id="2"), customer("price", chat=OTHER, id="3"), IDLE),
        *(owner("/status"), IDLE),
    )
    assert heard.decided("1") == heard.decided("2") == [Action.IGNORED_PAUSED]
    assert heard.decided("3") == [Action.KEYWORD_REPLIED]
    assert "until you send /resume" in heard.notices[-1]


async def test_where_the_business_says_never_a_chat_may_say_otherwise(shop: Shop) -> None:
    shop.configure(CONFIG.replace("auto_resume_after: 2h", "auto_resume_after: never"))
    heard = await shop.chat(
        *(customer("hi", name="Ana"), owner("Hi"), owner("Hi", chat=OTHER), IDLE),
        *(admin("/resume-after Ana 1h"), IDLE, admin("/status Ana"), IDLE, advance("61m")),
        *(customer("price", id="1"), customer("price", id="2", chat=OTHER), IDLE),
    )
    assert heard.decided("1") == [Action.KEYWORD_REPLIED]
    assert heard.decided("2") == [Action.IGNORED_PAUSED]


async def test_a_time_of_a_chat_outlives_the_process(shop: Shop) -> None:
    await shop.chat(owner("/resume-after 30m", id="a"), owner("Hi", id="b"), IDLE)
    heard = await shop.chat(advance("31m"), customer("price", id="1"), IDLE)
    assert heard.decided("b") == [Action.RESUMED]
    assert heard.decided("1") == [Action.KEYWORD_REPLIED]


async def test_status_tells_the_return_as_the_clock_goes_by_it(shop: Shop) -> None:
    heard = await shop.chat(
        *(owner("Hi", chat=OTHER), IDLE, advance("24h"), customer("/human", chat=OTHER), IDLE),
        *(owner("/status", chat=OTHER), owner("/pause 30m"), IDLE, advance("20m"), owner("me again"), IDLE),
        *(advance("15m"), owner("/status"), owner("/status", chat=OWNER), IDLE, advance("105m"), IDLE),
        *(customer("price", id="1"), IDLE),
    )
    asked_for_a_person, by_hand, everywhere = [n for n in heard.notices if "since" in n]
    assert "(in 2 h)" in asked_for_a_person
    # Twenty minutes into the half hour the owner wrote: two hours from then.
    assert "by command" in by_hand
    assert "(in 1 h 45 min)" in by_hand
    assert "(in 1 h 45 min)" in everywhere
    assert heard.decided("1") == [Action.KEYWORD_REPLIED]


@pytest.mark.parametrize("to_summer", [True, False], ids=["an hour less", "an hour more"])
async def test_hours_of_silence_are_hours_also_when_the_clocks_change(shop: Shop, to_summer: bool) -> None:
    midnight = change_of_clocks(to_summer=to_summer)
    heard = await shop.chat(
        *(until(midnight + timedelta(hours=1)), owner("/resume-after 4h"), owner("Hi", id="0"), IDLE),
        *(advance("239m"), customer("price", id="1"), IDLE, advance("2m"), customer("price", id="2"), IDLE),
    )
    assert heard.decided("1")[0] is Action.IGNORED_PAUSED
    assert heard.decided("2") == [Action.KEYWORD_REPLIED]
