"""How the daemon behaves where owners may choose: the numbers and switches of config.yaml, as the path needs them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

_DAY = timedelta(days=1)
_LONGEST_WARM_UP = 30  # days


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """So many at once, then one in each such time."""

    burst: int
    every: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How much may leave; None: as much as there is.

    `first_day` is the cap of a number on the day of its linking; it doubles with each day until it is `daily`.
    """

    per_chat: Rate | None = None
    per_account: Rate | None = None
    daily: int | None = None
    first_day: int | None = None

    def cap(self, linked_at: datetime | None, now: datetime) -> int | None:
        """The most in 24 hours by now; a number that was never linked needs no warm-up."""
        if self.daily is None or self.first_day is None or linked_at is None:
            return self.daily
        days = max((now - linked_at) // _DAY, 0)
        return self.daily if days > _LONGEST_WARM_UP else min(self.daily, self.first_day * 2**days)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loops:
    """What tells another bot: it answers `rounds` messages of ours in a row, each `within` so short a time, or
    `repeats` times with the same words; then the chat is paused for so long.

    For so long as `same_answer` the same answer to the same question is given twice, and not a third time. None: that
    is not looked for.
    """

    rounds: int | None = 8
    within: timedelta = timedelta(seconds=4)
    repeats: int | None = 5
    pause: timedelta = timedelta(hours=1)
    same_answer: timedelta | None = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Durations are the daemon's time, virtual or not.

    `debounce` gathers a burst into one answer, never longer than `longest_debounce`. A message
    older than `max_age` when its turn comes is not answered, and a reply that old is not sent.
    `typing_speed` is in characters a second; None types nothing and waits for nothing.
    `takes_commands_back` revokes what the owner commands in a customer's chat.
    `ignored_texts` from the owner's phone are no word of the owner's, a `*` in them standing for any words; others that
    look like that are asked about, if the bot `learns_automatic` ones.
    `pace` is how much may leave in which time.
    `loops` is what tells another bot, and answers that nobody needs again.
    `retention` is how long messages are kept where a tenant does not say, `raw_retention` the platform's events
    of them; None: for ever. `index_json` has them and the messages' metadata indexed.
    """

    debounce: timedelta = timedelta(seconds=2)
    longest_debounce: timedelta = timedelta(seconds=10)
    max_age: timedelta = timedelta(hours=6)
    typing_speed: float | None = 25.0
    longest_typing: timedelta = timedelta(seconds=8)
    groups: bool = True
    takeover_in_groups: bool = False
    takes_commands_back: bool = True
    ignored_texts: tuple[str, ...] = ()
    learns_automatic: bool = True
    retention: timedelta | None = None
    raw_retention: timedelta | None = None
    index_json: bool = False
    pace: Pace = Pace()
    loops: Loops = Loops()

    def typing_time(self, text: str) -> timedelta:
        """How long a person would type this, within bounds."""
        if self.typing_speed is None:
            return timedelta(0)
        return min(timedelta(seconds=len(text) / self.typing_speed), self.longest_typing)
