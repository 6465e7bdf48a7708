"""What the daemon's events mean to the log and to the metrics; it listens and changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import structlog

from bot.clock import Clock
from bot.events import Decided, Event, Listener, Said, StatusMoved, TakenBack
from bot.metrics import Metrics
from storage.models import Action, MessageId

log = structlog.get_logger(__name__)

_ID_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)


def arrived_at(message_id: MessageId) -> datetime:
    """When a message reached us: its id tells."""
    return _ID_EPOCH + timedelta(milliseconds=message_id >> 20)


def tell_log() -> Listener:
    """A line for each event, without a word of what was said."""

    def listen(event: Event) -> None:
        match event:
            case Decided(action=Action.FAILED):
                log.error(
                    "answer_failed", message_id=event.message_id, chat_id=event.chat_id, reason=event.detail
                )
            case Decided():
                log.info(
                    "decided",
                    message_id=event.message_id,
                    chat_id=event.chat_id,
                    action=event.action,
                    detail=event.detail,
                )
            case Said():
                log.info("reply_sent", outbox_id=event.due.id, chat_id=event.due.chat_id)
            case TakenBack():
                log.info("command_taken_back", outbox_id=event.due.id, chat_id=event.due.chat_id)
            case StatusMoved():
                log.debug("status_moved", outbox_id=event.id, chat_id=event.chat_id, status=event.status)

    return listen


def tell_metrics(metrics: Metrics, clock: Clock) -> Listener:
    """Counts and times. `sidestep_outbox` counts what has moved into each state since the start."""

    def listen(event: Event) -> None:
        match event:
            case Decided():
                metrics.count_decision(event.action)
            case Said():
                if event.due.answers:
                    taken = clock.now() - arrived_at(max(event.due.answers))
                    metrics.observe_reply(max(0.0, taken.total_seconds()))
            case TakenBack():
                pass
            case StatusMoved():
                metrics.count_status(event.status)

    return listen
