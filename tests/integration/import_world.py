"""An import over real PostgreSQL, with somebody who answers as the test says; it proves nothing itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from zoneinfo import ZoneInfo

import asyncpg

from bot.importing.files import Files
from bot.importing.order import DateOrder
from bot.importing.people import Wishes
from bot.importing.run import Importer, Report
from bot.importing.source import CAPS, Caps
from storage.imports import ImportStore
from storage.models import Account
from tests.integration.store_world import NOW, World

ANA_NUMBER = "+55 11 98888-0001"


@dataclass
class Person:
    """Answers, or is not there."""

    choices: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    began: list[str] = field(default_factory=list)
    done: int = 0

    def choose(self, question: str, options: Sequence[str]) -> str | None:
        self.asked.append(question)
        return self.choices.pop(0) if self.choices else None

    def say(self, question: str) -> str | None:
        self.asked.append(question)
        return self.words.pop(0) if self.words else None

    def begin(self, what: str, total: int) -> None:
        self.began.append(what)

    def advance(self, done: int) -> None:
        self.done += done

    def end(self) -> None:
        pass


@dataclass
class ImportWorld:
    """A tenant's world, and a folder for what is imported."""

    world: World
    folder: Path
    person: Person = field(default_factory=Person)
    caps: Caps = CAPS
    files: Files | None = None

    def importer(
        self,
        *,
        chat: str | None = ANA_NUMBER,
        me: Sequence[str] = ("Dona",),
        order: DateOrder | None = None,
        zone: str = "UTC",
        dry: bool = False,
        accounts: Sequence[Account] = (),
    ) -> Importer:
        return Importer(
            store=ImportStore(self.world.db),
            tenant=self.world.tenant,
            account=self.world.account,
            accounts=(self.world.account, *accounts),
            wishes=Wishes(chat=chat, me=tuple(me)),
            zone=ZoneInfo(zone),
            order=order,
            asker=self.person,
            progress=self.person,
            now=lambda: NOW,
            dry=dry,
            files=self.files,
            caps=self.caps,
        )

    def write(self, content: str | bytes, name: str = "chat.txt") -> Path:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    async def bring(self, content: str | bytes, name: str = "chat.txt", **how: object) -> Report:
        """Import this as one file."""
        return await self.importer(**how).run(self.write(content, name))  # type: ignore[arg-type]  # as importer takes it

    async def rows(self) -> list[asyncpg.Record]:
        """What is recorded, with its decision, in the order of the ids."""
        return await self.world.db.fetch(
            "SELECT m.*, d.action_taken, d.event_type FROM sidestep.messages m JOIN sidestep.decisions d"
            " ON (d.tenant_id, d.chat_id, d.message_id) = (m.tenant_id, m.chat_id, m.id) ORDER BY m.id"
        )

    async def said(self) -> list[tuple[str, str | None]]:
        """Who said what."""
        return [(row["author"], row["text"]) for row in await self.rows()]

    async def is_untouched(self) -> bool:
        """Whether nothing of an import is in the store."""
        tables = ("messages", "message_keys", "chats", "contacts", "decisions")
        return not sum([await self.world.count(table) for table in tables])

    def with_caps(self, **caps: int) -> ImportWorld:
        self.caps = replace(CAPS, **caps)
        return self
