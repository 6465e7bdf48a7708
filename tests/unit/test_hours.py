"""Business hours: open and closed by the clocks on the wall, also on the days on which these change."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from storage.hours import Closed, Hours, read_day, read_spans

BERLIN = ZoneInfo("Europe/Berlin")
WEEKDAYS = Hours(week=(read_spans("9:00-18:00"),) * 5 + ((), ()), holidays={})


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def until(hours: Hours, now: str) -> str | None:
    """When it opens, in Berlin; None while it is open."""
    closed = hours.closed_at(at(now), BERLIN)
    if closed is None:
        return None
    assert closed.until is not None
    return closed.until.astimezone(BERLIN).isoformat(timespec="minutes")


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        ("2026-03-10T09:00+01:00", None),
        ("2026-03-10T17:59:59+01:00", None),
        ("2026-03-10T18:00+01:00", "2026-03-11T09:00+01:00"),
        ("2026-03-10T08:59+01:00", "2026-03-10T09:00+01:00"),
        ("2026-03-13T18:30+01:00", "2026-03-16T09:00+01:00"),
        ("2026-03-27T18:30+01:00", "2026-03-30T09:00+02:00"),  # the clocks change meanwhile
        ("2026-10-23T18:30+02:00", "2026-10-26T09:00+01:00"),
    ],
)
def test_it_is_closed_at_night_and_at_the_weekend(now: str, opens: str | None) -> None:
    assert until(WEEKDAYS, now) == opens


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        ("2026-12-24T10:00+01:00", None),
        ("2026-12-24T12:00+01:00", "2026-12-28T09:00+01:00"),  # Christmas, and then a weekend
        ("2027-12-24T13:00+01:00", "2027-12-27T09:00+01:00"),
        ("2026-12-31T10:00+01:00", "2027-01-01T09:00+01:00"),
        ("2027-12-31T10:00+01:00", None),  # a holiday of one year only
    ],
)
def test_a_holiday_has_hours_of_its_own_or_none(now: str, opens: str | None) -> None:
    holidays = {"12-24": read_spans("9:00-12:00"), "12-25": (), "2026-12-31": ()}
    assert until(Hours(week=WEEKDAYS.week, holidays=holidays), now) == opens


def test_a_span_goes_on_after_midnight_and_the_lunch_break_is_closed() -> None:
    bar = Hours(week=(read_spans(["12:00-14:00", "18:00-2:00"]),) * 7, holidays={"03-11": ()})
    assert (
        until(bar, "2026-03-11T01:59+01:00") is None
    )  # the evening of the tenth, although the eleventh is a holiday
    assert until(bar, "2026-03-11T02:00+01:00") == "2026-03-12T12:00+01:00"
    assert until(bar, "2026-03-10T15:00+01:00") == "2026-03-10T18:00+01:00"


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        # 2:00 becomes 3:00, so 2:30 is not shown: it opens as soon as it would have been.
        ("2026-03-29T01:59+01:00", "2026-03-29T03:00+02:00"),
        ("2026-03-29T03:00+02:00", None),
        # 3:00 becomes 2:00: half past two comes twice, and so does what is open then.
        ("2026-10-25T02:20+02:00", "2026-10-25T02:30+02:00"),
        ("2026-10-25T02:45+02:00", None),
        ("2026-10-25T02:20+01:00", "2026-10-25T02:30+01:00"),
        ("2026-10-25T02:45+01:00", None),
    ],
)
def test_when_the_clocks_change_what_they_show_counts(now: str, opens: str | None) -> None:
    assert until(Hours(week=(read_spans("2:30-5:00"),) * 7, holidays={}), now) == opens


def test_what_never_opens_has_no_end() -> None:
    never = Hours(week=((),) * 7, holidays={})
    assert never.closed_at(at("2026-03-10T12:00Z"), BERLIN) == Closed(until=None)
    assert "…" in Hours(week=((),) * 7, holidays={}, away="{time}").away_text(Closed(until=None), BERLIN)


def test_the_away_text_tells_the_day_and_time_of_the_opening() -> None:
    hours = Hours(week=WEEKDAYS.week, holidays={}, away="{date}, {time} {or} {")
    closed = hours.closed_at(at("2026-03-27T18:30+01:00"), BERLIN)
    assert closed is not None
    assert hours.away_text(closed, BERLIN) == "2026-03-30, 09:00 {or} {"


def test_hours_are_read_back_as_they_were_kept() -> None:
    hours = Hours(
        week=(read_spans(["12:00-14:00", "18:00-2:00"]), read_spans("0:00-24:00"), *((),) * 5),
        holidays={"12-25": (), "2026-12-24": read_spans("9:00-12:00")},
    )
    assert Hours.read(hours.as_json()) == hours


@pytest.mark.parametrize(
    "text", ["9-18", "9:00", "25:00-26:00", "9:00-24:01", "24:00-2:00", "9:60-10:00", ""]
)
def test_what_are_no_hours(text: str) -> None:
    with pytest.raises(ValueError, match="should be hours"):
        read_spans(text)


@pytest.mark.parametrize("text", ["Christmas", "13-01", "02-30", "2026-02-29", "25-12", ""])
def test_what_is_no_day(text: str) -> None:
    with pytest.raises(ValueError, match="should be a day"):
        read_day(text)


def test_the_leap_day_is_a_day() -> None:
    assert read_day("02-29") == "02-29"
