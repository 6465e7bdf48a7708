"""How the daemon behaves where owners may choose: the numbers and switches of config.yaml, as the path needs them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Durations are the daemon's time, virtual or not.

    `debounce` gathers a burst into one answer, never longer than `longest_debounce`. A message
    older than `max_age` when its turn comes is not answered, and a reply that old is not sent.
    `typing_speed` is in characters a second; None types nothing and waits for nothing.
    """

    debounce: timedelta = timedelta(seconds=2)
    longest_debounce: timedelta = timedelta(seconds=10)
    max_age: timedelta = timedelta(hours=6)
    typing_speed: float | None = 25.0
    longest_typing: timedelta = timedelta(seconds=8)
    groups: bool = True
    takeover_in_groups: bool = False

    def typing_time(self, text: str) -> timedelta:
        """How long a person would type this, within bounds."""
        if self.typing_speed is None:
            return timedelta(0)
        return min(timedelta(seconds=len(text) / self.typing_speed), self.longest_typing)
