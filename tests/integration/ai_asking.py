"""The one prompt of the AI tests, and how it is asked in each of the three APIs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Literal

from flows.ai.model import Answer, Model, Prompt, PromptTurn, ask
from flows.ai.providers import build_model
from tests.doubles.ai_server import AIServer, Script

Spoken = Literal["messages", "responses", "chat"]
SPOKEN: tuple[Spoken, ...] = ("messages", "responses", "chat")
AT_ONCE = (timedelta(), timedelta())

PROMPT = Prompt(
    system="You are Ana.",
    turns=(
        PromptTurn(role="user", text="Are you open?"),
        PromptTurn(role="assistant", text="[staff] Until six."),
        PromptTurn(role="user", text="And on Sunday?"),
    ),
    user="0f" * 32,
)


@asynccontextmanager
async def speaking(
    spoken: Spoken, url: str, *, deadline: float = 10, effort: str | None = None
) -> AsyncIterator[Model]:
    if spoken == "messages":
        model = build_model(
            "anthropic", api_key="k", base_url=url, effort=effort, deadline=timedelta(seconds=deadline)
        )
    else:
        model = build_model(
            "openai",
            api_key="k",
            base_url=f"{url}/v1",
            api=spoken,
            effort=effort,
            deadline=timedelta(seconds=deadline),
        )
    try:
        yield model
    finally:
        await model.aclose()


async def answer_of(
    spoken: Spoken,
    server: AIServer,
    *script: Script,
    backoff: Sequence[timedelta] = AT_ONCE,
    deadline: float = 10,
) -> Answer:
    server.then(*script)
    async with speaking(spoken, server.url, deadline=deadline) as model:
        return await ask(model, PROMPT, backoff=backoff)
