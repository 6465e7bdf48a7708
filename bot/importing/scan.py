"""The first look through an export, before anything is recorded: who speaks, and in which order dates stand."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from bot.importing.errors import ImportRefused
from bot.importing.export import Entry, Stray
from bot.importing.order import DateOrder

MOST_SENDERS = 5_000
"""A group has 1,024 members at most; over the years more come and go."""

_DATE_IN_NAME = re.compile(
    r"(?:IMG|VID|AUD|PTT|STK|DOC)-(\d{4})(\d{2})(\d{2})-WA|-(\d{4})-(\d{2})-(\d{2})-\d{2}-\d{2}-\d{2}\."
)
_FUTURE = timedelta(days=1)


@dataclass(slots=True)
class _Reading:
    """How well one order of the dates fits what was seen."""

    order: DateOrder
    impossible: int = 0
    back: int = 0  # a day and more before the message above it
    confirmed: int = 0  # the name of an attached file has the same day
    last: datetime | None = None
    seen: int = 0  # all its dates, as one number: two orders with the same one mean the same days


@dataclass(slots=True)
class Scan:
    """What one look has found. `orders`: those in which every date can be, the likely one alone if there is one."""

    messages: int = 0
    notes: int = 0
    strays: int = 0
    senders: Counter[str] = field(default_factory=Counter)
    orders: list[DateOrder] = field(default_factory=list)


def scan(entries: Iterable[Entry | Stray], now: datetime) -> Scan:
    """Look through a whole export. `now` is the phone's clock. Raises ImportRefused for what cannot be one."""
    found, readings = Scan(), [_Reading(order) for order in DateOrder]
    dots = False
    for entry in entries:
        if isinstance(entry, Stray):
            found.strays += 1
            continue
        if entry.sender is None:
            found.notes += 1
        else:
            found.messages += 1
            found.senders[entry.sender] += 1
            if len(found.senders) > MOST_SENDERS:
                raise ImportRefused(
                    f"line {entry.line}: more than {MOST_SENDERS} people write here: this is no export of a chat"
                )
        dots = dots or "." in entry.stamp.form
        _look(entry, readings, now.replace(tzinfo=None) + _FUTURE)
    if not found.messages:
        raise ImportRefused(
            "there is no message in it: neither Android's form (31/12/2023, 21:41 - Ana: hello) nor iOS's "
            "([31/12/2023, 21:41:12] Ana: hello), nor JSON lines"
        )
    found.orders = _likely(readings, dots)
    return found


def _look(entry: Entry, readings: list[_Reading], future: datetime) -> None:
    possible = entry.stamp.orders()
    named = _DATE_IN_NAME.search(entry.text[:300]) if "-" in entry.text[:300] else None
    for reading in readings:
        at = entry.stamp.read(reading.order) if reading.order in possible else None
        reading.seen = hash((reading.seen, at))
        if at is None or at > future:
            reading.impossible += 1
            continue
        if reading.last is not None and at < reading.last - timedelta(days=1):
            reading.back += 1
        reading.last = at
        if named is not None and at.strftime("%Y%m%d") == "".join(g for g in named.groups() if g):
            reading.confirmed += 1


def _likely(readings: list[_Reading], dots: bool) -> list[DateOrder]:
    """The orders that are left when what speaks against the others is weighed, the strongest first."""
    fewest = min(r.impossible for r in readings)
    left = [r for r in readings if r.impossible == fewest]
    most = max(r.confirmed for r in left)
    left = [r for r in left if r.confirmed == most]
    if dots and len(left) > 1:  # nobody writes a month first and then a dot
        left = [r for r in left if r.order is not DateOrder.MDY]
    least = min(r.back for r in left)
    left = [r for r in left if r.back == least]
    return [left[0].order] if len({r.seen for r in left}) == 1 else [r.order for r in left]
