"""Pages of a list that is longer than a message should be: `page 2` behind a command; it knows no particular list."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from storage.models import MessageId
from storage.reading.models import Page, T

LINES = 5
_MOST = 50
_PAGE = re.compile(r"(?P<rest>.*?)(?:^|\s+)page\s+(?P<number>\d{1,3})", re.IGNORECASE)


def split_page(arguments: str) -> tuple[str, int]:
    """Part `Ana page 2` into what it is about and which page; the first one where none is named."""
    if match := _PAGE.fullmatch(arguments):
        return match["rest"].strip(), min(max(int(match["number"]), 1), _MOST)
    return arguments, 1


async def turned_to(number: int, read: Callable[[MessageId | None], Awaitable[Page[T]]]) -> Page[T]:
    """That page, by reading those before it; an empty one behind the end of the list."""
    page = await read(None)
    for _ in range(number - 1):
        if page.next is None:
            return Page(items=())
        page = await read(page.next)
    return page


def shortened(text: str, most: int) -> str:
    """A text in one line, its end cut off where it is too long."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most]}…"
