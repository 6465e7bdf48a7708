"""`python -m tests.mutants`: each patch beside this file takes a guard out of a copy of the code; a test must fail.

A patch begins with what it takes away and with the test, a line `Test: path::name`. First all the tests run on the code
as it is: a test that fails there shows nothing. Exit 0 when every mutant was killed.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
COPIED = ("bot", "flows", "storage", "tests", "pyproject.toml", "config.yaml")

_FAILED = 1  # pytest's exit code where tests ran and failed; an error of another kind kills nothing
_TEST = re.compile(r"^Test: (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A patch, the guard that it takes out in words, and the test that fails without it."""

    name: str
    patch: Path
    guard: str
    test: str


def mutants(folder: Path = HERE) -> list[Mutant]:
    """Raises ValueError for a patch that names no test."""
    found = []
    for patch in sorted(folder.glob("*.patch")):
        head = patch.read_text().partition("\n--- ")[0]
        if (named := _TEST.search(head)) is None:
            raise ValueError(f"{patch} names no test: it needs a line `Test: path::name` above the patch")
        found.append(
            Mutant(name=patch.stem, patch=patch, guard=head.splitlines()[0].rstrip("."), test=named[1])
        )
    return found


@contextmanager
def copy() -> Iterator[Path]:
    """The code in a folder of its own, readable for the account that PostgreSQL runs as."""
    folder = Path(tempfile.mkdtemp(prefix="sidestep-mutant-"))
    folder.chmod(0o711)
    try:
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, folder / name)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def apply(mutant: Mutant, folder: Path) -> str | None:
    """Change the copy; what is wrong with the patch, or None."""
    done = subprocess.run(
        ["git", "apply", "--whitespace=nowarn", str(mutant.patch)], cwd=folder, capture_output=True, text=True
    )
    return done.stderr.strip() or "it does not apply" if done.returncode else None


def run(folder: Path, tests: Sequence[str]) -> subprocess.CompletedProcess[str]:
    # -x: the first failure is enough. The folder comes first on the path, before what is installed.
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests],
        cwd=folder,
        capture_output=True,
        text=True,
    )


def verdict(mutant: Mutant) -> str | None:
    """None: killed. Else why not."""
    with copy() as folder:
        if (error := apply(mutant, folder)) is not None:
            return f"the patch no longer fits the code, renew it: {error}"
        done = run(folder, [mutant.test])
    if done.returncode == _FAILED:
        return None
    if done.returncode == 0:
        return "its test passes without the guard"
    return "its test did not run:\n" + done.stdout[-2000:]


def main() -> int:
    listed = mutants()
    with copy() as folder:
        done = run(folder, sorted({mutant.test for mutant in listed}))
    if done.returncode:
        print("with all guards in place the tests must pass:\n" + done.stdout[-4000:])
        return 1
    alive = 0
    for mutant in listed:
        reason = verdict(mutant)
        alive += reason is not None
        print(
            f"{'killed' if reason is None else 'ALIVE '}  {mutant.name}: {mutant.guard}  ({mutant.test})",
            flush=True,
        )
        if reason is not None:
            print(f"        {reason}")
    print(f"{len(listed) - alive} of {len(listed)} mutants killed")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
