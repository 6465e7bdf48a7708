"""`python -m tests.lab.rounds N`: the lab's tests N times in a row, to the first failure; a flake is a bug.

What follows N goes to pytest. Each round's log is kept until the next call, in `.lab/`.
"""

import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

LOGS = Path(".lab")


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One run of all tests. `summary` is pytest's last line, such as "99 passed in 80.12s"."""

    summary: str
    seconds: float
    passed: bool
    log: Path


def run(number: int, arguments: list[str]) -> Round:
    log = LOGS / f"round-{number:02}.log"
    started = time.monotonic()
    with log.open("wb") as out:
        code = subprocess.call(
            [sys.executable, "-m", "pytest", "tests/lab", "-q", *arguments], stdout=out, stderr=out
        )
    lines = log.read_text(errors="replace").rstrip().splitlines()
    return Round(
        summary=lines[-1] if lines else "nothing was said",
        seconds=time.monotonic() - started,
        passed=code == 0,
        log=log,
    )


def main() -> int:
    if len(sys.argv) < 2 or not sys.argv[1].isdecimal() or int(sys.argv[1]) < 1:
        print("usage: python -m tests.lab.rounds N [pytest's arguments], N being 1 or more", file=sys.stderr)
        return 2
    wanted, arguments = int(sys.argv[1]), sys.argv[2:]
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir()
    seconds = 0.0
    for number in range(1, wanted + 1):
        done = run(number, arguments)
        seconds += done.seconds
        print(f"round {number} of {wanted}: {done.summary}", flush=True)
        if not done.passed:
            print(f"stopped at the first failure, after {seconds:.0f} s; its log: {done.log}")
            return 1
    print(f"{wanted} rounds in a row without a failure, {seconds:.0f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
