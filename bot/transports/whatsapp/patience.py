"""How long the transport waits for what, and how its own tries to connect are spread; it waits for nothing itself.

Two of us reconnect. Within a link whatsmeow does, at 0, 2, 6, 12, 20 … seconds after a loss, for everyone at the
same time; a link that cannot be mended is given up, and the next one is ours: with back-off, and with jitter, so
that a dozen numbers which were lost together do not come back together.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

Random = Callable[[], float]
"""Something from 0 to 1; an argument, so that tests can choose it."""

by_chance: Random = random.SystemRandom().random


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """`login`: from a client's start until it is logged in. `let_in`: from WhatsApp's word that it is until the
    library's, which comes after questions of its own. `library`: how long whatsmeow may try by itself; not
    so when it gets in and loses the connection `most_losses` times within `flapping`, as it never pauses then.

    `acknowledgement`: a send that waits longer makes us ask whether WhatsApp is there. `answer`: how long that
    question may take. `look`: how often we look whether the library still thinks that it is logged in.
    """

    login: timedelta = timedelta(seconds=60)
    let_in: timedelta = timedelta(seconds=30)
    library: timedelta = timedelta(minutes=15)
    flapping: timedelta = timedelta(minutes=1)
    most_losses: int = 8
    acknowledgement: timedelta = timedelta(seconds=15)
    answer: timedelta = timedelta(seconds=10)
    look: timedelta = timedelta(seconds=30)
    # Two days before WhatsApp unlinks the devices of a phone that has been offline all the while.
    quiet_phone: timedelta = timedelta(days=12)
    first_retry: timedelta = timedelta(seconds=2)
    last_retry: timedelta = timedelta(minutes=5)
    # WhatsApp has heard us and said no, so it is left alone for longer.
    first_retry_when_rejected: timedelta = timedelta(minutes=1)
    last_retry_when_rejected: timedelta = timedelta(hours=1)
    # The clocks of two sides never agree, and a login within a ban can make it longer.
    ban_margin: timedelta = timedelta(minutes=2)
    ban_without_end: timedelta = timedelta(hours=24)

    def after_failure(self, failures: int, chance: Random) -> timedelta:
        """The pause after so many failures in a row, the first being 0."""
        return _spread(self.first_retry, self.last_retry, failures, chance)

    def after_rejection(self, failures: int, chance: Random) -> timedelta:
        return _spread(self.first_retry_when_rejected, self.last_retry_when_rejected, failures, chance)

    def after_ban(self, ban: timedelta, chance: Random) -> timedelta:
        """How long to stay away; `ban` is zero when WhatsApp names no end."""
        return (ban or self.ban_without_end) + self.ban_margin * (1 + chance())


def next_try_of_library(lost_at: datetime, now: datetime) -> datetime:
    """When whatsmeow tries next, as long as its tries fail at once: it waits 0, 2, 4, 6 … seconds between them."""
    elapsed = max(0.0, (now - lost_at).total_seconds())
    tries = math.floor((1 + math.sqrt(1 + 4 * elapsed)) / 2) + 1
    return lost_at + timedelta(seconds=tries * (tries - 1))


def _spread(first: timedelta, last: timedelta, failures: int, chance: Random) -> timedelta:
    """Doubled each time, up to `last`; of that at least half, and the rest by chance."""
    longest = min(first * 2.0 ** min(failures, 20), last)
    return longest * (1 + chance()) / 2
