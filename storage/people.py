"""People whom another system has written down. Holds the queries; who they are here is the database's own to tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from storage.database import Database
from storage.models import TenantId

UNREAD = """
SELECT person_id, phone FROM sidestep.people
 WHERE tenant_id = $1 AND number IS NULL AND phone IS NOT NULL ORDER BY person_id LIMIT $2
"""
# One who was given another number meanwhile is read again.
SET_NUMBERS = """
UPDATE sidestep.people p SET number = n.number
  FROM unnest($2::uuid[], $3::text[], $4::text[]) n (person_id, phone, number)
 WHERE p.tenant_id = $1 AND p.person_id = n.person_id AND p.phone = n.phone
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenNumber:
    """A person's number as it was written down."""

    person_id: UUID
    phone: str


class PeopleStore:
    """The people of one tenant."""

    def __init__(self, database: Database, tenant_id: TenantId) -> None:
        self._database = database
        self._tenant_id = tenant_id

    async def unread(self, limit: int) -> Sequence[WrittenNumber]:
        """Numbers that nobody has read yet."""
        rows = await self._database.fetch(UNREAD, self._tenant_id, limit)
        return [WrittenNumber(person_id=row["person_id"], phone=row["phone"]) for row in rows]

    async def set_numbers(self, read: Sequence[tuple[WrittenNumber, str]]) -> None:
        """Say which digits each is, country code first; none: it is no number. Contacts with it are theirs then."""
        await self._database.execute(
            SET_NUMBERS,
            self._tenant_id,
            [written.person_id for written, _ in read],
            [written.phone for written, _ in read],
            [digits for _, digits in read],
        )
