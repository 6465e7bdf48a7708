"""Faces: the store under the names of the source documents. Prints one as a file, and shows one in the schema public.

What a face is stands in its migration; nothing here knows its tables.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from storage.database import Database
from storage.errors import FaceRefused
from storage.migrate import LEDGER, Migration, shipped

_PREFIX = "face_"

IS_SHOWN = """
SELECT count(*) > 0 AND count(*) = (
           SELECT count(*) FROM sidestep.public_face_objects() o WHERE o.behind LIKE 'face\\_' || $1 || '.%')
  FROM (SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace('face_' || $1) AND relkind = 'v'
         UNION ALL
        SELECT proname FROM pg_proc WHERE pronamespace = to_regnamespace('face_' || $1)
           AND prorettype NOT IN ('trigger'::regtype, 'void'::regtype)) parts
"""
SHOW = "SELECT sidestep.show_public_face($1)"


def faces() -> list[str]:
    """The names of the faces, without `face_`."""
    return list(dict.fromkeys(m.name.removeprefix(_PREFIX) for m in shipped() if m.name.startswith(_PREFIX)))


async def show_public(database: Database, face: str) -> None:
    """Put a face into the schema public, in the place of another. Raises FaceRefused where something stands there."""
    async with database.transaction() as connection:
        # Asks for no right to create where there is nothing to do.
        if await connection.fetchval(IS_SHOWN, face):
            return
        try:
            await connection.execute(SHOW, face)
        except (
            asyncpg.DuplicateTableError,
            asyncpg.DuplicateFunctionError,
            asyncpg.DependentObjectsStillExistError,
            asyncpg.InsufficientPrivilegeError,
            asyncpg.InvalidSchemaNameError,
        ) as exc:
            raise FaceRefused(
                f"store.public_face: {face} cannot be put into the schema public of {database.address.place} "
                f"({exc.args[0]}): make room there, or leave store.public_face out and "
                f"SET search_path TO face_{face}, public"
            ) from exc


def printed(face: str) -> str:
    """The store with one face as a single SQL script; what is there already it leaves as it is."""
    chosen = [m for m in shipped() if m.name == _PREFIX + face or not m.name.startswith(_PREFIX)]
    ends = (
        "SELECT sidestep.wall_off();",
        f"SELECT sidestep.show_public_face('{face}'); -- leave this line out to keep the schema public as it is",
        "COMMIT;",
    )
    return "\n\n".join((_HEAD.format(face=face), *_ledger(), *map(_step, chosen), *ends)) + "\n"


_HEAD = """\
-- Sidestep's store with the face "{face}". Paste it into a SQL editor, or: psql -f. It can be run again.
-- Each step is skipped where it was done before; sidestep itself goes on from here.
SET client_min_messages TO warning;
BEGIN;
SELECT pg_advisory_xact_lock(hashtext('sidestep.print'));"""


def _ledger() -> Sequence[str]:
    return ("CREATE SCHEMA IF NOT EXISTS sidestep;", LEDGER.strip() + ";")


def _step(migration: Migration) -> str:
    tag = f"$migration_{migration.version}$"
    return (
        "DO $step$ BEGIN\n"
        f"IF NOT EXISTS (SELECT FROM sidestep.schema_migrations WHERE version = '{migration.version}') THEN\n"
        f"EXECUTE {tag}\n{migration.sql}\n{tag};\n"
        "INSERT INTO sidestep.schema_migrations (version, name, sha256)\n"
        f"VALUES ('{migration.version}', '{migration.name}', '{migration.sha256}');\n"
        "END IF;\nEND $step$;"
    )
