"""The benchmarks measure what they say: every message is recorded, decided and answered, however few there are."""

from __future__ import annotations

from pathlib import Path

from benchmarks.__main__ import Size, run
from benchmarks.report import Row, keep, table
from benchmarks.store import run as read_from_store

TINY = Size(rounds=1, seconds=0.2, chats=3, rows=60, races=12)


async def test_recording_is_measured_at_each_number_of_writers(postgres: str) -> None:
    rows = await run(["record"], TINY, postgres)
    assert [r.name for r in rows if r.name.endswith("ours")] == [f"record c={n}: ours" for n in (1, 8, 32)]
    assert all(row.value > 0 for row in rows)


async def test_the_daemon_answers_whatever_it_is_measured_with(postgres: str) -> None:
    rows = {row.name: row for row in await run(["daemon"], TINY, postgres)}
    assert rows["daemon"].value > 0
    assert rows["daemon with 60 messages behind"].value > 0
    assert rows["two plain INSERTs a message, pool of 10"].value > 0


async def test_a_burst_is_answered_in_order_or_together(postgres: str) -> None:
    rows = await run(["burst"], TINY, postgres)
    assert [row.value for row in rows] == [15, 15, 3, 15]


async def test_no_answer_begins_after_the_owner_s_line(postgres: str) -> None:
    rows = {row.name: row.value for row in await run(["takeover"], TINY, postgres)}
    for lag in (0, 200):
        assert rows[f"takeover, sends of {lag} ms: races"] == TINY.races
        assert rows[f"takeover, sends of {lag} ms: answers that began after it"] == 0
        assert rows[f"takeover, sends of {lag} ms: p99, seen to durable"] > 0


async def test_memory_is_that_of_a_daemon_without_the_sdks(postgres: str) -> None:
    [row] = await run(["memory"], TINY, postgres)
    assert row.value > 0
    assert row.unit == "MiB"


async def test_every_read_is_measured_and_its_plan_kept(postgres: str) -> None:
    rows, plans = await read_from_store(400, 5, 2, postgres)
    names = {row.name.rpartition(":")[0] for row in rows if ":" in row.name}
    assert len(names) >= 13
    assert all(f"== {name}\n" in plans for name in names)


def test_a_figure_is_told_with_its_target(tmp_path: Path) -> None:
    rows = [
        Row(name="fast enough", value=0.6, target=0.5),
        Row(name="too slow", value=1234.5, unit="ms", target=50.0, at_most=True),
        Row(name="just told", value=7.0),
    ]
    lines = table(rows).splitlines()[1:]
    assert [line.split() for line in lines] == [
        ["fast", "enough", "0.60", ">=", "0.5", "met"],
        ["too", "slow", "1,234", "ms", "<=", "50", "MISSED"],
        ["just", "told", "7.00"],
    ]
    assert keep(tmp_path, "bench", rows, {"rounds": 1}).read_text().count('"met": true') == 2
