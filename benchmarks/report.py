"""Results as a table for people and as JSON for later; it judges nothing but whether a target is met."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure. `target` None: told for its own sake; `at_most`: a target that is not to be exceeded."""

    name: str
    value: float
    unit: str = ""
    target: float | None = None
    at_most: bool = False

    @property
    def is_met(self) -> bool:
        if self.target is None:
            return True
        return self.value <= self.target if self.at_most else self.value >= self.target


def table(rows: Sequence[Row]) -> str:
    """A line a figure."""
    lines = [f"{'':58}{'':>12}  {'target':<10}"]
    for row in rows:
        value = f"{row.value:,.0f}" if row.value >= 100 else f"{row.value:.2f}"
        wanted = "" if row.target is None else f"{'<=' if row.at_most else '>='} {row.target:g}"
        verdict = "" if row.target is None else ("met" if row.is_met else "MISSED")
        lines.append(f"{row.name:58}{value + ' ' + row.unit:>14}  {wanted:<10}{verdict}".rstrip())
    return "\n".join(lines)


def keep(folder: Path, name: str, rows: Sequence[Row], settings: dict[str, object]) -> Path:
    """Write them down with what they were measured on."""
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    path = folder / f"{name}-{now:%Y%m%dT%H%M%SZ}.json"
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()}
    told = [{**asdict(row), "met": row.is_met} for row in rows]
    path.write_text(json.dumps({"at": now.isoformat(), **machine, **settings, "rows": told}, indent=1))
    return path
