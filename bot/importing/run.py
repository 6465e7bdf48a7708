"""Imports files one after the other, each as a whole or not at all where it is refused; prints nothing itself."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol
from zoneinfo import ZoneInfo

from bot.importing import chatfile, linesfile
from bot.importing.addresses import phone_jid, region_of
from bot.importing.chatfile import Ordinals, Reading, parse
from bot.importing.errors import ImportRefused, Problems
from bot.importing.files import Files
from bot.importing.items import Item, Tally
from bot.importing.linesfile import Placed
from bot.importing.order import DateOrder
from bot.importing.people import Asker, Casting, Wishes
from bot.importing.recorder import After, Recorder
from bot.importing.scan import scan
from bot.importing.source import CAPS, Caps, Source, opened
from bot.importing.text import lines as text_lines
from storage.imported import Conversation
from storage.imports import ImportStore
from storage.models import Account, AccountId, Channel, ExternalId, Jid, Tenant

_CHUNK = 2_000
_RECORDERS_KEPT = 500


class Progress(Protocol):
    """Somebody who watches: told what begins, of how many bytes, and how many more are done."""

    def begin(self, what: str, total: int) -> None: ...

    def advance(self, done: int) -> None: ...

    def end(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of one file. `refused`: why nothing of it was recorded. `order`: how its dates were read."""

    path: Path
    tally: Tally
    problems: Problems
    refused: str | None = None
    notes: int = 0
    order: DateOrder | None = None
    conversation: Conversation | None = None

    @property
    def is_fine(self) -> bool:
        return self.refused is None and not self.problems.left_out


@dataclass(frozen=True, slots=True, kw_only=True)
class Importer:
    """Imports for one tenant; `account` is the WhatsApp number that an export without another word belongs to."""

    store: ImportStore
    tenant: Tenant
    account: Account
    accounts: Sequence[Account]
    wishes: Wishes
    zone: ZoneInfo
    order: DateOrder | None
    asker: Asker
    progress: Progress
    now: Callable[[], datetime]
    dry: bool = False
    files: Files | None = None
    caps: Caps = field(default=CAPS)

    async def run(self, path: Path) -> Report:
        """Import one file. Raises StoreUnavailable; it can be repeated, and records nothing twice."""
        tally, problems = Tally(), Problems()
        try:
            with opened(path, self.caps) as source:
                if not source.is_archive and _is_json(source):
                    await self._lines(source, tally, problems)
                    return Report(path=path, tally=tally, problems=problems)
                return await self._chat(source, tally, problems)
        except ImportRefused as exc:
            return Report(path=path, tally=tally, problems=problems, refused=str(exc))

    async def _chat(self, source: Source, tally: Tally, problems: Problems) -> Report:
        # The first look reads it to its end: what is wrong with it is known before anything is recorded.
        self.progress.begin(f"reading {source.path.name}", source.size)
        found = scan(parse(source, self.progress.advance), self.now().astimezone(self.zone))
        order = self._order(found.orders)
        casting = Casting(
            store=self.store, tenant=self.tenant, account=self.account, wishes=self.wishes, asker=self.asker
        )
        cast = await casting.cast(found, source.title)
        own = self.account.jid or phone_jid(self.tenant.owner.removeprefix("+"))
        reading = Reading(order=order, zone=self.zone, cast=cast, own=Jid(own), now=self.now())

        async def keep_files(recorded: Sequence[tuple[Item, ExternalId]]) -> None:
            if self.files is not None:
                await self.files.keep(source, self.account, cast.conversation, recorded, tally)

        recorder = self._recorder(self.account, cast.conversation, tally, problems, keep_files)
        self.progress.begin(f"recording {source.path.name}", source.size)
        for item in chatfile.items(source, reading, problems, self.progress.advance):
            await recorder.add(item)
        await recorder.flush()
        return Report(
            path=source.path, tally=tally, problems=problems, notes=found.notes, order=order,
            conversation=cast.conversation,
        )  # fmt: skip

    def _order(self, orders: Sequence[DateOrder]) -> DateOrder:
        if self.order is not None:
            return self.order
        if len(orders) == 1:
            return orders[0]
        chosen = self.asker.choose("In which order do the dates stand?", list(orders))
        if chosen is None:
            raise ImportRefused(
                f"its dates can be read in {len(orders)} orders: say which with --date-order {' or '.join(orders)}"
            )
        return DateOrder(chosen)

    async def _lines(self, source: Source, tally: Tally, problems: Problems) -> None:
        # Whether all of it is text is known before anything is recorded, as with an export.
        self.progress.begin(f"reading {source.path.name}", source.size)
        with source.opened() as stream:
            for _ in text_lines(chatfile.Watched(stream, self.progress.advance)):
                pass
        self.progress.begin(f"recording {source.path.name}", source.size)
        region, ordinals = region_of(self.tenant.owner), Ordinals()
        recorders: OrderedDict[tuple[AccountId | None, Jid], Recorder] = OrderedDict()
        chunk: list[Placed] = []
        with source.opened() as stream:
            watched = chatfile.Watched(stream, self.progress.advance)
            for placed in linesfile.placed(watched, region, self.now(), problems, ordinals):
                chunk.append(placed)
                if len(chunk) >= _CHUNK:
                    await self._record(chunk, recorders, tally, problems)
                    chunk = []
        await self._record(chunk, recorders, tally, problems)

    async def _record(
        self,
        chunk: Sequence[Placed],
        recorders: OrderedDict[tuple[AccountId | None, Jid], Recorder],
        tally: Tally,
        problems: Problems,
    ) -> None:
        touched: dict[tuple[AccountId | None, Jid], Recorder] = {}
        for placed in chunk:
            account = await self._account(placed)
            if account is None:
                if self.dry:  # it would be made
                    tally.new += 1
                continue
            key = (account.account_id, placed.conversation.jid)
            recorder = recorders.pop(key, None) or self._recorder(
                account, placed.conversation, tally, problems
            )
            recorders[key] = touched[key] = recorder
            await recorder.add(placed.item)
        for recorder in touched.values():
            await recorder.flush()
        while len(recorders) > _RECORDERS_KEPT:
            recorders.popitem(last=False)

    async def _account(self, placed: Placed) -> Account | None:
        """Whose message it is: the account that its line names, else the tenant's of that channel."""
        channel = placed.conversation.channel
        for account in self.accounts:
            if account.name == placed.account and account.channel is channel:
                return account
        if channel is Channel.WHATSAPP:
            return self.account
        if self.dry:
            return await self.store.find_account(self.tenant, channel)
        return await self.store.account_of(self.tenant, channel, self.now())

    def _recorder(
        self,
        account: Account,
        conversation: Conversation,
        tally: Tally,
        problems: Problems,
        after: After | None = None,
    ) -> Recorder:
        return Recorder(
            self.store,
            account,
            conversation,
            self.now,
            problems=problems,
            tally=tally,
            dry=self.dry,
            after=after,
        )


def _is_json(source: Source) -> bool:
    with source.opened() as stream:
        start = stream.read(4096).lstrip(b"\xef\xbb\xbf").lstrip()
    return start.startswith(b"{")
