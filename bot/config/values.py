"""The kinds of value in a configuration, each read and checked in one place; an error never shows the value."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

import phonenumbers
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from flows.words import words_of
from storage.address import read_address
from storage.errors import BadDatabaseUrl
from storage.hours import DAYS, OPENING, Span, read_day, read_spans
from storage.models import FOR_EVER

_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?) ?(?:([KMG])?B)?")
_SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,3})?) ?%")
_WHOLE = 100
_PLACEHOLDER = re.compile(r"\{[^{}\n]{0,30}\}")
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")


def parse_duration(value: object) -> timedelta:
    """`1d`, `2h30m`, `90s`, `1.5s` or `0`."""
    if isinstance(value, timedelta):
        return value
    text = str(value).replace(" ", "").lower()
    if text == "0":
        return timedelta()
    found = _DURATION.fullmatch(text)
    if found is None or not any(found.groups()):
        raise ValueError("should be a duration with its unit, like 30m, 2h or 1d")
    days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
    try:
        return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    except OverflowError as exc:
        raise ValueError("is too long") from exc


def _parse_duration_or_never(value: object) -> timedelta | None:
    if value is None or str(value).strip().lower() == "never":
        return None
    try:
        return _longer_than_nothing(parse_duration(value))
    except ValueError as exc:
        raise ValueError(f"{exc}, or never") from exc


def _parse_retention(value: object) -> timedelta | None:
    if value is None:
        return None
    kept = _parse_duration_or_never(value)
    return FOR_EVER if kept is None else kept


def _longer_than_nothing(value: timedelta) -> timedelta:
    if value <= timedelta():
        raise ValueError("should be longer than nothing")
    return value


def _parse_phone_number(value: object) -> str:
    """In E.164, whatever spaces, dots or hyphens the writer used."""
    text = str(value).strip()
    international = text if text.startswith("+") else f"+{text.removeprefix('00')}"
    try:
        number = phonenumbers.parse(international)
    except phonenumbers.NumberParseException as exc:
        raise ValueError("should be a phone number with its country code, like +5511999990000") from exc
    if not phonenumbers.is_possible_number(number):
        raise ValueError("is not a possible phone number: check its country code and its length")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def parse_size(value: object) -> int:
    """`64MB`, `1.5 GB` or plain bytes; 1 KB is 1024."""
    found = _SIZE.fullmatch(str(value).strip().upper())
    if found is None:
        raise ValueError("should be a size with its unit, like 500KB, 64MB or 1GB")
    size = float(found[1]) * 1024 ** " KMG".index(found[2] or " ")
    if not 1 <= size < 1 << 40:
        raise ValueError("should be from one byte to 1023GB")
    return int(size)


def _check_s3_url(value: str) -> str:
    try:
        url = urlsplit(value)
        broken = not url.hostname or url.port == 0
    except ValueError:
        broken = True
    if (
        broken
        or url.scheme not in ("s3", "http", "https")
        or (url.scheme != "s3" and not url.path.strip("/"))
    ):
        raise ValueError(
            "should be s3://bucket/prefix, or https://host/bucket/prefix for a server of your own"
        )
    if url.username or url.password or url.query or url.fragment:
        raise ValueError("should hold no key: those are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    return value.rstrip("/")


def _check_timezone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (LookupError, ValueError, OSError):
        close = difflib.get_close_matches(value, available_timezones(), n=1)
        meant = f": did you mean {close[0]}?" if close else ", as in America/Sao_Paulo"
        raise ValueError(f"is no time zone of the tz database{meant}") from None
    return value


def _read_week(value: object) -> object:
    """`mon-fri: 9:00-18:00` as the days that it names."""
    if not isinstance(value, dict):
        return value
    week: dict[str, object] = {}
    for names, spans in value.items():
        for day in _days(str(names)):
            if day in week:
                raise ValueError(f"says twice when it is open on {day}")
            week[day] = spans
    return week


def _days(names: str) -> Sequence[str]:
    first, _, last = names.strip().lower().partition("-")
    if first not in DAYS or (last and last not in DAYS):
        raise ValueError("should have days such as mon or mon-fri: " + ", ".join(DAYS))
    begin, end = DAYS.index(first), DAYS.index(last or first)
    return DAYS[begin : end + 1] if begin <= end else (*DAYS[begin:], *DAYS[: end + 1])


def _read_holidays(value: object) -> object:
    """Days, each with the hours of that day behind it if it has any: `12-25`, `12-24 9:00-12:00`."""
    if not isinstance(value, list):
        return value
    # An unquoted 2026-12-25 is a date to YAML.
    texts = [str(item).strip() for item in value]
    return {read_day(text.partition(" ")[0]): text.partition(" ")[2] or "closed" for text in texts}


def _check_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,62}", value, re.ASCII) or not re.search(r"[A-Za-z]", value):
        raise ValueError(
            "should be a short name with a letter in it: letters, digits, dots, hyphens, underscores"
        )
    # Names become metric labels and log keys, which may carry no number.
    if re.search(r"\d{7}", value):
        raise ValueError("should not hold a phone number: it is shown in logs and metrics")
    return value


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str | int) else value


def _spans(value: object) -> object:
    if isinstance(value, tuple):
        return value
    # YAML takes an unquoted 9:00 for a number.
    return read_spans([str(item) for item in value] if isinstance(value, list) else str(value))


def _check_ignored(value: str) -> str:
    if not words_of(value.replace("*", " ")):
        raise ValueError("holds no word: it would stand for everything, or for nothing")
    return value


def _span_or_never(value: object) -> object:
    if value is None or str(value).strip().lower() == "never":
        return None
    spans = read_spans(str(value))
    if not spans:
        raise ValueError("should be hours such as 22:00-7:00, or never")
    return spans[0]


def _parse_share_or_never(value: object) -> float | None:
    """`20%`, or never."""
    text = str(value).strip().lower()
    if value is None or text == "never":
        return None
    if not (match := _SHARE.fullmatch(text)) or not 0 < float(match[1]) <= _WHOLE:
        raise ValueError("should be a share such as 20%, or never")
    return float(match[1]) / _WHOLE


def _said(*placeholders: str) -> AfterValidator:
    """Words for a customer, who reads whatever stands in them that nothing fills in."""

    def check(value: str) -> str:
        if not value.strip():
            raise ValueError("should not be empty")
        unknown = next((name for name in _PLACEHOLDER.findall(value) if name not in placeholders), None)
        if unknown is not None:
            known = f"known here: {' and '.join(placeholders)}" if placeholders else "nothing is, here"
            raise ValueError(f"has {unknown}, which nothing fills in ({known})")
        return value

    return AfterValidator(check)


def _check_phrase(value: str) -> str:
    if not words_of(value):
        raise ValueError("has no letter, digit or emoji to match")
    return value


def _check_database_url(value: SecretStr) -> SecretStr:
    try:
        read_address(value.get_secret_value())
    except BadDatabaseUrl as exc:
        raise ValueError(exc.problem) from exc
    return value


def _url(*schemes: str) -> AfterValidator:
    def check(value: SecretStr) -> SecretStr:
        try:
            url = urlsplit(value.get_secret_value())
        except ValueError as exc:
            raise ValueError("is not a URL") from exc
        if url.scheme not in schemes or not url.hostname:
            raise ValueError(
                f"should be a URL that begins with {' or '.join(f'{name}://' for name in schemes)}"
            )
        return value

    return AfterValidator(check)


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
PositiveDuration = Annotated[Duration, AfterValidator(_longer_than_nothing)]
DurationOrNever = Annotated[timedelta | None, BeforeValidator(_parse_duration_or_never)]
Retention = Annotated[timedelta | None, BeforeValidator(_parse_retention)]
PhoneNumber = Annotated[str, BeforeValidator(_parse_phone_number)]
Name = Annotated[str, AfterValidator(_check_name)]
Text = Annotated[str, Field(min_length=1)]
Said = Annotated[str, _said()]
SaidWhenClosed = Annotated[str, _said(*OPENING)]
Phrase = Annotated[str, AfterValidator(_check_phrase)]
IgnoredTexts = Annotated[
    tuple[Annotated[str, AfterValidator(_check_ignored)], ...], BeforeValidator(_as_list)
]
Phrases = Annotated[tuple[Phrase, ...], BeforeValidator(_as_list), Field(min_length=1)]
Secret = Annotated[SecretStr, Field(min_length=1)]

Timezone = Annotated[str, AfterValidator(_check_timezone)]
Spans = Annotated[tuple[Span, ...], BeforeValidator(_spans)]
SpanOrNever = Annotated[Span | None, BeforeValidator(_span_or_never)]
ShareOrNever = Annotated[float | None, BeforeValidator(_parse_share_or_never)]
Week = Annotated[dict[str, Spans], BeforeValidator(_read_week), Field(min_length=1)]
Holidays = Annotated[dict[str, Spans], BeforeValidator(_read_holidays)]

Size = Annotated[int, BeforeValidator(parse_size)]
S3Url = Annotated[str, AfterValidator(_check_s3_url)]

# These may hold a password, so they are secrets as a whole.
DatabaseUrl = Annotated[SecretStr, AfterValidator(_check_database_url)]
ProxyUrl = Annotated[SecretStr, _url("http", "https", "socks5")]
ModelUrl = Annotated[SecretStr, _url("http", "https")]
