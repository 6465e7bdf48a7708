"""The OpenAI wall: our Prompt to a Responses or Chat Completions call and back; the only importer of that SDK."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Literal

import openai
from openai.types import CompletionUsage
from openai.types.chat import (
    ChatCompletion,
    ChatCompletionAssistantMessageParam,
    ChatCompletionFunctionToolParam,
    ChatCompletionMessageParam,
    ChatCompletionUserMessageParam,
)
from openai.types.responses import (
    EasyInputMessageParam,
    FunctionToolParam,
    Response,
    ResponseInputItemParam,
    ResponseUsage,
)
from openai.types.shared_params import FunctionDefinition

from flows.ai.failures import from_status
from flows.ai.model import Answer, Prompt, PromptTurn, Stop, Tool, Usage, read_call
from flows.errors import AIError, BadRequest, Malformed, Transient, Unreachable

URL = "https://api.openai.com/v1"
CONNECT_SECONDS = 5.0

Api = Literal["responses", "chat"]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]

_PASSING = {"server_error", "rate_limit_exceeded"}


class OpenAIModel:
    """A Model over OpenAI or a server that speaks like it.

    `is_compatible`: not OpenAI's own server, which may refuse parameters that it does not know.
    `effort` None leaves the choice to the provider.
    """

    provider = "openai"

    def __init__(
        self,
        *,
        api_key: str,
        name: str,
        base_url: str | None,
        api: Api,
        is_compatible: bool,
        effort: Effort | None,
        deadline: timedelta,
    ) -> None:
        self.name = name
        self.deadline = deadline
        self._api = api
        self._effort = effort
        self._is_compatible = is_compatible
        self._client = openai.AsyncOpenAI(
            api_key=api_key,
            base_url=base_url or URL,  # else the SDK would look into the environment
            max_retries=0,
            timeout=openai.Timeout(None, connect=CONNECT_SECONDS),  # the deadline is for ask() to keep
        )

    @property
    def knows_tools(self) -> bool:
        return self._api == "responses"

    async def complete(self, prompt: Prompt, *, max_tokens: int) -> Answer:
        """One attempt."""
        try:
            if self._api == "responses":
                return self._read_response(await self._respond(prompt, max_tokens))
            return self._read_completion(await self._chat(prompt, max_tokens))
        except openai.OpenAIError as exc:
            raise _translated(exc) from exc
        except (AttributeError, TypeError, ValueError) as exc:
            # The SDK does not validate: a proxy's 200 with anything in it arrives here too.
            raise Malformed from exc

    async def aclose(self) -> None:
        """Close idle connections."""
        await self._client.close()

    async def _respond(self, prompt: Prompt, max_tokens: int) -> Response:
        turns: list[ResponseInputItemParam] = [
            EasyInputMessageParam(role=turn.role, content=turn.text) for turn in prompt.turns
        ]
        return await self._client.responses.create(
            model=self.name,
            instructions=prompt.system,
            input=turns,
            max_output_tokens=max_tokens,
            tools=[_function(tool) for tool in prompt.tools] or openai.omit,
            store=False,
            safety_identifier=openai.omit if self._is_compatible else prompt.user,
            reasoning={"effort": self._effort} if self._effort else openai.omit,
        )

    async def _chat(self, prompt: Prompt, max_tokens: int) -> ChatCompletion:
        turns: list[ChatCompletionMessageParam] = [{"role": "system", "content": prompt.system}]
        turns += [_chat_turn(turn) for turn in prompt.turns]
        return await self._client.chat.completions.create(
            model=self.name,
            messages=turns,
            tools=[_chat_function(tool) for tool in prompt.tools] or openai.omit,
            # The old name for compatible servers, many of which silently ignore the new one.
            max_tokens=max_tokens if self._is_compatible else openai.omit,
            max_completion_tokens=openai.omit if self._is_compatible else max_tokens,
            store=openai.omit if self._is_compatible else False,
            safety_identifier=openai.omit if self._is_compatible else prompt.user,
            reasoning_effort=self._effort or openai.omit,
        )

    def _read_response(self, response: Response) -> Answer:
        if response.error:
            raise _failed(response.error.code)
        parts = [part for item in response.output if item.type == "message" for part in item.content]
        cut_by = response.incomplete_details.reason if response.incomplete_details else None
        if cut_by == "content_filter" or any(part.type == "refusal" for part in parts):
            stop = Stop.REFUSED
        else:
            stop = Stop.LENGTH if response.status == "incomplete" else Stop.END
        return Answer(
            text="".join(part.text for part in parts if part.type == "output_text"),
            stop=stop,
            usage=_response_usage(response.usage),
            provider=self.provider,
            model=response.model or self.name,
            request_id=response._request_id,
            calls=tuple(read_call(i.name, i.arguments) for i in response.output if i.type == "function_call"),
        )

    def _read_completion(self, completion: ChatCompletion) -> Answer:
        if not completion.choices:
            raise Malformed("no choices")  # some compatible servers answer 200 with an error in it
        choice = completion.choices[0]
        refused = choice.finish_reason == "content_filter" or getattr(choice.message, "refusal", None)
        stop = Stop.LENGTH if choice.finish_reason == "length" else Stop.END
        return Answer(
            text=choice.message.content or "",
            stop=Stop.REFUSED if refused else stop,
            usage=_chat_usage(completion.usage),
            provider=self.provider,
            model=completion.model or self.name,
            request_id=completion._request_id,
            calls=tuple(
                read_call(call.function.name, call.function.arguments)
                for call in getattr(choice.message, "tool_calls", None) or ()
                if call.type == "function"
            ),
        )


def _failed(code: str | None) -> AIError:
    """A Responses call that went through and came to nothing."""
    if code is None:
        return Malformed("an error without a code")  # not OpenAI's own
    return Transient(code) if code in _PASSING else BadRequest(code)


def _function(tool: Tool) -> FunctionToolParam:
    return FunctionToolParam(
        type="function",
        name=tool.name,
        description=tool.description,
        parameters=dict(tool.parameters),
        strict=False,
    )


def _chat_function(tool: Tool) -> ChatCompletionFunctionToolParam:
    told = FunctionDefinition(name=tool.name, description=tool.description, parameters=dict(tool.parameters))
    return ChatCompletionFunctionToolParam(type="function", function=told)


def _chat_turn(turn: PromptTurn) -> ChatCompletionMessageParam:
    if turn.role == "user":
        return ChatCompletionUserMessageParam(role="user", content=turn.text)
    return ChatCompletionAssistantMessageParam(role="assistant", content=turn.text)


def _response_usage(used: ResponseUsage | None) -> Usage:
    if used is None:
        return Usage()
    details = getattr(used, "input_tokens_details", None)
    return _usage(used.input_tokens, used.output_tokens, details)


def _chat_usage(used: CompletionUsage | None) -> Usage:
    if used is None:
        return Usage()
    details = getattr(used, "prompt_tokens_details", None)
    return _usage(used.prompt_tokens, used.completion_tokens, details)


def _usage(total_input: int, output: int, details: object) -> Usage:
    """OpenAI counts cached tokens among the input; compatible servers leave the details out."""
    cached = getattr(details, "cached_tokens", None) or 0
    written = getattr(details, "cache_write_tokens", None) or 0
    return Usage(
        input_tokens=max(0, total_input - cached - written),
        cached_tokens=cached,
        cache_write_tokens=written,
        output_tokens=output,
    )


def _translated(exc: openai.OpenAIError) -> AIError:
    if isinstance(exc, openai.APIStatusError):
        return from_status(
            exc.status_code,
            codes=(exc.type, exc.code),
            said=json.dumps(exc.body, default=str),
            headers=exc.response.headers,
        )
    if isinstance(exc, openai.APIConnectionError):
        return Unreachable(type(exc).__name__)
    return Malformed(type(exc).__name__)
