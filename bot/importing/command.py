"""What `sidestep import` does: for each file, whose it is, when it was, and what became of it, told in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import phonenumbers
from phonenumbers import timezone

from bot.accounts import Books, books
from bot.config import Config
from bot.importing.errors import ImportRefused
from bot.importing.files import Files
from bot.importing.order import DateOrder
from bot.importing.people import Asker, Wishes
from bot.importing.run import Importer, Progress, Report
from bot.wiring import keeper_of
from storage.accounts import AccountOverview
from storage.imports import ImportStore
from storage.media import MediaStore
from storage.models import Channel

_ORDERS = {
    DateOrder.DMY: "day, month, year",
    DateOrder.MDY: "month, day, year",
    DateOrder.YMD: "year, month, day",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asks for."""

    account: str | None = None
    wishes: Wishes = field(default_factory=Wishes)
    order: DateOrder | None = None
    time_zone: str | None = None
    dry: bool = False


Say = Callable[[str], None]


async def import_files(
    config: Config,
    files: Sequence[Path],
    options: Options,
    *,
    asker: Asker,
    progress: Progress,
    say: Say,
    complain: Say,
) -> bool:
    """Import every file; True when all of all of them was understood. Raises ImportRefused, StorageError."""
    async with books(config) as kept:
        importer = await _importer(config, kept, options, asker, progress)
        fine = True
        for path in files:
            report = await importer.run(path)
            progress.end()
            tell(report, importer, say, complain)
            fine = fine and report.is_fine
    return fine


async def _importer(
    config: Config, kept: Books, options: Options, asker: Asker, progress: Progress
) -> Importer:
    wanted = {tenant.instance_name for tenant in config.tenants}
    accounts = [each for each in await kept.accounts.list() if each.tenant in wanted]
    chosen = _chosen(accounts, options.account)
    tenant = await kept.tenants.find(chosen.tenant)
    assert tenant is not None  # noqa: S101 - it has an account
    store = ImportStore(kept.database)
    return Importer(
        store=store,
        files=_files(config, kept, store),
        tenant=tenant,
        account=chosen.account,
        accounts=[each.account for each in accounts if each.tenant == chosen.tenant],
        wishes=options.wishes,
        zone=_zone(options.time_zone, tenant.owner),
        order=options.order,
        asker=asker,
        progress=progress,
        now=lambda: datetime.now(UTC),
        dry=options.dry,
    )


def _files(config: Config, kept: Books, store: ImportStore) -> Files | None:
    if not config.media.download:
        return None
    keeper, media = keeper_of(config, kept.database), MediaStore(kept.database)
    return Files(keeper, media, store, lambda: datetime.now(UTC), most_bytes=config.media.max_size)


def _chosen(accounts: Sequence[AccountOverview], name: str | None) -> AccountOverview:
    numbers = [each for each in accounts if each.account.channel is Channel.WHATSAPP]
    named = [each for each in numbers if name in (None, each.account.name)]
    if len(named) != 1:
        names = ", ".join(each.account.name for each in numbers)
        raise ImportRefused(
            f"there are several numbers: say whose messages these are, with --account and one of {names}"
            if named
            else f"there is no number called {name!r}; there is: {names}"
        )
    return named[0]


def _zone(name: str | None, owner: str) -> ZoneInfo:
    """The zone of the phone: the one that was asked for, else the one in which the owner's number is at home."""
    found = [name] if name else timezone.time_zones_for_number(phonenumbers.parse(owner))
    try:
        return ZoneInfo(found[0])
    except (ZoneInfoNotFoundError, ValueError, OSError):
        if name is None:
            return ZoneInfo("UTC")
        raise ImportRefused(
            f"--time-zone {name}: there is none of this name; they are like Europe/Berlin"
        ) from None


def tell(report: Report, importer: Importer, say: Say, complain: Say) -> None:
    """One file's outcome, and line by line what was not understood."""
    name = report.path.name
    if report.refused is not None:
        complain(f"{name}: {report.refused}")
        return
    tally, would = report.tally, "would be " if importer.dry else ""
    parts = [f"{tally.new} {would}new", f"{tally.known} known already"]
    if tally.changed:
        parts.append(f"{tally.changed} {would}changed since")
    if tally.files:
        parts.append(f"{tally.files} files kept")
    if tally.files_left:
        parts.append(f"{tally.files_left} files left out, broken or larger than media.max_size")
    if report.notes:
        parts.append(f"{report.notes} notes of WhatsApp's own left out")
    if report.problems.left_out:
        parts.append(f"{report.problems.left_out} not understood")
    say(f"{name}: {', '.join(parts)}")
    if report.order is not None:
        say(f"{name}: dates are {_ORDERS[report.order]}; times are those of {importer.zone.key}")
    for line in report.problems.lines():
        complain(f"{name}: {line}")
