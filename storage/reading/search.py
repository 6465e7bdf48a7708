"""Search in what was said: in one chat or in all of a tenant's, in any language. Holds the queries, writes nothing.

Words are found as they are written, whatever their case and their accents (those only where PostgreSQL has the
extension unaccent, see `folds_accents`). Scripts that do not part words, as Chinese or Thai, are found by any part of
a sentence.
`"a phrase"`, `-without`, `one OR other` and `begin*` mean what they do elsewhere.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from datetime import datetime

from storage.models import ChatId, MessageId, TenantId
from storage.reading.models import Excerpt, Find, Page
from storage.reading.rows import AROUND, COLUMNS, below, entry_of, page_of, wanted
from storage.reading.source import Source
from storage.rows import printable

SEARCH = (
    "SELECT"  # noqa: S608  constants of ours
    + COLUMNS
    + """, f.marked
  FROM sidestep.search($1, (SELECT sidestep.chat_now($1, $2)), $3, $7, $4, $5, $6, $8) f
  CROSS JOIN LATERAL (
       SELECT * FROM sidestep.messages n WHERE n.tenant_id = $1 AND n.chat_id = f.chat_id AND n.id = f.id LIMIT 1) m
"""
    + AROUND
    + " ORDER BY m.id DESC"
)
IS_ASKED = "SELECT sidestep.search_query($1) IS NOT NULL AS asked"
FOLDS_ACCENTS = "SELECT sidestep.folds_accents() AS folds"
ID_FLOOR = "SELECT sidestep.id_floor($1) AS id"

_BEGIN, _END, _PART = "\x02", "\x03", "\x1f"
_SIGNS = re.compile("([\x02\x03])")
_BEFORE, _AFTER = 40, 120


class SearchReads:
    """Search in one tenant's messages. So many of the `newest` are looked at one by one before the index of words is
    asked; None: as the database has it.
    """

    def __init__(self, source: Source, tenant_id: TenantId, newest: int | None = None) -> None:
        self._source = source
        self._tenant_id = tenant_id
        self._newest = newest

    async def search_messages(
        self,
        query: str,
        chat_id: ChatId | None = None,
        limit: int = 50,
        before: MessageId | None = None,
        *,
        since: datetime | None = None,
        without: Collection[ChatId] = (),
    ) -> Page[Find]:
        """What holds these words now, newest first; in one chat, or in all but those `without`.

        Commands are left out: who searches has just said these words. A query that asks for nothing finds nothing.
        """
        limit = wanted(limit)
        since_id = -(2**63)
        if since is not None:
            since_id = (await self._source.fetch(ID_FLOOR, since))[0]["id"]
        rows = await self._source.fetch(
            SEARCH, self._tenant_id, chat_id, printable(query), since_id, below(before), limit, list(without),
            self._newest,
        )  # fmt: skip
        found = [Find(entry=entry_of(row), excerpt=excerpt_of(row["marked"])) for row in rows]
        return page_of(found, [MessageId(row["id"]) for row in rows], limit)

    async def is_asked(self, query: str) -> bool:
        """Whether a query asks for anything: not if it is made of signs only, or says only what is not wanted."""
        return bool((await self._source.fetch(IS_ASKED, printable(query)))[0]["asked"])

    async def folds_accents(self) -> bool:
        """Whether "acao" finds "ação"; else the extension unaccent could not be had when the store was made."""
        return bool((await self._source.fetch(FOLDS_ACCENTS))[0]["folds"])


def excerpt_of(marked: str) -> Excerpt:
    """The part around the first word of a text with signs around its words; marks that touch become one."""
    parts: list[str] = []
    marks: list[tuple[int, int]] = []
    length = begin = 0
    for part in _SIGNS.split(marked.replace(_PART, "")):
        if part == _BEGIN:
            begin = length
        elif part == _END:
            marks.append((begin, length))
        else:
            parts.append(part)
            length += len(part)
    text = "".join(parts)
    return _around(text, _joined(text, marks))


def _joined(text: str, marks: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """What touches becomes one, also over the signs above letters, which some servers take for no part of a word."""
    joined: list[tuple[int, int]] = []
    for begin, end in marks:
        if joined and all(unicodedata.category(sign).startswith("M") for sign in text[joined[-1][1] : begin]):
            begin = joined.pop()[0]
        joined.append((begin, end))
    return joined


def _around(text: str, marks: Sequence[tuple[int, int]]) -> Excerpt:
    first, over = marks[0] if marks else (0, 0)
    begin, end = 0, min(max(first + _AFTER, over), len(text))
    if first > _BEFORE:
        # From a word's beginning, where there is one.
        begin = text.find(" ", first - _BEFORE, first) + 1 or first - _BEFORE
    if end < len(text) and (blank := text.rfind(" ", over, end)) > 0:
        end = blank
    shown = tuple((a - begin, b - begin) for a, b in marks if b <= end)
    return Excerpt(text=text[begin:end], marks=shown, has_before=begin > 0, has_after=end < len(text))
