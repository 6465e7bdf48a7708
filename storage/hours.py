"""Business hours: when somebody is there, by the clocks on the wall, and what is said when nobody is; pure.

A day is open in spans such as 9:00-18:00. One that ends before it begins, 18:00-2:00, goes on into the next day. A
holiday's own spans, mostly none, take the place of its weekday's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from typing import Any

from storage.zones import showings

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DEFAULT_AWAY = "Thank you for your message! We are closed just now, and answer when we are open again."
OPENING = ("{time}", "{date}")

_SPAN = re.compile(r"(\d{1,2}):([0-5]\d)\s*-\s*(\d{1,2}):([0-5]\d)")
_YEARLY = re.compile(r"\d{2}-\d{2}")
_A_DAY = 24 * 60
_LEAP_YEAR = 2024
_LOOK_AHEAD = timedelta(days=370)
"""Beyond every yearly holiday: what is closed for longer opens no more, as far as anybody is told."""

Span = tuple[int, int]
"""Minutes after midnight; the end, which is not in it, may be on the next day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """Nobody is there until then; `until` None: not within a year."""

    until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """`week` is seven days, Monday first; `holidays` by `2026-12-25`, or `12-25` for each year's.

    `away` is what a customer is told when it is closed, once until it opens, or again after `away_again`. With
    `keywords` the answers that the owner wrote beforehand are given all the same, and `away` takes the place
    of every other answer.
    """

    week: tuple[tuple[Span, ...], ...]
    holidays: Mapping[str, tuple[Span, ...]]
    away: str = DEFAULT_AWAY
    away_again: timedelta | None = None
    keywords: bool = False

    def closed_at(self, now: datetime, zone: tzinfo) -> Closed | None:
        """None while it is open."""
        wall = now.astimezone(zone).replace(tzinfo=None)
        if any(begin <= wall < end for begin, end in self._around(wall.date())):
            return None
        return Closed(until=self._opens_after(wall.date(), now, zone))

    def away_text(self, closed: Closed, zone: tzinfo) -> str:
        """What a customer is told."""
        return with_opening(self.away, closed, zone)

    def as_json(self) -> dict[str, Any]:
        """As the store keeps it, and `read` reads it."""
        again = self.away_again
        return {
            "open": {day: spans_told(spans) for day, spans in zip(DAYS, self.week, strict=True) if spans},
            "holidays": {day: spans_told(spans) for day, spans in sorted(self.holidays.items())},
            "away": self.away,
            "away_again": None if again is None else again.total_seconds(),
            "keywords": self.keywords,
        }

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Hours:
        """From `as_json`, or from what SQL has written in its place. Raises ValueError."""
        try:
            open_on, again = dict(told["open"]), told.get("away_again")
            return cls(
                week=tuple(read_spans(open_on.pop(day, ())) for day in DAYS),
                holidays={
                    read_day(day): read_spans(spans) for day, spans in told.get("holidays", {}).items()
                },
                away=str(told.get("away") or DEFAULT_AWAY),
                away_again=None if again is None else timedelta(seconds=again),
                keywords=bool(told.get("keywords", False)),
            )
        except (KeyError, TypeError, AttributeError, OverflowError) as exc:
            raise ValueError(f"no business hours: {exc}") from exc

    def _spans(self, day: date) -> tuple[Span, ...]:
        for named in (f"{day:%Y-%m-%d}", f"{day:%m-%d}"):
            if named in self.holidays:
                return self.holidays[named]
        return self.week[day.weekday()]

    def _walls(self, day: date) -> Iterator[tuple[datetime, datetime]]:
        midnight = datetime.combine(day, time())
        for begin, end in self._spans(day):
            yield midnight + timedelta(minutes=begin), midnight + timedelta(minutes=end)

    def _around(self, day: date) -> Iterator[tuple[datetime, datetime]]:
        yield from self._walls(day - timedelta(days=1))
        yield from self._walls(day)

    def _opens_after(self, today: date, now: datetime, zone: tzinfo) -> datetime | None:
        for days in range(_LOOK_AHEAD.days):
            begins = (
                m for begin, _ in self._walls(today + timedelta(days=days)) for m in showings(begin, zone)
            )
            if (opens := min((begin for begin in begins if begin > now), default=None)) is not None:
                return opens
        return None


def with_opening(text: str, closed: Closed, zone: tzinfo) -> str:
    """With the `OPENING` placeholders, the time and the day of the next opening, filled in."""
    opens = closed.until.astimezone(zone) if closed.until else None
    shown = (f"{opens:%H:%M}", f"{opens:%Y-%m-%d}") if opens else ("…", "…")
    for placeholder, value in zip(OPENING, shown, strict=True):
        text = text.replace(placeholder, value)
    return text


def read_spans(told: str | Sequence[str]) -> tuple[Span, ...]:
    """`9:00-12:00`, or several in a list; `closed` is none. Raises ValueError."""
    texts = [told] if isinstance(told, str) else told
    return tuple(sorted(_read_span(text) for text in texts if text.strip().lower() != "closed"))


def read_day(told: str) -> str:
    """`2026-12-25`, or `12-25` for each year's, as itself. Raises ValueError."""
    day = told.strip()
    try:
        date.fromisoformat(f"{_LEAP_YEAR}-{day}" if _YEARLY.fullmatch(day) else day)
    except ValueError as exc:
        raise ValueError("should be a day such as 2026-12-25, or 12-25 for every year") from exc
    return day


def _read_span(text: str) -> Span:
    if (match := _SPAN.fullmatch(text.strip())) is None:
        raise ValueError("should be hours such as 9:00-18:00, or closed")
    begin, end = int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])
    if begin >= _A_DAY or end > _A_DAY:
        raise ValueError("should be hours of a day, from 0:00 to 24:00")
    return begin, end if end > begin else end + _A_DAY


def spans_told(spans: Sequence[Span]) -> list[str]:
    """As `read_spans` reads them."""
    return [f"{_clock(begin)}-{_clock(end if end <= _A_DAY else end - _A_DAY)}" for begin, end in spans]


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"
