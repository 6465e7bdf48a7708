"""The port to a language model, and the one way to ask it: one deadline, bounded retries; knows no provider."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import Any, Literal, Protocol

from flows.errors import ContextTooLong, DeadlineExceeded, EmptyAnswer, Refused, Transient

MAX_TOKENS = 4096
"""For thinking and words together: thinking is on by default and below 2048 may leave no words."""

BACKOFF = (timedelta(seconds=0.5), timedelta(seconds=2))
"""Waits between attempts, so three attempts in all. The SDKs' own retries are off: they obey any
Retry-After and know no total deadline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one answer, counted alike for all providers: the three kinds of input do not overlap."""

    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0


OnUsage = Callable[[str, str, Usage], None]
"""Hears of every billed answer, the useless ones too: provider, model as configured, usage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTurn:
    """One side's words; the business's side is the assistant."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """Something that a model may do instead of, or besides, saying something. `parameters` is a JSON schema."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A model has used a tool. What it gave may be anything that JSON can hold."""

    name: str
    arguments: Mapping[str, Any]


def read_call(name: str, arguments: object) -> Call:
    """From an API's answer: an object, or its JSON as text. What is neither counts as nothing given."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            arguments = {}
    return Call(name=name, arguments=arguments if isinstance(arguments, dict) else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What a model is asked. `turns` alternate, begin and end with the user. `user` is an opaque id of the chat."""

    system: str
    turns: tuple[PromptTurn, ...]
    user: str
    tools: tuple[Tool, ...] = ()

    def shortened(self) -> Prompt | None:
        """The newer half, still beginning with the user; None when there is nothing to leave out."""
        half = self.turns[(len(self.turns) + 1) // 2 :]
        if half and half[0].role == "assistant":
            half = half[1:]
        return replace(self, turns=half) if half else None


class Stop(StrEnum):
    """Why a model stopped."""

    END = "end"
    LENGTH = "length"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a model said. `model` is the name that the provider reports, which may be a dated one."""

    text: str
    stop: Stop
    usage: Usage
    provider: str
    model: str
    request_id: str | None = None
    calls: tuple[Call, ...] = ()


class Model(Protocol):
    """A language model of one provider."""

    @property
    def provider(self) -> str:
        """`anthropic` or `openai`, the latter for compatible servers too."""
        ...

    @property
    def name(self) -> str:
        """The model as configured."""
        ...

    @property
    def knows_tools(self) -> bool:
        """Whether tools may be offered without asking: a server of one's own may refuse all that has them."""
        ...

    @property
    def deadline(self) -> timedelta:
        """How long one answer may take, retries included."""
        ...

    async def complete(self, prompt: Prompt, *, max_tokens: int) -> Answer:
        """One attempt; raises AIError only. Cancelling it closes the connection at once."""
        ...

    async def aclose(self) -> None:
        """Close idle connections; the model is not to be used afterwards."""
        ...


def unheard(provider: str, model: str, usage: Usage) -> None:
    """Nobody counts tokens."""


async def ask(
    model: Model,
    prompt: Prompt,
    *,
    on_usage: OnUsage = unheard,
    max_tokens: int = MAX_TOKENS,
    backoff: Sequence[timedelta] = BACKOFF,
) -> Answer:
    """Ask until there is an answer, in words or by a tool, within the model's deadline; raises AIError only."""
    until = asyncio.get_running_loop().time() + model.deadline.total_seconds()
    waits = [wait.total_seconds() for wait in backoff]
    is_shortened = False
    try:
        async with asyncio.timeout_at(until):
            while True:
                try:
                    return await _attempt(model, prompt, on_usage, max_tokens)
                except ContextTooLong:
                    # Once: if half the conversation does not fit either, its length is not the trouble.
                    shorter = None if is_shortened else prompt.shortened()
                    if shorter is None:
                        raise
                    prompt, is_shortened = shorter, True
                except Transient as exc:
                    await _wait_before_retry(exc, waits, until)
    except TimeoutError as exc:
        raise DeadlineExceeded(f"no answer within {model.deadline.total_seconds():g} s") from exc


async def _attempt(model: Model, prompt: Prompt, on_usage: OnUsage, max_tokens: int) -> Answer:
    answer = await model.complete(prompt, max_tokens=max_tokens)
    on_usage(model.provider, model.name, answer.usage)
    if answer.stop is Stop.REFUSED:
        raise Refused
    if not answer.text.strip() and not answer.calls:
        raise EmptyAnswer(f"empty_answer, stopped by {answer.stop}")
    return answer


async def _wait_before_retry(trouble: Transient, waits: list[float], until: float) -> None:
    if not waits:
        raise trouble
    wait = max(waits.pop(0), trouble.retry_after or 0)
    if asyncio.get_running_loop().time() + wait >= until:
        raise trouble  # the time would be up before the next attempt: the reason is worth more than the wait
    await asyncio.sleep(wait)
