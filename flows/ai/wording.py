"""What a model wrote, made fit for WhatsApp: marks removed, markup translated, long texts parted; pure."""

from __future__ import annotations

import re

from flows.ai.prompt import CALLED, CAME, LEFT, NOBODY_CAME, STAFF_MARK

MAX_CHARACTERS = 4096
"""What WhatsApp's business platform takes in one text; the app folds longer ones away."""

MAX_PARTS = 3

_BOLD = re.compile(r"(?<!\*)\*\*(?!\s)([^*\n]+?)(?<!\s)\*\*(?!\*)")
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
_LINK = re.compile(r"\[([^\]\n]+)\]\((https?://[^)\s]+)\)")
_STAFF = re.compile(
    "(?:" + "|".join(map(re.escape, (STAFF_MARK, CAME, LEFT, CALLED, NOBODY_CAME))) + r")[ \t]*",
    re.IGNORECASE,
)
_BLANK_LINES = re.compile(r"\n{3,}")
_SENTENCE_END = re.compile(r"[.!?…。！？।؟](?:[\"'”’»)\]*_]*)(?=\s|$)|(?<=[。！？])")
_BORDERS = (re.compile(r"\n\s*\n"), re.compile(r"\n"), _SENTENCE_END, re.compile(r"\s"))


def tidied(text: str) -> str:
    """Markdown as WhatsApp shows it; a mark that only the prompt may use is taken out."""
    text = _STAFF.sub("", text)
    text = _HEADING.sub(r"*\1*", text)
    text = _BOLD.sub(r"*\1*", text)
    text = _LINK.sub(r"\1: \2", text)
    return _BLANK_LINES.sub("\n\n", text).strip()


def finished(text: str) -> str:
    """Up to the last whole sentence, for an answer that was cut off; as it is when it has none."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    return text[: ends[-1]] if ends else text


def parted(text: str, *, limit: int = MAX_CHARACTERS, parts: int = MAX_PARTS) -> list[str]:
    """At most `parts` texts of at most `limit` characters, cut between paragraphs, lines, sentences or words.

    What does not fit is left out, at a sentence's end where there is one.
    """
    pieces: list[str] = []
    while text and len(pieces) < parts:
        if len(text) <= limit:
            return [*pieces, text]
        end = _border(text, limit)
        pieces.append(text[:end].rstrip())
        text = text[end:].lstrip()
    if text and pieces:
        pieces[-1] = finished(pieces[-1])
    return pieces


def _border(text: str, limit: int) -> int:
    """The last border of the best kind in the second half of what fits, else the limit itself."""
    for border in _BORDERS:
        # One character further: whether a dot ends a sentence shows only in what follows it.
        ends = [match.end() for match in border.finditer(text, 0, limit + 1)]
        ends = [end for end in ends if limit // 2 < end <= limit]
        if ends:
            return ends[-1]
    return limit
