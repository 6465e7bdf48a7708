"""Slices: contestants take turns for a moment each, so that whatever else the machine does hits all of them alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

Contestant = Callable[[], Awaitable["Slice"]]
"""Works for one slice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """What one contestant did in its turn: `latencies` in seconds, one a message."""

    seconds: float
    latencies: Sequence[float]

    @property
    def rate(self) -> float:
        """Messages a second."""
        return len(self.latencies) / self.seconds

    def milliseconds(self, percent: int) -> float:
        """The latency that so many percent of the messages do not exceed."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) * percent // 100, len(ordered) - 1)]


Turns = Mapping[str, Sequence[Slice]]
"""Each contestant's slices, a round each."""


async def alternate(
    contestants: Mapping[str, Contestant], rounds: int, when_warm: Callable[[], Awaitable[None]]
) -> Turns:
    """Let each work in each round; every other round in the opposite order, so that nobody always comes last."""
    turns: dict[str, list[Slice]] = {name: [] for name in contestants}
    for name in contestants:
        await contestants[name]()  # warm: caches, connections, the first pages of tables
    await when_warm()
    for name in contestants:
        await contestants[name]()  # and the plans that come of it
    for number in range(rounds):
        for name in list(contestants)[:: -1 if number % 2 else 1]:
            turns[name].append(await contestants[name]())
    return turns


def rate(turns: Turns, name: str) -> float:
    """The median over the rounds."""
    return median(each.rate for each in turns[name])


def latency(turns: Turns, name: str, percent: int) -> float:
    """In milliseconds; the median over the rounds."""
    return median(each.milliseconds(percent) for each in turns[name])


def ratio(turns: Turns, name: str, base: str) -> float:
    """How many times as fast as the base: the median of the rounds' own ratios."""
    return median(ours.rate / theirs.rate for ours, theirs in zip(turns[name], turns[base], strict=True))


def latency_ratio(turns: Turns, name: str, base: str, percent: int) -> float:
    """How many times as long as the base: the median of the rounds' own ratios."""
    return median(
        ours.milliseconds(percent) / theirs.milliseconds(percent)
        for ours, theirs in zip(turns[name], turns[base], strict=True)
    )
