"""A text as comparable words, for any script: case, accents and punctuation ignored; pure.

What counts as an accent differs by script. The marks of Latin, Greek and Cyrillic letters, Arabic and
Hebrew vowel points are left out by people in a hurry, so they are ignored. In Devanagari and its
relatives, in Thai and in kana a mark is a sound of its own: it stays.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_IGNORED_MARKS = re.compile(
    "[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f"
    "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"  # Hebrew points
    "\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed"  # Arabic
    "\U0001f3fb-\U0001f3ff]"  # skin tones
)
_LETTERS_WITHOUT_ACCENT = str.maketrans({"ı": "i", "ł": "l", "ø": "o", "đ": "d"})

# Written without spaces, or (Korean) with particles that stick to the word: every sign is a word of its
# own, and so a phrase matches wherever it stands.
_SPACELESS = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3100-\u312f\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
)


# More than a person writes in one message; folding a megabyte would hold up everybody else for a second.
_LONGEST = 4_000


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text, folded; an emoji or a currency sign is a word too. What is very long is read in part."""
    text = text[:_LONGEST]
    # Casefolding may leave new composed letters, hence the order; NFC gathers Hangul and kana again.
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    folded = _IGNORED_MARKS.sub("", folded).translate(_LETTERS_WITHOUT_ACCENT)
    return tuple(_split(unicodedata.normalize("NFC", folded)))


def _split(text: str) -> Iterator[str]:
    word = ""
    for sign in text:
        kind = unicodedata.category(sign)
        if kind == "Cf":  # joiners and direction marks: invisible, and inside words
            continue
        if kind[0] == "M":  # belongs to the sign before it
            word += sign if word else ""
            continue
        if word and (kind[0] not in "LN" or _stands_alone(sign) or _stands_alone(word[0])):
            yield word
            word = ""
        if kind[0] in "LN" or _stands_alone(sign):
            word += sign
    if word:
        yield word


def _stands_alone(sign: str) -> bool:
    kind = unicodedata.category(sign)
    return kind in ("So", "Sc") or (kind[0] in "LN" and bool(_SPACELESS.match(sign)))
