"""Which messages of a file are recorded already under another id, live or by an earlier import; pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from bot.importing.addresses import NAME_SERVER
from bot.importing.items import Item, content_key
from storage.imported import PREFIX, Nearby
from storage.models import LID_SERVER, Author, MessageId

# What the bot says is recorded before it is sent, and the platform's clock is not ours.
_BOT_BEFORE, _BOT_AFTER = timedelta(minutes=3), timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Matched:
    """By the numbers of items. `same`: where each is recorded; `changes`: what each is a later state of."""

    same: dict[int, Nearby] = field(default_factory=dict)
    changes: dict[int, Nearby] = field(default_factory=dict)


def match(items: Sequence[Item], nearby: Sequence[Nearby], taken: set[MessageId]) -> Matched:
    """Pair them, each recorded message once; those in `taken` are paired already, and what is paired now joins them."""
    found = Matched()
    names = {row.name.casefold() for row in nearby if row.name}
    by_key: dict[tuple[bool, str, str], list[Nearby]] = defaultdict(list)
    for row in nearby:
        by_key[(row.is_ours, *content_key(row.type, row.text))].append(row)
    for number, item in enumerate(items):
        for row in by_key[item.key]:
            if row.id not in taken and _is_same(item, row, names):
                found.same[number] = row
                taken.add(row.id)
                break
    own = {item.message.event.external_id for item in items}
    for number, item in enumerate(items):
        if item.is_changed and number not in found.same:
            left = [
                row
                for row in nearby
                if row.id not in taken
                and row.external_id not in own
                and row.is_ours == item.message.event.from_me
                and _minute(row.at) == _minute(item.message.event.sent_at)
                and _may_be_by(item, row, names)
            ]
            # Of several nobody can tell which.
            if len(left) == 1:
                found.changes[number] = left[0]
                taken.add(left[0].id)
    return found


def _is_same(item: Item, row: Nearby, names: set[str]) -> bool:
    is_imported = row.external_id is not None and row.external_id.startswith(PREFIX)
    if is_imported and not item.is_changed and row.external_id != item.message.event.external_id:
        return False  # its equal of the same minute, which an import has told apart
    at = item.message.event.sent_at
    if row.author is Author.BOT:
        return row.at - _BOT_AFTER <= at + timedelta(seconds=59) and at <= row.at + _BOT_BEFORE
    return _minute(row.at) == _minute(at) and _may_be_by(item, row, names)


def _may_be_by(item: Item, row: Nearby, names: set[str]) -> bool:
    """In a group: whether both can be by one person. A name in an export is the phone's, and need not be theirs."""
    event = item.message.event
    if row.is_ours or not event.is_group or event.sender.jid in row.jids:
        return True
    if not event.sender.jid.endswith(f"@{NAME_SERVER}"):
        return all(jid.endswith(f"@{LID_SERVER}") for jid in row.jids)
    name = (item.sender_name or "").casefold()
    return name not in names or row.name is None or row.name.casefold() == name


def _minute(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)
