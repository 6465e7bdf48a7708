"""Time zones: what the clocks on the wall show where a business is; pure but for reading the tz database."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

import structlog

log = structlog.get_logger(__name__)

_MINUTE = timedelta(minutes=1)


@lru_cache(maxsize=256)
def zone_of(name: str) -> tzinfo:
    """The zone of this IANA name. One that nobody knows, as SQL may have written it, is UTC; the log says so once."""
    try:
        return ZoneInfo(name) if name != "UTC" else UTC
    except (LookupError, ValueError, OSError):
        log.warning("timezone_unknown", name=name, taken_for="UTC")
        return UTC


def showings(wall: datetime, zone: tzinfo) -> tuple[datetime, ...]:
    """When the clocks of a zone show `wall` (naive), in UTC: once, or twice where an hour comes again in autumn.

    What is left out in spring counts as shown at the end of the gap.
    """
    moments = sorted({wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)})
    if _wall(moments[0], zone) >= wall:
        return tuple(moments)
    end_of_gap = moments[0]
    while _wall(end_of_gap, zone) < wall:
        end_of_gap += _MINUTE
    return (end_of_gap,)


def next_showing(at: time, zone: tzinfo, now: datetime) -> datetime:
    """The next moment after `now` at which the clocks of a zone show this time of day."""
    today = datetime.combine(now.astimezone(zone), at, tzinfo=None)
    # A day later again: where the date line was moved, a day is left out.
    moments = (m for days in range(4) for m in showings(today + timedelta(days=days), zone))
    return next(moment for moment in moments if moment > now)


def _wall(moment: datetime, zone: tzinfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None)
