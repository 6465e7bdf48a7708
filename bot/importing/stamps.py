"""Times as WhatsApp's exports write them: any digits, separators, order and half of the day; pure, reads no file."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import date, datetime, time
from enum import StrEnum
from functools import lru_cache

from bot.importing.order import DateOrder
from bot.importing.vocabulary import words

INVISIBLE = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
"""Marks of direction, which WhatsApp sets around names, files and marks of its own."""

_BLANKS = re.compile(r"\s+")
_DATE = r"(?P<a>\d{1,4})\s?(?P<sep>[./年년-])\s?(?P<b>\d{1,2})\s?[./月월-]\s?(?P<c>\d{1,4})\s?[.日일]?"
_TIME = r"(?P<hour>\d{1,2})\s?[:.٫h時点시]\s?(?P<minute>\d{2})(?:[:.](?P<second>\d{2}))?"
_DATE_FIRST = re.compile(rf"{_DATE}[,،、]?(?P<before>\D{{0,24}}){_TIME}(?P<after>\D{{0,24}})")
_TIME_FIRST = re.compile(rf"(?P<before>\D{{0,24}}){_TIME}(?P<after>\D{{0,24}}?)[,،、]?\s{_DATE}")

# The halves of the day as languages abbreviate them; dots, blanks and case are left out of the comparison.
_AM = words("morning")
_PM = words("afternoon")
_NOON = words("noon")
_FILLERS = words("fillers")
_NOT_LETTERS = re.compile(r"[\s.,،'’״\"׳\u200c-]+")


class Half(StrEnum):
    """Which half of the day a clock of twelve hours means."""

    AM = "am"
    PM = "pm"
    NOON = "noon"


@dataclass(frozen=True, slots=True)
class Stamp:
    """A date and a time before it is known in which order the date stands. `form` is how it was written."""

    numbers: tuple[int, int, int]
    widths: tuple[int, int, int]
    time: time
    form: str

    def orders(self) -> set[DateOrder]:
        """The orders that its numbers can have, whatever their values."""
        first, _, last = self.widths
        if first > 2:
            return {DateOrder.YMD}
        if last > 2:
            return {DateOrder.DMY, DateOrder.MDY}
        return set(DateOrder)

    def read(self, order: DateOrder) -> datetime | None:
        """The time on the phone's clock; None where there is no such day in this order."""
        a, b, c = self.numbers
        match order:
            case DateOrder.DMY:
                day, month, year = a, b, c
            case DateOrder.MDY:
                month, day, year = a, b, c
            case DateOrder.YMD:
                year, month, day = a, b, c
        year += 2000 if year < 100 else 0
        # Thailand counts from the Buddha.
        year -= 543 if 2500 < year < 2700 else 0
        try:
            return datetime.combine(date(year, month, day), self.time)
        except ValueError:
            return None


@lru_cache(maxsize=1024)  # what is said in one minute stands under one
def read_stamp(text: str) -> Stamp | None:
    """What stands before a message, if it is a date and a time."""
    plain = _plain(text)
    found = _DATE_FIRST.fullmatch(plain) or _TIME_FIRST.fullmatch(plain)
    if found is None:
        return None
    halves = [_half(found["before"]), _half(found["after"])]
    if None in halves:
        return None
    half = next((h for h in halves if h), "")
    moment = _time(int(found["hour"]), int(found["minute"]), int(found["second"] or 0), half or "")
    if moment is None:
        return None
    parts = found["a"], found["b"], found["c"]
    form = "".join(
        (
            "t" if found.re is _TIME_FIRST else "d",
            found["sep"],
            "s" if found["second"] else "",
            "h" if half else "",
        )
    )
    return Stamp(
        (int(parts[0]), int(parts[1]), int(parts[2])),
        (len(parts[0]), len(parts[1]), len(parts[2])),
        moment,
        form,
    )


def _plain(text: str) -> str:
    """Digits of any script as ours, blanks of any width as one, nothing invisible."""
    text = INVISIBLE.sub("", text)
    if not text.isascii():
        text = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)
    return _BLANKS.sub(" ", text).strip()


def _half(words: str) -> str | None:
    """ "" for nothing that matters, None for words that are not known."""
    word = _NOT_LETTERS.sub("", words.casefold())
    if not word or word in _FILLERS:
        return ""
    for half, known in ((Half.AM, _AM), (Half.PM, _PM), (Half.NOON, _NOON)):
        if word in known:
            return half
    return None


def _time(hour: int, minute: int, second: int, half: str) -> time | None:
    if half and hour <= 12:
        if half == Half.NOON:
            hour += 12 if hour < 6 else 0
        else:
            hour = hour % 12 + (12 if half == Half.PM else 0)
    try:
        return time(hour, minute, second)
    except ValueError:
        return None
