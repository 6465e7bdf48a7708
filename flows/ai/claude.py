"""The Anthropic wall: our Prompt to a Messages call and back; the only importer of that SDK."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Literal

import anthropic
from anthropic.types import (
    AssistantMessageParam,
    Message,
    MessageParam,
    TextBlockParam,
    ToolParam,
    UserMessageParam,
)

from flows.ai.failures import from_status
from flows.ai.model import Answer, Prompt, PromptTurn, Stop, Tool, Usage, read_call
from flows.errors import AIError, ContextTooLong, Malformed, Unreachable

URL = "https://api.anthropic.com"
CONNECT_SECONDS = 5.0

Effort = Literal["low", "medium", "high", "xhigh", "max"]

_STOPS = {"max_tokens": Stop.LENGTH, "model_context_window_exceeded": Stop.LENGTH, "refusal": Stop.REFUSED}


class ClaudeModel:
    """A Model over the Messages API. `effort` None leaves the choice to the provider."""

    provider = "anthropic"
    knows_tools = True

    def __init__(
        self, *, api_key: str, name: str, base_url: str | None, effort: Effort | None, deadline: timedelta
    ) -> None:
        self.name = name
        self.deadline = deadline
        self._effort = effort
        self._client = anthropic.AsyncAnthropic(
            api_key=api_key,
            base_url=base_url or URL,  # else the SDK would look into the environment
            max_retries=0,
            timeout=anthropic.Timeout(None, connect=CONNECT_SECONDS),  # the deadline is for ask() to keep
        )

    async def complete(self, prompt: Prompt, *, max_tokens: int) -> Answer:
        """One attempt."""
        system: TextBlockParam = {
            "type": "text",
            "text": prompt.system,
            "cache_control": {"type": "ephemeral"},
        }
        turns = [_turn(turn) for turn in prompt.turns]
        try:
            message = await self._client.messages.create(
                model=self.name,
                max_tokens=max_tokens,
                system=[system],
                messages=turns,
                cache_control={"type": "ephemeral"},  # a second marker, on the last turn: caches the history
                metadata={"user_id": prompt.user},
                tools=[_tool(tool) for tool in prompt.tools] or anthropic.omit,
                output_config={"effort": self._effort} if self._effort else anthropic.omit,
            )
        except anthropic.AnthropicError as exc:
            raise _translated(exc) from exc
        except ValueError as exc:  # a body that is no JSON comes through the SDK as it is
            raise Malformed from exc
        return self._read(message)

    async def aclose(self) -> None:
        """Close idle connections."""
        await self._client.close()

    def _read(self, message: Message) -> Answer:
        # The SDK does not validate: a proxy's 200 with anything in it arrives here too.
        try:
            text = "".join(block.text for block in message.content if block.type == "text")
            calls = tuple(
                read_call(block.name, block.input) for block in message.content if block.type == "tool_use"
            )
            used = message.usage
            usage = Usage(
                input_tokens=used.input_tokens,
                cached_tokens=used.cache_read_input_tokens or 0,
                cache_write_tokens=used.cache_creation_input_tokens or 0,
                output_tokens=used.output_tokens,
            )
            stop = _STOPS.get(message.stop_reason or "", Stop.END)
        except (AttributeError, TypeError) as exc:
            raise Malformed from exc
        if message.stop_reason == "model_context_window_exceeded" and not text.strip():
            raise ContextTooLong("the window was full before the first word")
        return Answer(
            text=text,
            stop=stop,
            usage=usage,
            provider=self.provider,
            model=message.model or self.name,
            request_id=message._request_id,
            calls=calls,
        )


def _tool(tool: Tool) -> ToolParam:
    return ToolParam(name=tool.name, description=tool.description, input_schema=dict(tool.parameters))


def _turn(turn: PromptTurn) -> MessageParam:
    if turn.role == "user":
        return UserMessageParam(role="user", content=turn.text)
    return AssistantMessageParam(role="assistant", content=turn.text)


def _translated(exc: anthropic.AnthropicError) -> AIError:
    if isinstance(exc, anthropic.APIStatusError):
        return from_status(
            exc.status_code,
            codes=(exc.type, exc.error_code),
            said=json.dumps(exc.body, default=str),
            headers=exc.response.headers,
        )
    if isinstance(exc, anthropic.APIConnectionError):
        return Unreachable(type(exc).__name__)
    return Malformed(type(exc).__name__)
