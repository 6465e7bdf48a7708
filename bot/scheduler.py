"""The scheduler: the clock's own work, by APScheduler; it ends pauses and cleans up, and never sends.

Jobs are idempotent: they ask PostgreSQL what is due, so that a tick that is missed, doubled or run by two
daemons changes nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from bot.clock import Clock
from bot.http.app import CronResult
from bot.metrics import JobOutcome, Metrics
from bot.pipeline import Pipeline
from storage.errors import StoreUnavailable
from storage.models import ChatId

log = structlog.get_logger(__name__)

_EVERY_SECOND = timedelta(seconds=1)
_EVERY_TEN_SECONDS = timedelta(seconds=10)
_EVERY_HALF_MINUTE = timedelta(seconds=30)
_EVERY_MINUTE = timedelta(minutes=1)
_EVERY_HOUR = timedelta(hours=1)
_GRACE_SECONDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Something to do again and again."""

    name: str
    every: timedelta
    run: Callable[[], Awaitable[object]]


class Scheduler:
    """The jobs of one daemon, for the accounts that it serves at that moment."""

    def __init__(self, pipelines: Callable[[], Sequence[Pipeline]], clock: Clock, metrics: Metrics) -> None:
        self._pipelines = pipelines
        self._clock = clock
        self._metrics = metrics
        self._jobs = (
            Job(name="auto_resume", every=_EVERY_SECOND, run=self.resume_due),
            Job(name="outbox", every=_EVERY_HALF_MINUTE, run=self._watch_outbox),
            Job(name="people", every=_EVERY_MINUTE, run=self._read_numbers),
            Job(name="left_behind", every=_EVERY_TEN_SECONDS, run=self._take_up_left),
            Job(name="watch", every=_EVERY_HALF_MINUTE, run=self._watch),
            Job(name="notices", every=_EVERY_SECOND, run=self._tell_owners),
            Job(name="indexes", every=_EVERY_MINUTE, run=self._index),
            Job(name="clean", every=_EVERY_HOUR, run=self.clean),
        )
        self._failures: dict[str, str] = {}
        self._apscheduler = AsyncIOScheduler(timezone="UTC")

    def start(self) -> None:
        """Run the jobs by the machine's clock until `stop`; each is never under way twice."""
        for job in self._jobs:
            self._apscheduler.add_job(
                self._run, "interval", args=[job], seconds=job.every.total_seconds(), id=job.name,
                coalesce=True, max_instances=1, misfire_grace_time=_GRACE_SECONDS,
            )  # fmt: skip
        self._apscheduler.start()

    def stop(self) -> None:
        """Start no further run. One under way is cancelled; what it had not committed is still due next time."""
        if self._apscheduler.running:
            self._apscheduler.shutdown(wait=False)

    async def run_due(self) -> None:
        """Run every job once, now: for a clock that is moved by hand."""
        for job in self._jobs:
            await self._run(job)

    async def cron(self) -> CronResult:
        """What `POST /cron/auto-resume` does."""
        return CronResult(resumed=await self.resume_due(), cleaned=await self.clean())

    async def resume_due(self) -> tuple[ChatId, ...]:
        """End the pauses whose time has come."""
        resumed: list[ChatId] = []
        for pipeline in self._tenants():
            resumed += await pipeline.resume_due()
        for pipeline in self._pipelines():
            # Also where SQL, or another process, has ended a pause.
            await pipeline.take_up_backlog()
        return tuple(resumed)

    async def clean(self) -> int:
        """Make the months ahead, and drop what nobody will ask for."""
        return sum([await pipeline.upkeep.clean() for pipeline in self._pipelines()])

    async def _watch_outbox(self) -> None:
        for pipeline in self._pipelines():
            await pipeline.outbox.expire()

    async def _read_numbers(self) -> None:
        for pipeline in self._tenants():
            await pipeline.upkeep.read_numbers()

    async def _index(self) -> None:
        for pipeline in self._pipelines()[:1]:  # they are the whole store's
            await pipeline.upkeep.index()

    async def _take_up_left(self) -> None:
        for pipeline in self._pipelines():
            await pipeline.take_up_left()

    async def _watch(self) -> None:
        for pipeline in self._pipelines():
            await pipeline.watch.look_at_number()
        for pipeline in self._tenants():
            await pipeline.watch.look_at_chats()

    async def _tell_owners(self) -> None:
        """Each number tells its own notices; those of numbers that cannot send, another one of the tenant."""
        for tenant_id in {p.account.tenant_id for p in self._pipelines()}:
            of_tenant = [p for p in self._pipelines() if p.account.tenant_id == tenant_id]
            mute = [p.account.account_id for p in of_tenant if not p.notices.can_tell]
            for pipeline in of_tenant:
                if pipeline.notices.can_tell:
                    await pipeline.notices.tell_due(mute)

    def _tenants(self) -> list[Pipeline]:
        """One pipeline of each tenant: sessions are the tenant's, whatever the account."""
        return list({p.account.tenant_id: p for p in self._pipelines()}.values())

    async def _run(self, job: Job) -> None:
        try:
            with self._clock.work.doing():
                await job.run()
        except StoreUnavailable:
            # Nothing is lost: what is due stays due. The inbox and the health page tell of the store.
            self._metrics.count_job(job.name, JobOutcome.FAILED)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the next run comes, and the other jobs
            self._tell_failure(job, exc)
            self._metrics.count_job(job.name, JobOutcome.FAILED)
        else:
            self._failures.pop(job.name, None)
            self._metrics.count_job(job.name, JobOutcome.OK)

    def _tell_failure(self, job: Job, error: Exception) -> None:
        # A job of each second would fill the log with what lasts: the metric counts on, the log tells it once.
        failure = f"{type(error).__name__}: {error}"
        if self._failures.get(job.name) != failure:
            self._failures[job.name] = failure
            log.error("job_failed", job=job.name, exc_info=error)
