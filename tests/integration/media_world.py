"""Media over real PostgreSQL and a real folder, fetched from the memory transport; it proves nothing itself."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import asyncpg
from PIL import Image

from bot.clock import VirtualClock
from bot.config import Config
from bot.media.fetcher import MediaFetcher
from bot.media.keeper import Keeper
from bot.media.shelf import Shelf
from bot.metrics import Metrics
from bot.transports.base import Medium
from bot.transports.memory import MemoryTransport
from storage.blobs import BlobStore
from storage.database import Database
from storage.models import Address, Arrival, MessageType, Recorded
from tests.conftest import until
from tests.integration.store_world import ANA, NOW, World, of_type

MEGABYTE = 1 << 20


async def _is_connected(transport: MemoryTransport) -> bool:
    return transport.connection.can_receive


def png(shade: int = 0, size: tuple[int, int] = (400, 300)) -> bytes:
    written = io.BytesIO()
    Image.new("L", size, shade).save(written, "PNG")
    return written.getvalue()


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaWorld:
    """`folder` is where files go, on the tenant's `shelf`; the transport is connected."""

    world: World
    folder: Path
    shelf: str
    transport: MemoryTransport
    clock: VirtualClock
    config: Config
    keeper: Keeper
    fetcher: MediaFetcher

    @staticmethod
    def config_of(folder: Path, **media: Any) -> Config:
        tenants = [{"instance_name": "shop", "owner": "+5511999990000"}]
        return Config.model_validate({"tenants": tenants, "media": {"dir": folder, **media}})

    @classmethod
    @asynccontextmanager
    async def open(cls, db: Database, folder: Path, **media: Any) -> AsyncIterator[Self]:
        world, clock = await World.open(db), VirtualClock(NOW)
        transport = MemoryTransport(clock.now)
        config = cls.config_of(folder, **media)
        keeper = Keeper(db, Shelf(config))
        fetcher = MediaFetcher(
            world.account, transport, db, keeper, clock, Metrics(), most_bytes=config.media.max_size
        )
        [shelf] = (await BlobStore(db).shelves()).values()
        connected = asyncio.create_task(transport.run(lambda _: None))
        await until(lambda: _is_connected(transport))
        try:
            yield cls(
                world=world, folder=folder, shelf=shelf, transport=transport, clock=clock, config=config, keeper=keeper,
                fetcher=fetcher,
            )  # fmt: skip
        finally:
            connected.cancel()
            await asyncio.gather(connected, return_exceptions=True)

    def sent(
        self,
        external_id: str,
        data: bytes | None,
        *,
        kind: MessageType = MessageType.IMAGE,
        name: str | None = None,
        by: Address = ANA,
        **changes: Any,
    ) -> Arrival:
        """Somebody sends a file; None: the platform has lost it."""
        raw = json.dumps({"id": external_id})
        if data is not None:
            self.transport.files[raw] = Medium(data=data, mimetype="a/lie", name=name)
        return of_type(kind, external_id, by=by, raw=raw, **changes)

    async def receive(
        self, external_id: str, data: bytes | None, *, kind: MessageType = MessageType.IMAGE, **changes: Any
    ) -> Recorded:
        """It is recorded and, if it can be, fetched."""
        [recorded] = await self.world.record(self.sent(external_id, data, kind=kind, **changes))
        await self.fetch()
        return recorded

    async def fetch(self) -> None:
        """All that is due now."""
        while await self.fetcher.step():
            pass

    async def media(self) -> list[asyncpg.Record]:
        return await self.world.db.fetch("SELECT * FROM sidestep.media_files ORDER BY media_id")

    async def statuses(self) -> list[str]:
        return [row["status"] for row in await self.media()]

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    def elsewhere(self, config: Config) -> Self:
        """The same, as it is with another configuration."""
        keeper = Keeper(self.world.db, Shelf(config))
        fetcher = MediaFetcher(
            self.world.account, self.transport, self.world.db, keeper, self.clock, Metrics(),
            most_bytes=config.media.max_size,
        )  # fmt: skip
        return replace(self, config=config, keeper=keeper, fetcher=fetcher)
