"""The words that WhatsApp itself writes in exports, from words.yaml."""

from __future__ import annotations

from functools import cache
from importlib import resources

import yaml


@cache
def _all() -> dict[str, list[str]]:
    text = resources.files("bot.importing").joinpath("words.yaml").read_text(encoding="utf-8")
    loaded: dict[str, list[str]] = yaml.safe_load(text)
    return loaded


def words(name: str) -> frozenset[str]:
    """The words of one list, in lower case."""
    return frozenset(word.casefold() for word in _all()[name])
