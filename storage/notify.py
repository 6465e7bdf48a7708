"""What an owner is told unasked, where, and when not; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Any

from storage.hours import Hours, Span, read_spans, spans_told

_NUMBER = re.compile(r"\+[0-9]{6,15}")


class NoticeKind(StrEnum):
    """What a notice is about. Of one kind each subject is told once."""

    HANDOFF = "handoff"
    WAITING = "waiting"
    RESUMED = "resumed"
    RETURNING = "returning"
    NUMBER = "number"
    FIRST_CONTACTS = "first_contacts"
    PROVIDER = "provider"
    FAILED_SENDS = "failed_sends"
    CAPPED = "capped"
    LOOP = "loop"

    @property
    def is_urgent(self) -> bool:
        """Whether it is told at night, too: nobody is answered while it lasts."""
        return self in (NoticeKind.NUMBER, NoticeKind.PROVIDER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notify:
    """`to` is a number in E.164; None: the owner's chat with themselves. In `quiet`, by the clocks where the
    business is, what is not urgent waits for its end. A time that is None is never; so is a share.

    `waiting_after`: a customer was handed over to a human, has written, and nobody has answered for so long.
    `before_resume`: how long before the clock brings the bot back; `resumed`: when it has.
    `trouble_after`: a number has not been able to send for so long. `failed_share`: of an hour's sends.
    """

    to: str | None = None
    quiet: Span | None = None
    waiting_after: timedelta | None = timedelta(minutes=15)
    before_resume: timedelta | None = None
    resumed: bool = True
    trouble_after: timedelta | None = timedelta(minutes=5)
    failed_share: float | None = 0.2

    def quiet_until(self, now: datetime, zone: tzinfo) -> datetime | None:
        """When the night ends, None by day."""
        if self.quiet is None:
            return None
        begin, end = self.quiet
        day = 24 * 60
        awake = (end % day, begin if begin > end % day else begin + day)
        night = Hours(week=((awake,),) * 7, holidays={}).closed_at(now, zone)
        return night.until if night else None

    def as_json(self) -> dict[str, Any]:
        """As the store keeps it, and `read` reads it."""
        return {
            "to": self.to,
            "quiet": spans_told([self.quiet])[0] if self.quiet else None,
            "waiting_after": _seconds(self.waiting_after),
            "before_resume": _seconds(self.before_resume),
            "resumed": self.resumed,
            "trouble_after": _seconds(self.trouble_after),
            "failed_share": self.failed_share,
        }

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Notify:
        """From `as_json`, or from SQL: what is left out is the default. Raises ValueError."""
        try:
            values = {**cls().as_json(), **told}
            quiet = read_spans(values["quiet"] or "closed")
            return cls(
                to=_number(values["to"]),
                quiet=quiet[0] if quiet else None,
                waiting_after=_span(values["waiting_after"]),
                before_resume=_span(values["before_resume"]),
                resumed=bool(values["resumed"]),
                trouble_after=_span(values["trouble_after"]),
                failed_share=None if values["failed_share"] is None else float(values["failed_share"]),
            )
        except (TypeError, AttributeError, OverflowError) as exc:
            raise ValueError(f"not what is to be told: {exc}") from exc


def _number(told: str | None) -> str | None:
    if told is not None and not _NUMBER.fullmatch(told):
        raise ValueError(f"not a number as +5511999990007: {told}")
    return told


def _seconds(span: timedelta | None) -> float | None:
    return None if span is None else span.total_seconds()


def _span(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)
