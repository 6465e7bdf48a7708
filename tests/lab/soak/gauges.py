"""How much the daemon uses, over time: memory, threads, descriptors and database sessions."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from tests.conftest import connected

SESSIONS = """
SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
# Growth between a life's first third and its last that is still flat: caches fill, and Go returns memory late.
_FLAT_SHARE, _FLAT_MB = 1.15, 15.0
_FEW_MORE = 25
# Descriptors by what they lead to: of each kind there may be as many as are in use at once, and no more.
_FEW_DESCRIPTORS = 12
# What a stopped client keeps open: the idle connections of its pool to the session store, which the server has closed
# and Go does not look at again. `test_another_client_costs_two_descriptors` holds it to that number.
LEFT_BY_A_CLIENT = 2
STORE = "unix"
# What grows in less time than this is the start.
LONG_ENOUGH_SECONDS = 240.0
_WARM_UP_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    at: float
    pid: int
    resident_mb: float
    threads: int
    descriptors: int
    sessions: int
    kinds: Counter[str]  # of the descriptors
    links: int  # clients of the library so far

    def in_use(self, kind: str) -> int:
        """Its descriptors without those that stopped clients have left."""
        return self.kinds[kind] - (self.links * LEFT_BY_A_CLIENT if kind == STORE else 0)


async def sample(pid: int, dsn: str, links: int) -> Sample | None:
    """None when the process has just ended."""
    async with connected(dsn) as connection:
        sessions = await connection.fetchval(SESSIONS)
    process = Path(f"/proc/{pid}")
    try:
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        kinds = kinds_of_descriptors(process)
        return Sample(
            at=time.monotonic(),
            pid=pid,
            resident_mb=int(status["VmRSS"].split()[0]) / 1024,
            threads=int(status["Threads"]),
            descriptors=kinds.total(),
            sessions=sessions,
            kinds=kinds,
            links=links,
        )
    except (OSError, KeyError):
        return None


def kinds_of_descriptors(process: Path) -> Counter[str]:
    """What its descriptors lead to: the database by a Unix socket, WhatsApp by TCP, pipes, files."""
    sockets = {inode: kind for kind in ("unix", "tcp", "tcp6", "udp") for inode in _inodes(process, kind)}
    found: Counter[str] = Counter()
    for link in (process / "fd").iterdir():
        try:
            target = str(link.readlink())
        except FileNotFoundError:
            continue  # closed meanwhile
        kind, _, rest = target.partition(":")
        if kind == "socket":
            found[sockets.get(rest.strip("[]"), "socket")] += 1
        else:
            found[
                "file" if target.startswith("/") else rest.strip("[]") if kind == "anon_inode" else kind
            ] += 1
    return found


def _inodes(process: Path, kind: str) -> Iterator[str]:
    column = 6 if kind == "unix" else 9
    for line in (process / "net" / kind).read_text().splitlines()[1:]:
        yield line.split()[column]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """One life of the daemon: means of its first and of its last third, after the warm-up."""

    seconds: float
    first: Sample
    last: Sample

    @property
    def is_flat(self) -> bool:
        first, last = self.first, self.last
        return (
            last.resident_mb <= max(first.resident_mb * _FLAT_SHARE, first.resident_mb + _FLAT_MB)
            and last.threads <= first.threads + _FEW_MORE
            and all(last.in_use(kind) <= first.in_use(kind) + _FEW_DESCRIPTORS for kind in last.kinds)
            and last.sessions <= first.sessions + _FEW_MORE
        )

    def __str__(self) -> str:
        first, last = self.first, self.last
        return (
            f"{self.seconds / 60:.1f} min: {first.resident_mb:.0f} -> {last.resident_mb:.0f} MB, "
            f"{first.threads} -> {last.threads} threads, {first.sessions} -> {last.sessions} database sessions, "
            f"{first.descriptors} -> {last.descriptors} descriptors in {last.links - first.links} new clients "
            f"({dict(first.kinds)} -> {dict(last.kinds)})"
        )


def trends(samples: list[Sample]) -> list[Trend]:
    """Of every life that was long enough to tell."""
    found = []
    for pid in dict.fromkeys(each.pid for each in samples):
        life = [each for each in samples if each.pid == pid]
        warm = [each for each in life if each.at - life[0].at > _WARM_UP_SECONDS]
        if life[-1].at - life[0].at >= LONG_ENOUGH_SECONDS:
            third = len(warm) // 3
            found.append(
                Trend(seconds=life[-1].at - life[0].at, first=_mean(warm[:third]), last=_mean(warm[-third:]))
            )
    return found


def _mean(samples: list[Sample]) -> Sample:
    return Sample(
        at=samples[0].at,
        pid=samples[0].pid,
        resident_mb=fmean(each.resident_mb for each in samples),
        threads=round(fmean(each.threads for each in samples)),
        descriptors=round(fmean(each.descriptors for each in samples)),
        sessions=round(fmean(each.sessions for each in samples)),
        kinds=Counter(
            {
                kind: round(fmean(each.kinds[kind] for each in samples))
                for kind in dict.fromkeys(kind for each in samples for kind in each.kinds)
            }
        ),
        links=round(fmean(each.links for each in samples)),
    )
