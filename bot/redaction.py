"""What may not be shown: keys, passwords, numbers and message bodies are taken out of what is about to be; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

BODY_KEYS = frozenset({"text", "body", "raw", "caption", "prompt", "push_name", "qr"})
"""Dropped whole. A pairing QR is a credential."""

ID_KEYS = frozenset(
    {"id", "ids", "message_id", "external_id", "external_ids", "in_reply_to", "request_id", "timestamp"}
)
"""Long runs of digits are at home here, so what merely looks like a number stays."""

_SECRET_KEY = re.compile(
    r"(^|_)(api_?key|token|secret|password|passwd|authorization|cookie|dsn|credentials?)$", re.I
)
_PHONE_KEY = re.compile(r"(^|_)(phone|phone_number|jid|lid|owner|admins?)$|^number$", re.I)

_SECRETS = (
    (re.compile(r"\b(sk|pk|rk)-[\w-]{6,}"), "[key]"),
    (re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]+", re.I), r"\1 [key]"),
    # A password may hold an unescaped "@": everything up to the last one goes.
    (re.compile(r"(\w+://)[^\s/?#'\"]+@"), r"\1[login]@"),
    (
        re.compile(r"\b(password|passwd|token|secret|api_?key)(['\"]?\s*[=:]\s*['\"]?)[^\s&,;'\"]+", re.I),
        r"\1\2[key]",
    ),
)
# Libraries quote what they were given; PostgreSQL and asyncpg do it in these forms, over several lines if it has them.
_QUOTE = r".*?(?=\n(?:DETAIL|HINT):|\n\n(?:During|The above)|\Z)"
_QUOTED_INPUT = (
    (re.compile(rf"(invalid input for query argument \$\d+: ){_QUOTE}", re.S), r"\1[value]"),
    (re.compile(rf"(invalid input (?:syntax|value) for [\w ]+: ){_QUOTE}", re.S), r"\1[value]"),
    (re.compile(rf"(DETAIL:  ?){_QUOTE}", re.S), r"\1[row]"),
    (re.compile(r"(input_value=).*?(, input_type=)", re.S), r"\1[value]\2"),
)
# A plain word and a moment, as most of what is logged: nothing of the above and below can be in one.
_HARMLESS = re.compile(r"[A-Za-z_.]*|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_JID = re.compile(r"\+?[\w.-]+(:\d+)?@(s\.whatsapp\.net|c\.us|g\.us|lid|hosted|newsletter|broadcast)\b")
_WRITTEN_NUMBER = re.compile(r"(?<![\w.])\+\d(?:[ ().-]{0,2}\d){7,14}(?!\d)")
# Neither a part of a word (a message id in hex), nor of a decimal, nor of `line-12345678` or a UUID.
_BARE_NUMBER = re.compile(r"(?<![\w.-])\d{8,15}(?![\w]|\.\d|-\w)")


def redact(text: str, *, keep_digits: bool = False) -> str:
    """The text without keys, logins, quoted input, addresses and, unless `keep_digits`, phone numbers."""
    if _HARMLESS.fullmatch(text):
        return text
    for pattern, instead in (*_SECRETS, *_QUOTED_INPUT):
        text = pattern.sub(instead, text)
    text = _JID.sub("[jid]", text)
    if keep_digits:
        return text
    return _BARE_NUMBER.sub("[number]", _WRITTEN_NUMBER.sub("[number]", text))


def redact_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """A log event's keys and values as they may be shown. Integers are ours and stay, unless the key says otherwise."""
    return {key: _redact_value(str(key), value) for key, value in values.items() if key not in BODY_KEYS}


@lru_cache(maxsize=1000)
def _hidden(key: str) -> str | None:
    """What stands in the place of any value of this key; None: it depends on the value."""
    if _PHONE_KEY.search(key):
        return "[number]"
    return "[key]" if _SECRET_KEY.search(key) else None


def _redact_value(key: str, value: Any) -> Any:
    if value is None or isinstance(value, bool | float):
        return value
    hidden = _hidden(key)
    if isinstance(value, int) and hidden != "[number]":
        return value
    if hidden:
        return hidden
    if isinstance(value, str):
        return redact(value, keep_digits=key in ID_KEYS)
    if isinstance(value, Mapping):
        return redact_values(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [_redact_value(key, item) for item in value]
    return redact(str(value), keep_digits=key in ID_KEYS)
