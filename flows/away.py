"""The flow of a business that is closed: one away message, and silence after it; pure but for yielding."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

from flows.contract import Away, Decided, Outcome, Reply, Turn
from storage.models import Action

_LONG = timedelta(days=365)


class AwayFlow:
    """Says that nobody is there: once until the business opens, or as often as its hours say."""

    name = "away"
    action = Action.AWAY_SENT

    async def run(self, turn: Turn) -> AsyncIterator[Outcome]:
        """What was said before stands: the rest is recorded, and left for when somebody is there."""
        closed, hours = turn.closed, turn.tenant.hours
        if closed is None or hours is None or (turn.session.away_until or turn.now) > turn.now:
            yield Decided(action=Action.IGNORED_CLOSED, detail="told before")
            return
        until = closed.until or turn.now + _LONG
        again = turn.now + hours.away_again if hours.away_again else until
        yield Reply(text=hours.away_text(closed, turn.tenant.zone))
        yield Away(chat_id=turn.chat.chat_id, until=min(until, again))
        yield Decided(action=Action.AWAY_SENT, detail=_told(closed.until))


AWAY = AwayFlow()


def _told(until: datetime | None) -> str:
    return f"closed until {until:%Y-%m-%d %H:%M} UTC" if until else "closed"
