"""Answers that the owner wrote beforehand, found by their words; pure but for yielding, and it knows no model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from flows.contract import Decided, Outcome, Reply, Turn
from flows.errors import ConfigError
from flows.words import words_of
from storage.models import Action


@dataclass(frozen=True, slots=True, kw_only=True)
class KeywordRule:
    """One answer, and the words or phrases any of which calls for it."""

    match: tuple[str, ...]
    answer: str


class KeywordFlow:
    """The first rule that matches answers, else the default; an empty default is silence.

    Raises ConfigError for a rule that could never answer.
    """

    name = "keywords"
    action = Action.KEYWORD_REPLIED

    def __init__(self, rules: Sequence[KeywordRule], default: str = "") -> None:
        self._default = default.strip()
        self._phrases = [
            (phrase, _checked(phrase, number), rule.answer)
            for number, rule in enumerate(_answering(rules), start=1)
            for phrase in rule.match
        ]

    def knows(self, text: str) -> bool:
        """Whether a rule, not only the default, answers this text."""
        return self._found(text) is not None

    async def run(self, turn: Turn) -> AsyncIterator[Outcome]:
        """Say the answer; the decision's detail is the phrase that matched."""
        found = self._found(turn.text)
        if found is not None:
            phrase, answer = found
            yield Reply(text=answer)
            yield Decided(action=Action.KEYWORD_REPLIED, detail=phrase)
        elif self._default:
            yield Reply(text=self._default)
            yield Decided(action=Action.KEYWORD_REPLIED, detail="default")
        else:
            yield Decided(action=Action.IGNORED_UNSUPPORTED, detail="no_answer")

    def _found(self, text: str) -> tuple[str, str] | None:
        words = words_of(text)
        for phrase, wanted, answer in self._phrases:
            if _contains(words, wanted):
                return phrase, answer
        return None


def _answering(rules: Sequence[KeywordRule]) -> Sequence[KeywordRule]:
    for number, rule in enumerate(rules, start=1):
        if not rule.answer.strip():
            raise ConfigError(f"keyword rule {number}: the answer is empty")
        if not rule.match:
            raise ConfigError(f"keyword rule {number}: nothing to match")
    return rules


def _checked(phrase: str, number: int) -> tuple[str, ...]:
    words = words_of(phrase)
    if not words:
        raise ConfigError(f"keyword rule {number}: {phrase!r} has no letter, digit or emoji to match")
    return words


def _contains(words: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    size = len(wanted)
    return any(words[start : start + size] == wanted for start in range(len(words) - size + 1))
