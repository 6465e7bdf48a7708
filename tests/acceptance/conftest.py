"""A shop for each test: a folder with a configuration of its own, and a migrated database."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conversation import Shop


@pytest.fixture
def shop(tmp_path: Path, dsn: str) -> Shop:
    made = Shop(folder=tmp_path, dsn=dsn)
    made.configure()
    return made


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Not pytest's own, which is closed to the account that PostgreSQL runs as where we are root."""
    made = Path(tempfile.mkdtemp(prefix="sidestep-acceptance-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made, ignore_errors=True)
