"""When failures of a provider's are more than a hiccup, so that its owner should know; in memory, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

_IN_A_ROW = 3
_A_WHILE = timedelta(minutes=5)


@dataclass(slots=True)
class Outage:
    """Of one provider, as one daemon meets it. `since` is the first of the failures in a row, None: it works."""

    since: datetime | None = None
    failures: int = 0

    def failed(self, at: datetime) -> datetime | None:
        """One more message got no answer. Since when none did, where that are several, or it is a while; else None."""
        self.since = self.since or at
        self.failures += 1
        return self.since if self.failures >= _IN_A_ROW or at - self.since >= _A_WHILE else None

    def is_over(self) -> None:
        """There is an answer."""
        self.since, self.failures = None, 0
