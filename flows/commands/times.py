"""Durations and times of day as people type and read them, by the clocks where they are; pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta, tzinfo

from storage.zones import next_showing

LONGEST = timedelta(days=365)

_UNITS = {
    "d": timedelta(days=1),
    "day": timedelta(days=1),
    "days": timedelta(days=1),
    "h": timedelta(hours=1),
    "hour": timedelta(hours=1),
    "hours": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "min": timedelta(minutes=1),
    "minutes": timedelta(minutes=1),
}
_PART = re.compile(r"(\d{1,5})\s*(days?|hours?|minutes|min|[dhm])(?![a-z])", re.IGNORECASE)
# A part may touch the next one, "2h30m", so the look-ahead above is for letters only.
_SPAN = re.compile(rf"(?:{_PART.pattern}\s*)+", re.IGNORECASE)
# In many languages hours stand between the numbers: "1h30".
_MINUTES_BARE = re.compile(r"(?<=\d)\s*h\s*([0-5]?\d)$", re.IGNORECASE)
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


def parse_span(text: str) -> timedelta | None:
    """`30m`, `2h`, `1d`, `2h30m`, `2h30`, `2 hours`; None for anything else, for nothing, and beyond a year."""
    text = _MINUTES_BARE.sub(r"h\1m", text.strip())
    if not _SPAN.fullmatch(text):
        return None
    span = sum((int(count) * _UNITS[unit.lower()] for count, unit in _PART.findall(text)), timedelta())
    return span if timedelta() < span <= LONGEST else None


def parse_clock(text: str, now: datetime, zone: tzinfo) -> datetime | None:
    """The next time that a clock in this zone shows `18:00`, in UTC; None when the text is no time of day."""
    if not (match := _CLOCK.fullmatch(text.strip())):
        return None
    return next_showing(time(int(match[1]), int(match[2])), zone, now)


def span_in_words(span: timedelta) -> str:
    """The two largest units, rounded to the nearest minute: `2 h 30 min`, `3 days 1 h`, `less than a minute`."""
    minutes = round(span / timedelta(minutes=1))
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    day_words = f"{days} day" if days == 1 else f"{days} days"
    parts = [
        word
        for count, word in ((days, day_words), (hours, f"{hours} h"), (minutes, f"{minutes} min"))
        if count
    ]
    return " ".join(parts[:2]) or "less than a minute"


def until_in_words(moment: datetime, now: datetime, zone: tzinfo) -> str:
    """`until 18:00 (in 2 h)`; the date is named when it is not today's, and UTC where that is the zone."""
    shown = moment.astimezone(zone)
    is_today = shown.date() == now.astimezone(zone).date()
    clock = f"{shown:%H:%M}" if is_today else f"{shown:%d %b %H:%M}"
    return f"until {clock}{' UTC' if zone is UTC else ''} (in {span_in_words(moment - now)})"


def ago_in_words(moment: datetime, now: datetime) -> str:
    """`12 min ago`, `just now`."""
    span = now - moment
    return "just now" if span < timedelta(minutes=1) else f"{span_in_words(span)} ago"
