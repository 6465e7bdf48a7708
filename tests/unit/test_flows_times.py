"""Durations and times of day, as people type them and as they are told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

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
        ("2h30", timedelta(hours=2, minutes=30)),
        ("1d 2h 5", timedelta(days=1, hours=2, minutes=5)),
        ("2 hours", timedelta(hours=2)),
        ("45 min", timedelta(minutes=45)),
    ],
)
def test_durations_as_people_type_them(text: str, span: timedelta) -> None:
    assert parse_span(text) == span


@pytest.mark.parametrize(
    "text",
    ["", "2", "h", "2x", "0m", "-2h", "2h!", "1.5h", "400d", "2 horses", "99999d", "2hh", "2h60", "2h301"],
)
def test_what_is_no_duration(text: str) -> None:
    assert parse_span(text) is None


def test_a_time_of_day_is_the_next_one() -> None:
    assert parse_clock("18:00", NOW, UTC) == datetime(2026, 3, 10, 18, 0, tzinfo=UTC)
    assert parse_clock("9:30", NOW, UTC) == datetime(2026, 3, 11, 9, 30, tzinfo=UTC)
    assert parse_clock("14:00", NOW, UTC) == datetime(2026, 3, 11, 14, 0, tzinfo=UTC)
    assert [parse_clock(text, NOW, UTC) for text in ("24:00", "18", "18:60", "tomorrow", "")] == [None] * 5


SAO_PAULO, BERLIN = ZoneInfo("America/Sao_Paulo"), ZoneInfo("Europe/Berlin")


def test_a_time_of_day_is_meant_and_told_by_the_clocks_on_the_wall() -> None:
    at = parse_clock("18:00", NOW, SAO_PAULO)  # 14:00 UTC is 11:00 there
    assert at == datetime(2026, 3, 10, 21, 0, tzinfo=UTC)
    assert until_in_words(at, NOW, SAO_PAULO) == "until 18:00 (in 7 h)"
    late = datetime(2026, 3, 11, 1, 30, tzinfo=UTC)  # still the tenth there
    assert until_in_words(late, NOW, SAO_PAULO) == "until 22:30 (in 11 h 30 min)"
    assert parse_clock("23:00", late, SAO_PAULO) == datetime(2026, 3, 11, 2, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "text", "at"),
    [
        # 29 March 2026: 2:00 becomes 3:00.
        ("2026-03-28T20:00+01:00", "8:00", "2026-03-29T08:00+02:00"),
        ("2026-03-29T00:30+01:00", "2:30", "2026-03-29T03:00+02:00"),
        ("2026-03-29T03:00+02:00", "2:30", "2026-03-30T02:30+02:00"),
        # 25 October 2026: 3:00 becomes 2:00.
        ("2026-10-24T20:00+02:00", "8:00", "2026-10-25T08:00+01:00"),
        ("2026-10-25T01:00+02:00", "2:30", "2026-10-25T02:30+02:00"),
        ("2026-10-25T02:45+02:00", "2:30", "2026-10-25T02:30+01:00"),
        ("2026-10-25T02:30+01:00", "2:30", "2026-10-26T02:30+01:00"),
    ],
)
def test_a_time_of_day_is_right_when_the_clocks_change(now: str, text: str, at: str) -> None:
    assert parse_clock(text, datetime.fromisoformat(now), BERLIN) == datetime.fromisoformat(at)


def test_times_are_told_relatively_and_as_utc() -> None:
    assert span_in_words(timedelta(hours=2, minutes=30)) == "2 h 30 min"
    assert span_in_words(timedelta(days=1, hours=1, minutes=5)) == "1 day 1 h"
    assert span_in_words(timedelta(seconds=5)) == "less than a minute"
    assert until_in_words(NOW + timedelta(hours=4), NOW, UTC) == "until 18:00 UTC (in 4 h)"
    assert until_in_words(NOW + timedelta(days=1), NOW, UTC) == "until 11 Mar 14:00 UTC (in 1 day)"


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
    assert split_time(arguments, NOW, UTC) == (who, None if hours is None else NOW + timedelta(hours=hours))


@pytest.mark.parametrize(
    "arguments", ["2x", "30", "0m", "until", "until noon", "Ana until 25:00", "Ana 500d", "2h30x"]
)
def test_pause_does_not_guess_at_a_time(arguments: str) -> None:
    with pytest.raises(BadTime):
        split_time(arguments, NOW, UTC)
