"""The grammar of WhatsApp's own exports: lines become messages, in the forms of Android and iOS; records nothing.

An export has one form throughout: brackets or a hyphen, its separators, seconds or none. The first line that is a
message shows it; a line in another form is part of a message, as when somebody has pasted a conversation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bot.importing.stamps import INVISIBLE, Stamp, read_stamp

LONGEST_TEXT = 65_536
"""What WhatsApp takes in a message, in characters; what is longer is no message."""

_IOS = re.compile(r"\[(?P<stamp>[^\]\n]{6,60})\] ?(?P<rest>.*)", re.DOTALL)
_ANDROID = re.compile(r"(?P<stamp>[^\n]{6,60}?) [-–] (?P<rest>.*)", re.DOTALL)
_KOREAN = re.compile(r"(?P<stamp>\d{4}년[^\n]{4,40}?\d:\d{2}), (?P<rest>.*)", re.DOTALL)
_INVISIBLE_FIRST = re.compile(f"(?:{INVISIBLE.pattern})*")
_QUOTES = re.compile('["“”„«»「」]')
_LONGEST_NAME = 120


@dataclass(slots=True)
class Entry:
    """A message as it stands in the file, or a note of WhatsApp's own: that has no `sender`. `is_cut`: too long."""

    line: int
    stamp: Stamp
    sender: str | None
    text: str
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Stray:
    """A line that belongs to no message."""

    line: int


def entries(lines: Iterable[str]) -> Iterator[Entry | Stray]:
    """Every message, in the order of the file."""
    form: str | None = None
    entry: Entry | None = None
    more: list[str] = []
    room = 0
    for number, line in enumerate(lines, 1):
        head = _head(line)
        if head is not None and (form is None or head[0] == form):
            if entry is not None:
                yield _whole(entry, more)
            form, stamp, rest = head
            sender, text = _sender(rest, is_korean=form.startswith("k"))
            entry, more, room = Entry(number, stamp, sender, text), [], LONGEST_TEXT - len(text)
        elif entry is None:
            if INVISIBLE.sub("", line).strip():
                yield Stray(number)
        elif room - len(line) - 1 >= 0:
            room -= len(line) + 1
            more.append(line)
        else:
            entry.is_cut, room = True, 0
    if entry is not None:
        yield _whole(entry, more)


def _whole(entry: Entry, more: list[str]) -> Entry:
    if more:
        entry.text = "\n".join((entry.text, *more))
    if len(entry.text) > LONGEST_TEXT:
        entry.text, entry.is_cut = entry.text[:LONGEST_TEXT], True
    return entry


def _head(line: str) -> tuple[str, Stamp, str] | None:
    """The form, the time and the rest, where a message begins."""
    start = _INVISIBLE_FIRST.match(line)
    assert start is not None  # noqa: S101 - it matches the empty string
    at = start.end()
    first = line[at : at + 1]
    if first == "[":
        found, kind = _IOS.match(line, at), "i"
    elif first.isdigit():
        found, kind = _KOREAN.match(line, at), "k"
        if found is None:
            found, kind = _ANDROID.match(line, at), "a"
    else:
        return None
    stamp = read_stamp(found["stamp"]) if found else None
    return None if found is None or stamp is None else (kind + stamp.form, stamp, found["rest"])


def _sender(rest: str, *, is_korean: bool) -> tuple[str | None, str]:
    sender, colon, text = rest.partition(" : " if is_korean else ": ")
    if not colon and rest.endswith(":"):
        sender, colon, text = rest[:-1], ":", ""
    name = clean_name(sender)
    # A note may hold a colon too, within the name of a group, which it quotes.
    if not colon or not name or len(name) > _LONGEST_NAME or len(_QUOTES.findall(sender)) % 2:
        return None, rest
    return name, text


def clean_name(name: str) -> str:
    """A sender's name: without marks of direction, and the wave before the names that people chose themselves."""
    return (
        INVISIBLE.sub("", name)
        .replace("\u202f", " ")
        .replace("\u00a0", " ")
        .strip()
        .removeprefix("~")
        .strip()
    )
