"""docs/whatsapp.md names only what there is."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = [
    [cell.strip() for cell in line.split(" | ")]
    for line in (ROOT / "docs" / "whatsapp.md").read_text().splitlines()
    if line.startswith("| ") and "fails without it" not in line
]


def test_each_trap_has_a_remedy_and_a_test() -> None:
    assert len(ROWS) > 40
    assert [row for row in ROWS if len(row) != 3 or "`test_" not in row[2]] == []


def test_the_tests_that_it_names_exist() -> None:
    code = "".join(path.read_text() for path in (ROOT / "tests").glob("*/test_*.py"))
    there = set(re.findall(r"def (test_\w+)", code))
    named = {name for row in ROWS for name in re.findall(r"`(test_\w+)`", row[2])}
    assert named - there == set()


def test_the_files_that_it_names_exist() -> None:
    named = {name for row in ROWS for name in re.findall(r"`(\w+\.py|[A-Z]\w+file)`", row[1])}
    assert named
    here = (ROOT, ROOT / "bot" / "transports" / "whatsapp")
    assert [name for name in sorted(named) if not any((folder / name).is_file() for folder in here)] == []
