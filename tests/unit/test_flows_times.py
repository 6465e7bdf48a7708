"""Durations and times of day, as people type them and as they are told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from flows.commands.pause import BadTime, split_time
from flows.commands.times import parse_clock, parse_span, span_in_words, until_in_words
from tests.unit.flow_world import NOW


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("30m", timedelta(minutes=30)),
        ("2h", timedelta(hours=2)),
        ("1d", timedelta(days=1)),
        ("2h30m", timedelta(hours=2, minutes=30)),
        ("2H 30M", timedelta(hours=2, minutes=30)),
        ("2 hours", timedelta(hours=2)),
        ("45 min", timedelta(minutes=45)),
    ],
)
def test_durations_as_people_type_them(text: str, span: timedelta) -> None:
    assert parse_span(text) == span


@pytest.mark.parametrize(
    "text", ["", "2", "h", "2x", "0m", "-2h", "2h!", "1.5h", "400d", "2 horses", "99999d", "2hh"]
)
def test_what_is_no_duration(text: str) -> None:
    assert parse_span(text) is None


def test_a_time_of_day_is_the_next_one() -> None:
    assert parse_clock("18:00", NOW) == datetime(2026, 3, 10, 18, 0, tzinfo=UTC)
    assert parse_clock("9:30", NOW) == datetime(2026, 3, 11, 9, 30, tzinfo=UTC)
    assert parse_clock("14:00", NOW) == datetime(2026, 3, 11, 14, 0, tzinfo=UTC)
    assert [parse_clock(text, NOW) for text in ("24:00", "18", "18:60", "tomorrow", "")] == [None] * 5


def test_times_are_told_relatively_and_as_utc() -> None:
    assert span_in_words(timedelta(hours=2, minutes=30)) == "2 h 30 min"
    assert span_in_words(timedelta(days=1, hours=1, minutes=5)) == "1 day 1 h"
    assert span_in_words(timedelta(seconds=5)) == "less than a minute"
    assert until_in_words(NOW + timedelta(hours=4), NOW) == "until 18:00 UTC (in 4 h)"
    assert until_in_words(NOW + timedelta(days=1), NOW) == "until 11 Mar 14:00 UTC (in 1 day)"


@pytest.mark.parametrize(
    ("arguments", "who", "hours"),
    [
        ("", "", None),
        ("2h", "", 2),
        ("for 2h", "", 2),
        ("Ana", "Ana", None),
        ("Ana 2h", "Ana", 2),
        ("Ana Souza for 2 hours", "Ana Souza", 2),
        ("until 18:00", "", 4),
        ("Ana until 18:00", "Ana", 4),
        ("Ana Until 18:00", "Ana", 4),
        ("+55 11 99999-0001 2h", "+55 11 99999-0001", 2),
        ("+55 11 99999 0001", "+55 11 99999 0001", None),
        ("5511999990001", "5511999990001", None),
    ],
)
def test_pause_parts_who_from_how_long(arguments: str, who: str, hours: int | None) -> None:
    assert split_time(arguments, NOW) == (who, None if hours is None else NOW + timedelta(hours=hours))


@pytest.mark.parametrize(
    "arguments", ["2x", "30", "0m", "until", "until noon", "Ana until 25:00", "Ana 500d", "2h30x"]
)
def test_pause_does_not_guess_at_a_time(arguments: str) -> None:
    with pytest.raises(BadTime):
        split_time(arguments, NOW)
