"""`make bench`: prints the table, keeps it as JSON, and fails if an answer was wrong; slow is no failure."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bulk import fill
from benchmarks.daemons import WORDS, config, customers
from benchmarks.plain import one_insert, six_statements, two_inserts, writers
from benchmarks.recording import recorders
from benchmarks.report import Row, keep, table
from benchmarks.servers import analyze, fresh, progress, server
from benchmarks.slices import Turns, alternate, latency, latency_ratio, rate, ratio
from benchmarks.takeovers import shop
from bot import logs
from storage.database import Database
from storage.models import Action

PARTS = ("record", "daemon", "burst", "takeover", "memory")
_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is measured. `seconds` is one slice's."""

    rounds: int = 5
    seconds: float = 3.0
    chats: int = 50
    rows: int = 1_000_000
    races: int = 2_000


async def bench_record(url: str, size: Size) -> list[Row]:
    """Recording, with 1, 8 and 32 messages at once."""
    rows = []
    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(fresh(url, "record"))
        database = await Database.open(dsn)
        stack.push_async_callback(database.close)
        for count, target, longest in ((1, 0.45, 2.0), (8, 0.5, 1.0), (32, 0.7, 1.0)):
            async with (
                writers(dsn, count, size.seconds, one_insert) as raw,
                writers(dsn, count, size.seconds, six_statements) as six,
                recorders(database, count, size.seconds) as ours,
            ):
                turns = await alternate(
                    {"raw": raw, "six": six, "ours": ours}, size.rounds, lambda: analyze(dsn)
                )
            at = f"c={count}"
            rows += [
                Row(name=f"record {at}: one raw INSERT", value=rate(turns, "raw"), unit="/s"),
                Row(name=f"record {at}: six statements", value=rate(turns, "six"), unit="/s"),
                Row(name=f"record {at}: ours", value=rate(turns, "ours"), unit="/s"),
                Row(name=f"record {at}: ours to raw", value=ratio(turns, "ours", "raw"), target=target),
                Row(
                    name=f"record {at}: ours to six statements",
                    value=ratio(turns, "ours", "six"),
                    target=4.0 if count == 32 else None,
                ),
                Row(
                    name=f"record {at}: p99, ours to raw",
                    value=latency_ratio(turns, "ours", "raw", 99),
                    target=longest,
                    at_most=True,
                ),
            ]
    return rows


async def bench_daemon(url: str, size: Size) -> list[Row]:
    """The whole daemon against two plain INSERTs, on an empty store and on one with a past."""
    async with AsyncExitStack() as stack:
        empty = await stack.enter_async_context(fresh(url, "empty"))
        full = await stack.enter_async_context(fresh(url, "full"))
        database = await Database.open(full, max_size=1)
        await fill(database, config(), messages=size.rows, chats=max(size.rows // 50, 1), tell=progress)
        await database.close()
        bare = await stack.enter_async_context(two_inserts(empty, size.chats, size.seconds))
        young = await stack.enter_async_context(customers(empty))
        old = await stack.enter_async_context(customers(full))
        turns = await alternate(
            {
                "bare": bare,
                "young": lambda: young.converse(size.chats, size.seconds),
                "old": lambda: old.converse(size.chats, size.seconds),
            },
            size.rounds,
            lambda: analyze(empty, full),
        )
    return daemon_rows(turns, size)


def daemon_rows(turns: Turns, size: Size) -> list[Row]:
    """The figures of `bench_daemon`."""
    behind = f"with {size.rows:,} messages behind"
    return [
        Row(name="two plain INSERTs a message, pool of 10", value=rate(turns, "bare"), unit="/s"),
        Row(name="two plain INSERTs: p95", value=latency(turns, "bare", 95), unit="ms"),
        Row(name="daemon", value=rate(turns, "young"), unit="/s"),
        Row(name="daemon to two plain INSERTs", value=ratio(turns, "young", "bare"), target=0.5),
        Row(
            name="daemon: p95, arrival to answer sent",
            value=latency(turns, "young", 95),
            unit="ms",
            target=50.0,
            at_most=True,
        ),
        Row(name=f"daemon {behind}", value=rate(turns, "old"), unit="/s"),
        Row(name=f"daemon {behind}, to without", value=ratio(turns, "old", "young"), target=0.9),
    ]


async def bench_burst(url: str, size: Size) -> list[Row]:
    """Five messages at once in each chat: each answered by itself, or all of a chat together."""
    rows = []
    for debounce, answers in (("0s", [f"answer {word}" for word in WORDS]), ("1s", ["answer alpha"])):
        async with fresh(url, "burst") as dsn, customers(dsn, debounce=debounce) as people:
            got = await people.burst(size.chats)
            right = sum(each == answers for each in got)
            decided = people.decisions
        if right != size.chats or decided.total() != size.chats * len(WORDS):
            raise AssertionError(f"debounce {debounce}: {right} chats were answered right; {decided}")
        if decided[Action.KEYWORD_REPLIED] != size.chats * len(answers):
            raise AssertionError(f"debounce {debounce}: {decided}")
        what = f"burst of {size.chats * len(WORDS)}, debounce {debounce}"
        rows += [
            Row(name=f"{what}: answers, in order", value=sum(map(len, got))),
            Row(name=f"{what}: decisions", value=decided.total()),
        ]
    return rows


async def bench_takeover(url: str, size: Size) -> list[Row]:
    """The owner walks in at random moments, while answers are made and sent."""
    rows = []
    for lag in (0.0, 0.2):
        async with fresh(url, "takeover") as dsn, shop(dsn) as ours:
            await ours.meet(size.chats)
            await ours.race(size.chats, size.chats, lag=lag)  # the plans are made
            await analyze(dsn)
            races = await ours.race(size.chats, size.races, lag=lag)
        if races.late:
            raise AssertionError(f"{races.late} answers began after the owner's line, in {races.count} races")
        what = f"takeover, sends of {1000 * lag:.0f} ms"
        rows += [
            Row(name=f"{what}: races", value=races.count),
            Row(name=f"{what}: before the answer had begun to leave", value=races.caught),
            Row(name=f"{what}: answers that began after it", value=races.late, target=0.0, at_most=True),
            Row(name=f"{what}: p50, seen to durable", value=races.milliseconds(50), unit="ms"),
            Row(
                name=f"{what}: p99, seen to durable",
                value=races.milliseconds(99),
                unit="ms",
                target=50.0,
                at_most=True,
            ),
        ]
    return rows


async def bench_memory(url: str, size: Size) -> list[Row]:
    """A daemon in a process of its own."""
    async with fresh(url, "memory") as dsn:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.memory", dsn, str(size.chats), str(size.seconds * 2)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
    if process.returncode:
        raise RuntimeError(err.decode()[-2000:])
    told = json.loads(out)
    if told["sdks"]:
        raise AssertionError(f"a daemon without a model has loaded {told['sdks']}")
    peak = told["peak_bytes"] / _MIB
    return [Row(name="daemon: peak memory", value=peak, unit="MiB", target=150.0, at_most=True)]


_BENCHES = {
    "record": bench_record,
    "daemon": bench_daemon,
    "burst": bench_burst,
    "takeover": bench_takeover,
    "memory": bench_memory,
}


async def run(parts: Sequence[str], size: Size, url: str | None) -> list[Row]:
    """Every part on one server."""
    rows: list[Row] = []
    async with server(url) as dsn:
        for part in parts:
            progress(part)
            rows += await _BENCHES[part](dsn, size)
    return rows


def main() -> None:
    usual = Size()
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--rounds", type=int, default=usual.rounds)
    parser.add_argument("--seconds", type=float, default=usual.seconds, help="of one slice")
    parser.add_argument("--chats", type=int, default=usual.chats)
    parser.add_argument("--rows", type=int, default=usual.rows, help="messages behind the older store")
    parser.add_argument("--races", type=int, default=usual.races, help="takeovers, with either kind of send")
    parser.add_argument("--database", help="a server's URL on which databases may be made; default: embedded")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    size = Size(
        rounds=given.rounds, seconds=given.seconds, chats=given.chats, rows=given.rows, races=given.races
    )
    parts = given.parts or PARTS
    given.results.mkdir(parents=True, exist_ok=True)
    # The log is the daemon's own work, as in `sidestep run`: it is written, and read by nobody.
    with (given.results / "last.log").open("w") as stream:
        logs.setup(level="info", format="json", stream=stream)
        rows = asyncio.run(run(parts, size, given.database))
    print(table(rows))
    settings = {
        "parts": list(parts),
        "rounds": size.rounds,
        "seconds": size.seconds,
        "rows_behind": size.rows,
    }
    print(f"kept in {keep(given.results, 'bench', rows, settings)}")


if __name__ == "__main__":
    main()
