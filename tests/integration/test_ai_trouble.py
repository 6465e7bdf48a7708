"""Both SDKs over real HTTP in trouble: each has its type, none is quoted, none outlives the deadline."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import pytest

from flows.ai.model import ask
from flows.errors import (
    AIError,
    BadCredentials,
    BadRequest,
    ContextTooLong,
    DeadlineExceeded,
    EmptyAnswer,
    Malformed,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    Refused,
    Transient,
    Unreachable,
)
from tests.doubles.ai_server import AIServer, HangsUp, NeverAnswers, Refuses, Says, Script, Sends
from tests.integration.ai_asking import AT_ONCE, PROMPT, SPOKEN, Spoken, answer_of, speaking


@pytest.fixture(scope="module")
async def _running() -> AsyncIterator[AIServer]:
    async with AIServer().serving() as running:
        yield running


@pytest.fixture
def server(_running: AIServer) -> AIServer:
    _running.forget()
    return _running


REFUSALS: list[tuple[Refuses, type[AIError]]] = [
    (Refuses(status=429, type="rate_limit_error"), RateLimited),
    (Refuses(status=402, type="billing_error"), QuotaExhausted),
    (Refuses(status=529, type="overloaded_error"), Overloaded),
    (Refuses(status=503), Overloaded),
    (Refuses(status=500, type="api_error"), Transient),
    (Refuses(status=401, type="authentication_error"), BadCredentials),
    (Refuses(status=403, type="permission_error"), BadCredentials),
    (Refuses(status=404, type="not_found_error"), BadRequest),
    (Refuses(status=400, message="prompt is too long: 250000 tokens > 200000 maximum"), ContextTooLong),
    (Refuses(status=400, type="invalid_request_error"), BadRequest),
]


@pytest.mark.parametrize("spoken", SPOKEN)
@pytest.mark.parametrize(("refusal", "kind"), REFUSALS)
async def test_each_refusal_has_its_type(
    spoken: Spoken, refusal: Refuses, kind: type[AIError], server: AIServer
) -> None:
    with pytest.raises(AIError) as caught:
        await answer_of(spoken, server, refusal)
    assert type(caught.value) is kind


@pytest.mark.parametrize("spoken", ["responses", "chat"])
async def test_an_empty_purse_is_not_a_rate_limit(spoken: Spoken, server: AIServer) -> None:
    with pytest.raises(QuotaExhausted):
        await answer_of(spoken, server, Refuses(status=429, code="insufficient_quota"))
    assert len(server.calls) == 1


@pytest.mark.parametrize("spoken", SPOKEN)
async def test_an_error_never_quotes_what_the_provider_quotes(spoken: Spoken, server: AIServer) -> None:
    with pytest.raises(BadRequest) as caught:
        await answer_of(spoken, server, Refuses(status=400, message="you said: my number is 5511"))
    assert "5511" not in str(caught.value)


BROKEN: list[tuple[Script, type[AIError]]] = [
    (Says(text=""), EmptyAnswer),
    (Says(text=" \n"), EmptyAnswer),
    (Says(text="", stop="length"), EmptyAnswer),
    (Says(text="I will not.", stop="refusal"), Refused),
    (Sends(body='{"id": '), Malformed),
    (Sends(body="{}"), Malformed),
    (Sends(body="[]"), Malformed),
    (Sends(body='{"error": {"message": "loading"}}'), Malformed),
    (Sends(body="<html>Bad gateway</html>", content_type="text/html"), Malformed),
    (HangsUp(), Unreachable),
]


@pytest.mark.parametrize("spoken", SPOKEN)
@pytest.mark.parametrize(("script", "kind"), BROKEN)
async def test_an_answer_without_words_is_a_failure(
    spoken: Spoken, script: Script, kind: type[AIError], server: AIServer
) -> None:
    with pytest.raises(AIError) as caught:
        await answer_of(spoken, server, script)
    assert type(caught.value) is kind


@pytest.mark.parametrize("spoken", SPOKEN)
async def test_passing_trouble_is_tried_again_and_the_rest_is_not(spoken: Spoken, server: AIServer) -> None:
    answer = await answer_of(spoken, server, Refuses(status=529), HangsUp(), Says(text="There."))
    assert answer.text == "There."
    assert len(server.calls) == 3
    server.calls.clear()
    with pytest.raises(BadCredentials):
        await answer_of(spoken, server, Refuses(status=401), Says())
    assert len(server.calls) == 1


@pytest.mark.parametrize("spoken", SPOKEN)
async def test_attempts_are_bounded(spoken: Spoken, server: AIServer) -> None:
    with pytest.raises(Overloaded):
        await answer_of(spoken, server, Refuses(status=529))
    assert len(server.calls) == 1 + len(AT_ONCE)


@pytest.mark.parametrize("spoken", SPOKEN)
async def test_a_conversation_that_is_too_long_is_shortened_once(spoken: Spoken, server: AIServer) -> None:
    too_long = Refuses(status=400, message="prompt is too long")
    assert (await answer_of(spoken, server, too_long, Says(text="Short."))).text == "Short."
    turns = server.sent["input" if spoken == "responses" else "messages"]
    assert [turn["content"] for turn in turns if turn["role"] != "system"] == ["And on Sunday?"]
    server.calls.clear()
    with pytest.raises(ContextTooLong):
        await answer_of(spoken, server, too_long)
    assert len(server.calls) == 2


@pytest.mark.parametrize("spoken", SPOKEN)
async def test_a_long_retry_after_is_not_waited_for(spoken: Spoken, server: AIServer) -> None:
    with pytest.raises(RateLimited) as caught:
        await answer_of(spoken, server, Refuses(status=429, headers={"retry-after": "200"}), deadline=60)
    assert caught.value.retry_after == 200
    assert len(server.calls) == 1


@pytest.mark.parametrize("spoken", SPOKEN)
async def test_the_deadline_is_for_all_attempts_together(spoken: Spoken, server: AIServer) -> None:
    begun = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        await answer_of(spoken, server, Refuses(status=529), NeverAnswers(), deadline=0.5)
    assert time.monotonic() - begun >= 0.5
    async with asyncio.timeout(60):
        await server.calls[-1].hung_up.wait()


@pytest.mark.parametrize("spoken", SPOKEN)
async def test_cancelling_closes_the_connection_at_once(spoken: Spoken, server: AIServer) -> None:
    server.then(NeverAnswers())
    async with speaking(spoken, server.url) as model, asyncio.timeout(60):
        asking = asyncio.create_task(ask(model, PROMPT))
        await server.called.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await server.calls[0].hung_up.wait()


@pytest.mark.parametrize("spoken", SPOKEN)
async def test_a_server_that_is_not_there_is_unreachable(spoken: Spoken) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with speaking(spoken, f"http://127.0.0.1:{port}") as model:
        with pytest.raises(Unreachable):
            await ask(model, PROMPT, backoff=())
