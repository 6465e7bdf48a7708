"""A business that is closed: one away message and no answer, and times of day by the clocks where it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from storage.models import Action
from tests.acceptance.conversation import (
    CONFIG,
    DEFAULT,
    HOURS,
    IDLE,
    PRICES,
    Line,
    Shop,
    advance,
    customer,
    owner,
)
from tests.acceptance.invariants import assert_all_is_well

OTHER = "+5511988880002"
BERLIN = ZoneInfo("Europe/Berlin")
AWAY = "Closed until 09:00."
OPEN = """\
    timezone: Europe/Berlin
    hours:
      open: {mon-sun: 9:00-18:00}
      away: "Closed until {time}."
"""


def configured(shop: Shop, tenant: str = OPEN) -> None:
    shop.configure(CONFIG.replace("    auto_resume_after: 2h\n", f"    auto_resume_after: 2h\n{tenant}"))


def next_wall(clock: str, *, on: tuple[int, int] | None = None) -> datetime:
    """The next day but one, or the next such month and day, at this time in Berlin: always ahead of the clock."""
    now = datetime.now(BERLIN)
    day = now.date() + timedelta(days=2)
    while on is not None and (day.month, day.day) != on:
        day += timedelta(days=1)
    return datetime.combine(day, datetime.strptime(clock, "%H:%M").time(), tzinfo=BERLIN)  # noqa: DTZ007


def until(moment: datetime) -> Line:
    return {"until": moment.astimezone(UTC).isoformat()}


def change_of_clocks(*, to_summer: bool) -> datetime:
    """Midnight of the next day on which the clocks in Berlin change, in local time."""
    day = next_wall("0:00")
    while True:
        longer = (day + timedelta(days=1)).utcoffset() != day.utcoffset()
        if longer and bool((day + timedelta(days=1)).dst()) is to_summer:
            return day
        day += timedelta(days=1)


async def test_at_night_there_is_one_away_message_and_no_answer(shop: Shop) -> None:
    configured(shop)
    night = next_wall("20:00")
    heard = await shop.chat(
        *(until(night), customer("price", id="1"), IDLE, customer("and hours?", id="2"), IDLE),
        *(customer("hello", id="other", chat=OTHER), IDLE),
        *(until(night + timedelta(hours=14)), customer("price", id="3"), IDLE),
        *(until(night + timedelta(hours=24)), customer("price", id="4"), IDLE),
    )
    assert heard.said_to() == [AWAY, PRICES, AWAY]
    assert heard.said_to(OTHER) == [AWAY]
    assert [heard.decided(n) for n in "1234"] == [
        *([Action.AWAY_SENT], [Action.IGNORED_CLOSED], [Action.KEYWORD_REPLIED], [Action.AWAY_SENT]),
    ]
    await assert_all_is_well(shop.dsn)


async def test_a_burst_at_night_is_one_away_message(shop: Shop) -> None:
    configured(shop)
    heard = await shop.chat(
        until(next_wall("20:00")), customer("hello", id="1"), customer("price", id="2"), IDLE
    )
    [reply] = heard.replies
    assert (reply.text, reply.in_reply_to) == (AWAY, ("1", "2"))
    assert (heard.decided("1"), heard.decided("2")) == ([Action.JOINED], [Action.AWAY_SENT])


async def test_what_was_said_at_night_is_not_said_again_after_a_restart(shop: Shop) -> None:
    configured(shop)
    night = next_wall("20:00")
    await shop.chat(until(night), customer("price", id="1"), IDLE)
    heard = await shop.chat(until(night + timedelta(hours=1)), customer("price", id="2"), IDLE)
    assert heard.replies == []
    assert heard.decided("2") == [Action.IGNORED_CLOSED]


async def test_the_away_message_may_be_repeated_and_known_words_answered(shop: Shop) -> None:
    configured(shop, OPEN + "      keywords: true\n      away_again: 2h\n")
    heard = await shop.chat(
        *(until(next_wall("20:00")), customer("price", id="1"), IDLE, customer("who knows?", id="2"), IDLE),
        *(advance("1h"), customer("hello?", id="3"), IDLE, advance("61m"), customer("hello?", id="4"), IDLE),
    )
    assert heard.said_to() == [PRICES, AWAY, AWAY]
    assert heard.decided("1") == [Action.KEYWORD_REPLIED]
    assert heard.decided("3") == [Action.IGNORED_CLOSED]


async def test_a_holiday_is_closed_and_may_have_hours_of_its_own(shop: Shop) -> None:
    configured(shop, OPEN + "      holidays: [12-25, 12-24 9:00-12:00]\n")
    eve = next_wall("11:00", on=(12, 24))
    heard = await shop.chat(
        *(until(eve), customer("price", id="1"), IDLE),
        *(until(eve + timedelta(hours=2)), customer("price", id="2"), IDLE),
        *(until(eve + timedelta(days=1)), customer("price", id="3"), IDLE),
        *(until(eve + timedelta(days=2)), customer("price", id="4"), IDLE),
    )
    assert heard.said_to() == [PRICES, AWAY, PRICES]
    assert heard.decided("3") == [Action.IGNORED_CLOSED]


async def test_where_the_bot_is_silent_anyway_there_is_no_away_message(shop: Shop) -> None:
    configured(shop)
    heard = await shop.chat(
        *(until(next_wall("20:00")), owner("I am still here", id="takeover"), IDLE),
        *(customer("price", id="1"), IDLE, customer("/stop", chat=OTHER), IDLE),
        *(customer("price", id="2", chat=OTHER), IDLE),
    )
    assert heard.said_to() == []
    assert AWAY not in heard.said_to(OTHER)
    assert (heard.decided("1"), heard.decided("2")) == ([Action.IGNORED_PAUSED], [Action.IGNORED_OPTED_OUT])


async def test_an_owner_who_writes_first_takes_the_away_message_s_place(shop: Shop) -> None:
    configured(shop)
    heard = await shop.chat(
        until(next_wall("20:00")), customer("price", id="1"), owner("It is 10!", id="2"), IDLE
    )
    assert heard.replies == []
    assert heard.decided("1") == [Action.SUPERSEDED]


async def test_who_asks_for_a_person_at_night_waits_for_one_until_it_is_open(shop: Shop) -> None:
    configured(shop)
    night = next_wall("20:00")
    heard = await shop.chat(
        *(until(night), customer("/human", id="ask"), IDLE, customer("my order?", id="1"), IDLE),
        # 9:00 and the two hours for a person to answer are 11:00.
        *(until(night + timedelta(hours=14, minutes=55)), customer("price", id="2"), IDLE),
        *(until(night + timedelta(hours=15, minutes=5)), customer("price", id="3"), IDLE),
    )
    assert heard.decided("ask") == [Action.HANDED_OFF]
    assert "when we are open again" in heard.said_to()[0]
    assert heard.decided("1") == [Action.IGNORED_PAUSED]
    assert heard.decided("2") == [Action.IGNORED_PAUSED, Action.RESUMED]
    assert heard.said_to()[1:] == [PRICES]
    asked, waiting, back = heard.notices
    assert "asks for a person" in asked
    assert "has been waiting for a person" in waiting
    assert back == "I answer +5511988880001 again."


async def test_without_hours_it_is_never_closed(shop: Shop) -> None:
    heard = await shop.chat(until(next_wall("3:00")), customer("hi", id="1"), IDLE, customer("hours", id="2"))
    assert heard.said_to() == [DEFAULT, HOURS]


@pytest.mark.parametrize("to_summer", [True, False], ids=["an hour less", "an hour more"])
async def test_a_pause_until_a_time_of_day_ends_by_the_clock_on_the_wall(shop: Shop, to_summer: bool) -> None:
    configured(shop, "    timezone: Europe/Berlin\n")
    midnight = change_of_clocks(to_summer=to_summer)
    heard = await shop.chat(
        *(until(midnight), owner("/pause until 8:00"), IDLE),
        *(until(midnight.replace(hour=7, minute=59)), customer("price", id="1"), IDLE),
        *(until(midnight.replace(hour=8, minute=1)), customer("price", id="2"), IDLE),
    )
    assert f"until 08:00 (in {7 if to_summer else 9} h)" in heard.notices[0]
    assert heard.decided("1") == [Action.IGNORED_PAUSED, Action.RESUMED]
    assert heard.decided("2") == [Action.KEYWORD_REPLIED]


@pytest.mark.parametrize("to_summer", [True, False], ids=["an hour less", "an hour more"])
async def test_it_opens_by_the_clock_on_the_wall(shop: Shop, to_summer: bool) -> None:
    configured(shop)
    midnight = change_of_clocks(to_summer=to_summer)
    heard = await shop.chat(
        *(until(midnight.replace(hour=8, minute=59)), customer("price", id="1"), IDLE),
        *(until(midnight.replace(hour=9, minute=1)), customer("price", id="2"), IDLE),
    )
    assert heard.said_to() == [AWAY, PRICES]


async def test_the_clock_goes_to_no_time_that_is_over_or_has_no_zone(shop: Shop) -> None:
    heard = await shop.chat({"until": "2020-01-01T00:00:00Z"}, {"until": "2030-01-01T00:00:00"}, {"until": 5})
    assert list(heard.errors) == [1, 2, 3]
    assert "is past that" in heard.errors[1]
    assert "until: needs a time zone" in heard.errors[2]
