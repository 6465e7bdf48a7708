"""What `sidestep media` and `sidestep check --media` do, and what they print; a daemon may run meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from bot.clock import SystemClock
from bot.commands import store_of
from bot.config import Config
from bot.media.audit import LEFT_ALONE, Audit, Trouble
from bot.media.mover import Mover
from bot.media.shelf import Shelf
from storage.blobs import BlobStore
from storage.database import Database
from storage.media import MediaStatus, MediaStore
from storage.models import Tenant
from storage.tenants import TenantStore

Say = Callable[[str], None]

_MEGABYTE = 1 << 20
_NOTE_EVERY = 1000


async def status(config: Config) -> list[dict[str, Any]]:
    """Each tenant's media by status, its files and their size."""
    told = []
    async with store_of(config) as database:
        store = MediaStore(database)
        for tenant in await _tenants(config, database):
            count = await store.count(tenant.tenant_id)
            told.append(
                {
                    "tenant": tenant.instance_name,
                    **{each.value: count.by_status.get(each, 0) for each in MediaStatus},
                    "unasked": count.unasked,
                    "files": count.files,
                    "bytes": count.size_bytes,
                    "place": Shelf(config).home.base,
                }
            )
    return told


def in_words(told: dict[str, Any]) -> str:
    counted = ", ".join(f"{told[each.value]} {each.value}" for each in MediaStatus)
    past = f" (of these {told['unasked']} of the past, see `media retry --past`)" if told["unasked"] else ""
    return (
        f"{told['tenant']}: {counted}{past}; {told['files']} files of {told['bytes'] / _MEGABYTE:.1f} MB. "
        f"New ones go to {told['place']}"
    )


async def retry(config: Config, *, past: bool) -> int:
    """How many a daemon will fetch once more."""
    asked, now = 0, SystemClock().now()
    async with store_of(config) as database:
        for tenant in await _tenants(config, database):
            asked += await MediaStore(database).ask_again(tenant.tenant_id, now, past=past)
    return asked


async def move(config: Config, to: str, say: Say, *, remove: bool) -> bool:
    """Whether all files lie at `to` now."""
    shelf = Shelf(config)
    place, moved, failed = shelf.at(to), 0, 0
    async with store_of(config) as database:
        blobs = BlobStore(database)
        mover = Mover(blobs, shelf, place, SystemClock().now, remove=remove)
        for tenant_id in await blobs.shelves():
            async for one in mover.move(tenant_id):
                if one.error is not None:
                    failed += 1
                    say(f"{one.blob.url} {one.error}")
                    continue
                moved += 1
                if moved % _NOTE_EVERY == 0:
                    say(f"{moved} files …")
    say(f"{moved} files have moved to {place.base}.")
    if failed:
        say(f"{failed} could not be moved: sidestep check --media --repair")
    if shelf.home.base != place.base:
        say(f"New ones still go to {shelf.home.base}: {_how_to_go(place.base)}")
    return not failed


async def check(config: Config, say: Say, *, repair: bool) -> bool:
    """Whether files and rows agree, now that what could be repaired is."""
    found: Counter[Trouble] = Counter()
    open_still = 0
    async with store_of(config) as database:
        audit = Audit(BlobStore(database), Shelf(config), SystemClock().now, repair=repair)
        async for finding in audit.run():
            found[finding.trouble] += 1
            open_still += finding.remedy is None and finding.trouble not in LEFT_ALONE
            say(f"{finding.trouble}: {finding.url}" + (f" ({finding.remedy})" if finding.remedy else ""))
    told = ", ".join(f"{number} {trouble}" for trouble, number in found.items())
    say(f"{audit.files} files of media looked at: {told or 'all as they should be'}.")
    if open_still and not repair:
        say("To repair what can be: sidestep check --media --repair")
    return not open_still


async def _tenants(config: Config, database: Database) -> list[Tenant]:
    found = [await TenantStore(database).find(wanted.instance_name) for wanted in config.tenants]
    return [tenant for tenant in found if tenant is not None]


def _how_to_go(base: str) -> str:
    if base.startswith("file://"):
        return "set media.dir to this folder in config.yaml"
    return f"set media.url to {base} in config.yaml"
