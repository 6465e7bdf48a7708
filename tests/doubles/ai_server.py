"""A language model's server on loopback: speaks Messages, Responses and Chat Completions, says what it was told to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

_BETWEEN_BYTES_SECONDS = 0.02

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Says:
    """An answer. `calls` are tools that it uses, with their arguments as JSON.

    `input_tokens` excludes the cached ones, whatever the API that is spoken does.
    """

    text: str = "Hello!"
    stop: Literal["end", "length", "refusal", "context"] = "end"
    input_tokens: int = 10
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 5
    with_usage: bool = True
    calls: tuple[tuple[str, str], ...] = ()
    after_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuses:
    """An HTTP error in the provider's own form."""

    status: int
    type: str = "error"
    message: str = "no"
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sends:
    """Exactly these bytes with status 200."""

    body: str
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class HangsUp:
    """The connection breaks in the middle of an answer."""


@dataclass(frozen=True, slots=True)
class NeverAnswers:
    """Nothing comes until the client gives up."""


@dataclass(frozen=True, slots=True)
class Trickles:
    """An answer that goes on byte by byte and comes to no end, until the client gives up."""


Script = Says | Refuses | Sends | HangsUp | NeverAnswers | Trickles


@dataclass(slots=True, kw_only=True)
class Call:
    """One request as it came in. `hung_up` is set when the client closes before it got an answer."""

    path: str
    headers: Mapping[str, str]
    body: Json
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the test runner keeps its own


class AIServer:
    """`then` scripts the coming answers; when they are used up, the last one is given again."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.called = asyncio.Event()
        self.url = ""
        self._script: list[Script] = [Says()]

    def then(self, *script: Script) -> None:
        """Answer the coming calls like this."""
        self._script = list(script)

    def forget(self) -> None:
        """Begin anew: no calls, the default answer."""
        self.calls.clear()
        self.called.clear()
        self._script = [Says()]

    @property
    def sent(self) -> Json:
        """The body of the last call."""
        return self.calls[-1].body

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[AIServer]:
        """Listen on a free port of loopback; connections made before the loop turns wait in the backlog."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        routes = [
            Route(path, self._handle, methods=["POST"])
            for path in ("/v1/messages", "/v1/responses", "/v1/chat/completions")
        ]
        config = uvicorn.Config(
            Starlette(routes=routes),
            log_config=None,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        server = _Server(config)
        running = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield self
        finally:
            server.should_exit = True
            await running

    async def _handle(self, request: Request) -> Response:
        call = Call(path=request.url.path, headers=dict(request.headers), body=await request.json())
        self.calls.append(call)
        self.called.set()
        if objection := _objection(call):
            return _refusal(call.path, Refuses(status=400, type="invalid_request_error", message=objection))
        script = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        match script:
            case Says():
                if script.after_seconds:
                    await _gone(request, call, within=script.after_seconds)
                return JSONResponse(
                    _answer(call, script), headers={"request-id": "r-1", "x-request-id": "r-1"}
                )
            case Refuses():
                return _refusal(call.path, script)
            case Sends():
                return Response(script.body, media_type=script.content_type)
            case HangsUp():
                return StreamingResponse(_half(), headers={"content-length": "1000"})
            case NeverAnswers():
                await _gone(request, call)
                return Response(status_code=499)
            case Trickles():
                return StreamingResponse(_endless(call), media_type="application/json")


async def _gone(request: Request, call: Call, within: float | None = None) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within):
            while (await request.receive())["type"] != "http.disconnect":
                pass
            call.hung_up.set()


async def _half() -> AsyncIterator[bytes]:
    yield b'{"id": '


async def _endless(call: Call) -> AsyncIterator[bytes]:
    try:
        yield b'{"id": "'
        while True:
            yield b"x"
            await asyncio.sleep(_BETWEEN_BYTES_SECONDS)
    finally:
        call.hung_up.set()


def _objection(call: Call) -> str | None:
    """What the real servers insist on and a lenient double would hide."""
    body = call.body
    if call.path != "/v1/messages":
        return None
    if "temperature" in body:
        return "temperature: Extra inputs are not permitted"
    if not body.get("max_tokens"):
        return "max_tokens: Field required"
    roles = [turn["role"] for turn in body["messages"]]
    if not roles or roles[0] != "user" or roles[-1] != "user":
        return "messages: must begin and end with a user turn"
    blocks = body.get("system") or []
    if any(not block["text"] for block in blocks):
        return "system: cache_control cannot be set for empty text blocks"
    return None


def _refusal(path: str, script: Refuses) -> Response:
    error: Json = {"type": script.type, "message": script.message}
    if path == "/v1/messages":
        if script.code:
            error["details"] = {"error_code": script.code}
        content: Json = {"type": "error", "error": error, "request_id": "r-1"}
    else:
        content = {"error": {**error, "code": script.code, "param": None}}
    return JSONResponse(content, status_code=script.status, headers=dict(script.headers))


def _answer(call: Call, script: Says) -> Json:
    if call.path == "/v1/messages":
        return _message(call, script)
    return _response(call, script) if call.path == "/v1/responses" else _completion(call, script)


def _message(call: Call, script: Says) -> Json:
    stops = {"length": "max_tokens", "refusal": "refusal", "context": "model_context_window_exceeded"}
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": f"{call.body['model']}-20260101",
        "content": [
            {"type": "thinking", "thinking": "…", "signature": "s"},
            *([{"type": "text", "text": script.text}] if script.text else []),
            *({"type": "tool_use", "id": "t", "name": n, "input": json.loads(a)} for n, a in script.calls),
        ],
        "stop_reason": stops.get(script.stop, "end_turn"),
        "stop_sequence": None,
        "usage": {
            "input_tokens": script.input_tokens,
            "cache_read_input_tokens": script.cached_tokens,
            "cache_creation_input_tokens": script.cache_write_tokens,
            "output_tokens": script.output_tokens,
        },
    }


def _response(call: Call, script: Says) -> Json:
    part: Json = {"type": "output_text", "text": script.text, "annotations": []}
    if script.stop == "refusal":
        part = {"type": "refusal", "refusal": script.text}
    total = script.input_tokens + script.cached_tokens + script.cache_write_tokens
    usage = {
        "input_tokens": total,
        "input_tokens_details": {
            "cached_tokens": script.cached_tokens,
            "cache_write_tokens": script.cache_write_tokens,
        },
        "output_tokens": script.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": total + script.output_tokens,
    }
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 0,
        "model": f"{call.body['model']}-20260101",
        "status": "incomplete" if script.stop == "length" else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if script.stop == "length" else None,
        "error": None,
        "output": [
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "message", "id": "m_1", "role": "assistant", "status": "completed", "content": [part]},
            *(
                {"type": "function_call", "id": "f", "call_id": "c", "name": name, "arguments": arguments}
                for name, arguments in script.calls
            ),
        ],
        "usage": usage if script.with_usage else None,
    }


def _tool_calls(script: Says) -> Json:
    calls = [
        {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}
        for name, arguments in script.calls
    ]
    return {"tool_calls": calls} if calls else {}


def _completion(call: Call, script: Says) -> Json:
    stops = {"length": "length", "refusal": "content_filter"}
    total = script.input_tokens + script.cached_tokens
    usage = {
        "prompt_tokens": total,
        "prompt_tokens_details": {"cached_tokens": script.cached_tokens},
        "completion_tokens": script.output_tokens,
        "total_tokens": total + script.output_tokens,
    }
    choice = {
        "index": 0,
        "finish_reason": stops.get(script.stop, "stop"),
        "message": {"role": "assistant", "content": script.text} | _tool_calls(script),
    }
    answer: Json = {"id": "c_1", "object": "chat.completion", "created": 0, "choices": [choice]}
    answer["model"] = f"{call.body['model']}-20260101"
    return answer | ({"usage": usage} if script.with_usage else {})
