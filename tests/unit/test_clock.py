"""Time: a virtual clock stands still while anything works, and stops at every moment that something waits for."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from bot.clock import Alarm, SystemClock, VirtualClock, Work

NOW = datetime(2026, 3, 10, 14, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(NOW)


async def wait(clock: VirtualClock, alarm: Alarm, until: datetime | None = None) -> bool:
    with clock.work.doing():
        return await alarm.wait(until)


async def sleep(clock: VirtualClock, duration: timedelta, woken: list[datetime]) -> None:
    with clock.work.doing():
        await clock.sleep(duration)
        woken.append(clock.now())


async def started(*coroutines: object) -> None:
    """Let what was created come to its first wait."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_the_clock_stands_still_until_it_is_moved(clock: VirtualClock) -> None:
    await asyncio.sleep(0.01)
    assert clock.now() == NOW
    await clock.advance(SECOND)
    assert clock.now() == NOW + SECOND


async def test_advancing_stops_at_every_moment_in_order(clock: VirtualClock) -> None:
    woken: list[datetime] = []
    durations = [3 * SECOND, SECOND, 2 * SECOND, SECOND]
    tasks = [asyncio.create_task(sleep(clock, d, woken)) for d in durations]
    await started()
    await clock.advance(2 * SECOND)
    assert woken == [NOW + SECOND, NOW + SECOND, NOW + 2 * SECOND]
    await clock.settle()
    assert woken[-1] == clock.now() == NOW + 3 * SECOND
    await asyncio.gather(*tasks)


async def test_settling_follows_waits_that_come_one_after_another(clock: VirtualClock) -> None:
    woken: list[datetime] = []

    async def thrice() -> None:
        for _ in range(3):
            await sleep(clock, SECOND, woken)

    with clock.work.doing():
        task = asyncio.create_task(thrice())
        await started()
    await clock.settle()
    assert clock.now() == NOW + 3 * SECOND
    await task


async def test_time_does_not_pass_while_something_works(clock: VirtualClock) -> None:
    woken: list[datetime] = []
    gate = asyncio.Event()

    async def work() -> None:
        with clock.work.doing():
            await gate.wait()
            assert clock.now() == NOW

    tasks = [asyncio.create_task(work()), asyncio.create_task(sleep(clock, SECOND, woken))]
    await started()
    settling = asyncio.create_task(clock.settle())
    await started()
    assert woken == []
    gate.set()
    await settling
    assert woken == [NOW + SECOND]
    await asyncio.gather(*tasks)


async def test_sleeping_for_no_time_does_not_wait(clock: VirtualClock) -> None:
    with clock.work.doing():
        await clock.sleep(timedelta(0))
        await clock.sleep(-SECOND)
    assert clock.now() == NOW


async def test_an_alarm_wakes_by_being_rung_or_by_time(clock: VirtualClock) -> None:
    alarm = Alarm(clock)
    by_ring = asyncio.create_task(wait(clock, alarm, NOW + SECOND))
    await started()
    alarm.ring()
    assert await by_ring is True
    by_time = asyncio.create_task(wait(clock, alarm, NOW + SECOND))
    await started()
    await clock.settle()
    assert await by_time is False


async def test_a_ring_before_the_wait_is_not_lost(clock: VirtualClock) -> None:
    alarm = Alarm(clock)
    alarm.ring()
    assert await wait(clock, alarm) is True
    again = asyncio.create_task(wait(clock, alarm))
    await started()
    assert not again.done()
    alarm.ring()
    await again


async def test_a_wait_that_has_ended_leaves_no_moment_to_stop_at(clock: VirtualClock) -> None:
    alarm = Alarm(clock)
    task = asyncio.create_task(wait(clock, alarm, NOW + timedelta(hours=1)))
    await started()
    alarm.ring()
    await task
    await clock.settle()
    assert clock.now() == NOW


async def test_who_waits_is_not_at_work_and_is_from_the_moment_of_the_ring(clock: VirtualClock) -> None:
    alarm = Alarm(clock)
    task = asyncio.create_task(wait(clock, alarm))
    await started()
    assert clock.work.is_idle
    alarm.ring()
    assert not clock.work.is_idle
    await task
    assert clock.work.is_idle


async def test_who_is_cancelled_while_waiting_is_at_work_from_that_moment(clock: VirtualClock) -> None:
    """What it does on its way out may be work that others wait for."""
    cleaned = asyncio.Event()

    async def work() -> None:
        with clock.work.doing():
            try:
                await clock.sleep(SECOND)
            finally:
                await asyncio.sleep(0)
                cleaned.set()

    task = asyncio.create_task(work())
    await started()
    assert clock.work.is_idle
    task.cancel()
    assert not clock.work.is_idle
    await clock.settle()
    assert cleaned.is_set()
    assert clock.now() == NOW
    with pytest.raises(asyncio.CancelledError):
        await task
    assert clock.work.is_idle


async def test_a_ring_and_a_cancellation_at_once_count_once(clock: VirtualClock) -> None:
    alarm = Alarm(clock)
    task = asyncio.create_task(wait(clock, alarm))
    await started()
    alarm.ring()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert clock.work.is_idle


async def test_what_was_called_off_is_not_called(clock: VirtualClock) -> None:
    called: list[str] = []
    call_off = clock.call_at(NOW + SECOND, lambda: called.append("first"))
    clock.call_at(NOW + SECOND, lambda: called.append("second"))
    call_off()
    await clock.settle()
    assert called == ["second"]


async def test_a_moment_that_has_passed_comes_at_once_and_time_never_goes_back(clock: VirtualClock) -> None:
    seen: list[datetime] = []
    clock.call_at(NOW - SECOND, lambda: seen.append(clock.now()))
    await clock.settle()
    assert seen == [NOW]


async def test_work_is_idle_when_all_of_it_has_ended() -> None:
    work = Work()
    assert work.is_idle
    with work.doing(), work.doing():
        waiting = asyncio.create_task(work.idle())
        await started()
        assert not waiting.done()
    await waiting


async def test_the_machine_s_clock_is_aware_and_wakes_by_itself() -> None:
    clock = SystemClock()
    before = clock.now()
    assert before.utcoffset() == timedelta(0)
    with clock.work.doing():
        await clock.sleep(timedelta(milliseconds=20))
    assert clock.now() - before >= timedelta(milliseconds=19)
    assert clock.work.is_idle
