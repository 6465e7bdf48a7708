"""The kinds of value in a configuration, each read and checked in one place; an error never shows the value."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated
from urllib.parse import urlsplit

import phonenumbers
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from flows.words import words_of
from storage.address import read_address
from storage.errors import BadDatabaseUrl

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


def _check_phrase(value: str) -> str:
    if not words_of(value):
        raise ValueError("has no letter, digit or emoji to match")
    return value


def _check_database_url(value: SecretStr) -> SecretStr:
    try:
        read_address(value.get_secret_value())
    except BadDatabaseUrl as exc:
        raise ValueError(f"is refused: {exc}") from exc
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
PhoneNumber = Annotated[str, BeforeValidator(_parse_phone_number)]
Name = Annotated[str, AfterValidator(_check_name)]
Text = Annotated[str, Field(min_length=1)]
Phrase = Annotated[str, AfterValidator(_check_phrase)]
Phrases = Annotated[tuple[Phrase, ...], BeforeValidator(_as_list), Field(min_length=1)]
Secret = Annotated[SecretStr, Field(min_length=1)]

# These may hold a password, so they are secrets as a whole.
DatabaseUrl = Annotated[SecretStr, AfterValidator(_check_database_url)]
ProxyUrl = Annotated[SecretStr, _url("http", "https", "socks5")]
ModelUrl = Annotated[SecretStr, _url("http", "https")]
