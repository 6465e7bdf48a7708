"""Every SQL constant of the storage package fits the migrated schema."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator

import asyncpg
import pytest

import storage
from storage.database import Database

# Raised as the store grows, so that a change that hides constants from this test fails it.
FEWEST = 158

_STATEMENT = re.compile(
    r"\s*(?:--[^\n]*\n\s*)*(SELECT|INSERT|UPDATE|DELETE|WITH|MERGE|CALL)\b", re.IGNORECASE
)


def constants() -> Iterator[tuple[str, str]]:
    """(module.NAME, text) of every upper-case constant that is a statement; what a module imports is named once."""
    seen = set()
    for found in pkgutil.walk_packages(storage.__path__, "storage."):
        module = importlib.import_module(found.name)
        for name, value in vars(module).items():
            if name.isupper() and isinstance(value, str) and _STATEMENT.match(value) and value not in seen:
                seen.add(value)
                yield f"{found.name}.{name}", value


STATEMENTS = dict(constants())


@pytest.mark.parametrize("name", STATEMENTS)
async def test_every_statement_prepares(name: str, rollback_db: Database) -> None:
    async with rollback_db.transaction() as connection:
        try:
            await connection.prepare(STATEMENTS[name])
        except asyncpg.PostgresError as exc:
            pytest.fail(f"{name}: {exc}")


def test_the_statements_are_found() -> None:
    assert len(STATEMENTS) >= FEWEST
