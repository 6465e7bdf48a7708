"""The mutants fit the code: a patch that no longer applies would prove nothing, and nobody would see it."""

import subprocess

import pytest

from tests.mutants.__main__ import ROOT, Mutant, mutants


@pytest.mark.parametrize("mutant", mutants(), ids=lambda mutant: mutant.name)
def test_each_mutant_applies_and_names_a_test(mutant: Mutant) -> None:
    done = subprocess.run(
        ["git", "apply", "--check", str(mutant.patch)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    path, _, name = mutant.test.partition("::")
    assert f"def {name}(" in (ROOT / path).read_text()
