"""What the daemon counts and times, for Prometheus; no label carries a number, a name or a JID."""

from __future__ import annotations

from enum import StrEnum

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from bot.redaction import redact
from bot.transports.base import ConnectionState
from storage.media import MediaStatus
from storage.models import Action, Author, Direction, Status

# A takeover and a record are one commit: sub-millisecond to some tens when all is well.
_COMMIT_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5)
# Debounce, a model and typing come before a reply is sent.
_REPLY_SECONDS = (0.1, 0.5, 1, 2, 3, 5, 8, 13, 20, 30, 60, 120, 300)
# A healthy scheduler is within its own tick; after an outage it may be hours.
_LAG_SECONDS = (0.1, 0.5, 1, 2, 5, 15, 60, 300, 1800, 7200)


class JobOutcome(StrEnum):
    """How a scheduled run ended. SKIPPED: another daemon had this tick."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


class TokenKind(StrEnum):
    """What a model was paid for. INPUT leaves out what was read from its cache or written to it."""

    INPUT = "input"
    CACHED = "cached"
    CACHE_WRITE = "cache_write"
    OUTPUT = "output"


class Metrics:
    """All metrics of one daemon, in a registry of its own, so that two daemons in one process do not mix."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # the library left its types out
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._messages = Counter(
            "sidestep_messages_total",
            "Messages recorded, by account, direction and author.",
            ("account", "direction", "author"),
            registry=registry,
        )
        self._decisions = Counter(
            "sidestep_decisions_total", "Decisions made.", ("action",), registry=registry
        )
        self._outbox = Gauge(
            "sidestep_outbox", "Replies by what became of them.", ("status",), registry=registry
        )
        self._connection = Gauge(
            "sidestep_connection_state",
            "1 for the state that the account's connection is in.",
            ("account", "state"),
            registry=registry,
        )
        self._tokens = Counter(
            "sidestep_ai_tokens_total", "Tokens billed.", ("provider", "model", "kind"), registry=registry
        )
        self._jobs = Counter(
            "sidestep_job_runs_total", "Scheduled runs.", ("job", "outcome"), registry=registry
        )
        self._media = Counter(
            "sidestep_media_total",
            "Media by how the fetching of their files ended.",
            ("status",),
            registry=registry,
        )
        self._takeover = self._histogram(
            "takeover", "From a human's message seen to the pause durable.", _COMMIT_SECONDS
        )
        self._resume_lag = self._histogram(
            "resume_lag", "From when a takeover was due to end to its end.", _LAG_SECONDS
        )
        self._record = self._histogram("record", "From a message seen to its commit.", _COMMIT_SECONDS)
        self._reply = self._histogram(
            "reply", "From a customer's message seen to its answer sent.", _REPLY_SECONDS
        )
        self._statuses = {status: self._outbox.labels(status) for status in Status}
        self._actions = {action: self._decisions.labels(action) for action in Action}

    def count_message(self, account: str, direction: Direction, author: Author) -> None:
        """One message was recorded."""
        self._messages.labels(redact(account), direction, author).inc()

    def count_decision(self, action: Action, number: int = 1) -> None:
        """So many events were decided."""
        self._actions[action].inc(number)

    def count_status(self, status: Status) -> None:
        """A reply has moved into this state."""
        self._statuses[status].inc()

    def observe_takeover(self, seconds: float) -> None:
        """A human's message was seen, and so many seconds later the pause was durable."""
        self._takeover.observe(seconds)

    def observe_resume_lag(self, seconds: float) -> None:
        """A takeover ended so many seconds after it was due to."""
        self._resume_lag.observe(seconds)

    def observe_record(self, seconds: float) -> None:
        """A message was committed so many seconds after it was seen."""
        self._record.observe(seconds)

    def observe_reply(self, seconds: float) -> None:
        """An answer was sent so many seconds after the customer's message was seen."""
        self._reply.observe(seconds)

    def set_connection(self, account: str, state: ConnectionState) -> None:
        """The account's connection is in this state, and so in no other."""
        for each in ConnectionState:
            self._connection.labels(redact(account), each).set(each is state)

    def count_tokens(self, provider: str, model: str, kind: TokenKind, tokens: int) -> None:
        """A model's answer used so many tokens."""
        self._tokens.labels(provider, model, kind).inc(tokens)

    def count_job(self, job: str, outcome: JobOutcome) -> None:
        """A scheduled run ended."""
        self._jobs.labels(job, outcome).inc()

    def count_media(self, status: MediaStatus) -> None:
        """A medium is stored, has failed or has expired."""
        self._media.labels(status).inc()

    def render(self) -> bytes:
        """Everything, in Prometheus' text form."""
        return generate_latest(self._registry)

    def _histogram(self, name: str, documentation: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"sidestep_{name}_seconds", documentation, buckets=buckets, registry=self._registry)
