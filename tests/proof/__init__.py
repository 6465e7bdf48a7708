"""The proof by games."""

import pytest

pytest.register_assert_rewrite("tests.proof.claims", "tests.proof.judge")
