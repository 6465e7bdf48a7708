"""Both SDKs over real HTTP: what they send, and what their answers become."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from flows.ai.model import Call, Stop, Tool, Usage, ask
from flows.ai.openai import OpenAIModel
from flows.ai.providers import build_model
from tests.doubles.ai_server import AIServer, Says
from tests.integration.ai_asking import PROMPT, SPOKEN, Spoken, answer_of, speaking


@pytest.fixture(scope="module")
async def _running() -> AsyncIterator[AIServer]:
    async with AIServer().serving() as running:
        yield running


@pytest.fixture
def server(_running: AIServer) -> AIServer:
    _running.forget()
    return _running


@pytest.mark.parametrize("spoken", SPOKEN)
async def test_an_answer_comes_back_with_its_text_and_the_reported_model(
    spoken: Spoken, server: AIServer
) -> None:
    answer = await answer_of(spoken, server, Says(text="No, closed."))
    assert answer.text == "No, closed."
    assert answer.stop is Stop.END
    assert answer.model.endswith("-20260101")
    assert answer.provider == ("anthropic" if spoken == "messages" else "openai")
    assert answer.request_id == "r-1"


@pytest.mark.parametrize("spoken", SPOKEN)
async def test_history_and_roles_arrive_as_they_were(spoken: Spoken, server: AIServer) -> None:
    await answer_of(spoken, server, Says())
    turns: list[dict[str, Any]] = server.sent["input" if spoken == "responses" else "messages"]
    if spoken == "chat":
        assert turns.pop(0) == {"role": "system", "content": "You are Ana."}
    assert turns == [
        {"role": "user", "content": "Are you open?"},
        {"role": "assistant", "content": "[staff] Until six."},
        {"role": "user", "content": "And on Sunday?"},
    ]


async def test_messages_caches_system_and_history_and_names_the_chat_opaquely(server: AIServer) -> None:
    server.then(Says())
    async with speaking("messages", server.url, effort="low") as model:
        await ask(model, PROMPT)
    cached = {"type": "ephemeral"}
    assert server.sent["system"] == [{"type": "text", "text": "You are Ana.", "cache_control": cached}]
    assert server.sent["cache_control"] == cached
    assert server.sent["metadata"] == {"user_id": PROMPT.user}
    assert server.sent["output_config"] == {"effort": "low"}
    assert server.sent["max_tokens"] >= 2048
    assert server.calls[0].headers["authorization"] == "Bearer k"


async def test_responses_are_not_stored_by_openai(server: AIServer) -> None:
    model = OpenAIModel(
        api_key="k",
        name="gpt-6-luna",
        base_url=f"{server.url}/v1",
        api="responses",
        is_compatible=False,
        effort="low",
        deadline=timedelta(seconds=10),
    )
    try:
        await ask(model, PROMPT)
    finally:
        await model.aclose()
    assert server.sent["store"] is False
    assert server.sent["instructions"] == "You are Ana."
    assert server.sent["safety_identifier"] == PROMPT.user
    assert server.sent["reasoning"] == {"effort": "low"}
    assert server.sent["max_output_tokens"] >= 2048


async def test_a_compatible_server_gets_chat_completions_without_what_only_openai_knows(
    server: AIServer,
) -> None:
    model = build_model("openai", api_key=None, base_url=f"{server.url}/v1", model="llama")
    try:
        await ask(model, PROMPT)
    finally:
        await model.aclose()
    assert server.calls[0].path == "/v1/chat/completions"
    assert set(server.sent) == {"model", "messages", "max_tokens"}


@pytest.mark.parametrize("spoken", SPOKEN)
async def test_usage_is_counted_alike(spoken: Spoken, server: AIServer) -> None:
    heard: list[tuple[str, str, Usage]] = []
    server.then(Says(input_tokens=100, cached_tokens=40, output_tokens=7))
    async with speaking(spoken, server.url) as model:
        await ask(model, PROMPT, on_usage=lambda *usage: heard.append(usage))
        expected = Usage(input_tokens=100, cached_tokens=40, output_tokens=7)
        assert heard == [(model.provider, model.name, expected)]


@pytest.mark.parametrize("spoken", ["responses", "chat"])
async def test_a_server_that_counts_nothing_is_no_trouble(spoken: Spoken, server: AIServer) -> None:
    answer = await answer_of(spoken, server, Says(with_usage=False))
    assert answer.usage == Usage()


async def test_a_full_window_before_the_first_word_counts_as_too_long(server: AIServer) -> None:
    answer = await answer_of("messages", server, Says(text="", stop="context"), Says(text="Short."))
    assert answer.text == "Short."
    cut = await answer_of("messages", server, Says(text="Half an ans", stop="context"))
    assert cut.stop is Stop.LENGTH


HAND_OFF = Tool(
    name="hand_off", description="Call a person.", parameters={"type": "object", "properties": {}}
)


@pytest.mark.parametrize("spoken", SPOKEN)
async def test_a_tool_is_offered_and_its_use_comes_back_with_the_words(
    spoken: Spoken, server: AIServer
) -> None:
    server.then(Says(text="One moment.", calls=(("hand_off", '{"reason": "a refund"}'),)))
    async with speaking(spoken, server.url) as model:
        answer = await ask(model, replace(PROMPT, tools=(HAND_OFF,)))
    assert answer.text == "One moment."
    assert answer.calls == (Call(name="hand_off", arguments={"reason": "a refund"}),)
    [offered] = server.sent["tools"]
    assert (offered["function"] if spoken == "chat" else offered)["name"] == "hand_off"


@pytest.mark.parametrize("spoken", SPOKEN)
async def test_without_tools_none_are_spoken_of(spoken: Spoken, server: AIServer) -> None:
    assert (await answer_of(spoken, server, Says())).calls == ()
    assert "tools" not in server.sent


@pytest.mark.parametrize("spoken", ["responses", "chat"])
@pytest.mark.parametrize("garbled", ["{", "[1]", "null", '"x"'])
async def test_what_a_tool_is_given_may_be_garbled(spoken: Spoken, garbled: str, server: AIServer) -> None:
    answer = await answer_of(spoken, server, Says(text="", calls=(("hand_off", garbled),)))
    assert answer.calls == (Call(name="hand_off", arguments={}),)
