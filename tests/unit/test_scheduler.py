"""The scheduler's jobs: what goes wrong with one is told, and stops neither it nor the others."""

from __future__ import annotations

from collections.abc import Sequence

from structlog.testing import capture_logs

from bot.clock import SystemClock
from bot.metrics import Metrics
from bot.pipeline import Pipeline
from bot.scheduler import Scheduler


async def test_what_lasts_is_told_once_and_told_again_after_it_was_over() -> None:
    trouble: list[str] = []

    def pipelines() -> Sequence[Pipeline]:
        if trouble:
            raise RuntimeError(trouble[-1])
        return ()

    scheduler = Scheduler(pipelines, SystemClock(), Metrics())

    async def told(*, wrong: str | None) -> list[str]:
        trouble[:] = [wrong] if wrong else []
        with capture_logs() as logs:
            await scheduler.run_due()
        return [str(entry["exc_info"]) for entry in logs if entry["job"] == "auto_resume"]

    assert await told(wrong="no room") == ["no room"]
    assert await told(wrong="no room") == []
    assert await told(wrong="no right") == ["no right"]
    assert await told(wrong=None) == []
    assert await told(wrong="no right") == ["no right"]
