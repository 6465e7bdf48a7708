"""The daemon's HTTP port, asked over real HTTP."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx2
import pytest
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from bot.http import AccountHealth, CannotListen, CronResult, DatabaseHealth, build_app, health, listen, serve
from bot.metrics import Metrics
from bot.transports.base import Connection, ConnectionState
from storage.models import Action, ChatId

SINCE = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
UP = Connection(state=ConnectionState.CONNECTED, since=SINCE, can_send=True, can_receive=True)
TOKEN = SecretStr("a-long-token")


@dataclass
class FakeDaemon:
    """Tells what the test sets."""

    has_accounts: bool = True
    database_ok: bool = True
    database_hangs: bool = False
    connection: Connection = UP
    breaks: bool = False
    rounds: int = 0

    async def database(self) -> DatabaseHealth:
        if self.database_hangs:
            await asyncio.Event().wait()
        return DatabaseHealth(ok=self.database_ok, since=SINCE, error=None if self.database_ok else "refused")

    def accounts(self) -> Sequence[AccountHealth]:
        return [AccountHealth(name="shop", connection=self.connection)] if self.has_accounts else []

    async def auto_resume(self) -> CronResult:
        if self.breaks:
            raise RuntimeError("relation sidestep.sessions of hunter2 does not exist")
        self.rounds += 1
        return CronResult(resumed=(ChatId(3), ChatId(4)), cleaned=2)


@asynccontextmanager
async def serving(
    daemon: FakeDaemon, *, token: SecretStr | None = None, routes: Sequence[Route] = ()
) -> AsyncIterator[httpx2.AsyncClient]:
    metrics = Metrics()
    metrics.count_decision(Action.PAUSED)
    app = build_app(health=daemon, metrics=metrics, cron=daemon.auto_resume, token=token, routes=routes)
    listening = listen("127.0.0.1", 0)
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve(app, listening, stop))
        async with httpx2.AsyncClient(base_url=address, trust_env=False, timeout=60) as client:
            yield client
        stop.set()


class TestHealth:
    async def test_a_turning_loop_is_live(self) -> None:
        async with serving(FakeDaemon(database_ok=False), token=TOKEN) as client:
            answer = await client.get("/livez")
        assert (answer.status_code, answer.json()) == (200, {"status": "live"})

    async def test_ready_tells_the_database_and_each_account(self) -> None:
        async with serving(FakeDaemon()) as client:
            answer = await client.get("/readyz")
        assert answer.status_code == 200
        assert answer.json() == {
            "ready": True,
            "advice": None,
            "database": {"ok": True, "since": "2026-11-23T08:00:00+00:00", "error": None, "advice": None},
            "accounts": {
                "shop": {
                    "state": "connected",
                    "since": "2026-11-23T08:00:00+00:00",
                    "can_send": True,
                    "can_receive": True,
                    "next_try": None,
                    "advice": None,
                }
            },
        }

    async def test_a_lost_account_is_not_ready_and_says_what_to_do(self) -> None:
        advice = "Scan the code again: sidestep pair"
        lost = Connection(state=ConnectionState.LOGGED_OUT, since=SINCE, advice=advice)
        async with serving(FakeDaemon(connection=lost)) as client:
            answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["accounts"]["shop"]["advice"] == advice

    async def test_a_daemon_without_a_number_is_not_ready_and_says_what_to_do(self) -> None:
        async with serving(FakeDaemon(has_accounts=False)) as client:
            answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["ready"]) == (503, False)
        assert "sidestep account add" in answer.json()["advice"]

    async def test_a_lost_database_is_not_ready(self) -> None:
        async with serving(FakeDaemon(database_ok=False)) as client:
            answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["database"]["error"]) == (503, "refused")

    async def test_a_database_that_hangs_is_not_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(health, "DATABASE_SECONDS", 0.05)
        async with serving(FakeDaemon(database_hangs=True)) as client:
            answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["database"]["error"]) == (503, "timeout")

    async def test_metrics_are_prometheus_text(self) -> None:
        async with serving(FakeDaemon()) as client:
            answer = await client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=")
        assert 'sidestep_decisions_total{action="paused"} 1.0' in answer.text.splitlines()


class TestCron:
    async def test_a_round_tells_what_it_did(self) -> None:
        async with serving(FakeDaemon()) as client:
            answer = await client.post("/cron/auto-resume")
        assert (answer.status_code, answer.json()) == (200, {"resumed": [3, 4], "cleaned": 2})

    async def test_looking_is_not_doing(self) -> None:
        async with serving(daemon := FakeDaemon()) as client:
            answer = await client.get("/cron/auto-resume")
        assert (answer.status_code, answer.json()) == (405, {"error": "Method Not Allowed"})
        assert answer.headers["allow"] == "POST"
        assert daemon.rounds == 0

    async def test_a_failure_tells_no_internal(self, caplog: pytest.LogCaptureFixture) -> None:
        async with serving(FakeDaemon(breaks=True)) as client:
            answer = await client.post("/cron/auto-resume")
            assert (await client.get("/livez")).status_code == 200
        assert (answer.status_code, answer.json()) == (500, {"error": "internal error"})
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "relation sidestep.sessions" in caplog.text

    @pytest.mark.parametrize(
        "headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}]
    )
    async def test_another_sites_page_cannot_start_one(self, headers: dict[str, str]) -> None:
        async with serving(daemon := FakeDaemon()) as client:
            answer = await client.post("/cron/auto-resume", headers=headers)
        assert answer.status_code == 403
        assert daemon.rounds == 0


class TestToken:
    @pytest.mark.parametrize(
        "given", [None, "", "Bearer", "Bearer wrong", "Basic a-long-token", "Bearer ünïcode"]
    )
    @pytest.mark.parametrize(("method", "path"), [("POST", "/cron/auto-resume"), ("GET", "/metrics")])
    async def test_without_it_there_is_nothing(self, given: str | None, method: str, path: str) -> None:
        headers = {} if given is None else {b"Authorization": given.encode()}
        async with serving(daemon := FakeDaemon(), token=TOKEN) as client:
            answer = await client.request(method, path, headers=headers)
        assert (answer.status_code, answer.json()) == (401, {"error": "a bearer token is needed"})
        assert answer.headers["www-authenticate"] == "Bearer"
        assert daemon.rounds == 0

    async def test_with_it_all_is_open(self) -> None:
        async with serving(FakeDaemon(), token=TOKEN) as client:
            client.headers["Authorization"] = f"Bearer {TOKEN.get_secret_value()}"
            assert (await client.post("/cron/auto-resume")).status_code == 200
            assert (await client.get("/metrics")).status_code == 200
            assert "accounts" in (await client.get("/readyz")).json()

    async def test_a_stranger_learns_of_readiness_only_whether(self) -> None:
        async with serving(FakeDaemon(), token=TOKEN) as client:
            assert (await client.get("/readyz")).json() == {"ready": True}


class TestAnswers:
    @pytest.mark.parametrize("path", ["/", "/nowhere", "/livez/../etc/passwd", "/docs"])
    async def test_an_unknown_page_is_json_with_the_headers_of_all(self, path: str) -> None:
        async with serving(FakeDaemon()) as client:
            answer = await client.get(path)
        assert (answer.status_code, answer.json()) == (404, {"error": "Not Found"})
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["x-frame-options"] == "DENY"
        assert "server" not in answer.headers

    async def test_a_body_without_end_is_refused(self) -> None:
        async def read(request: Request) -> Response:
            return Response(str(len(await request.body())))

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(40):
                yield bytes(64 * 1024)

        async with serving(FakeDaemon(), routes=[Route("/read", read, methods=["POST"])]) as client:
            assert (await client.post("/read", content=bytes(1000))).text == "1000"
            declared = await client.post("/read", content=bytes(2 * 1024 * 1024))
            streamed = await client.post("/read", content=endless())
        assert (declared.status_code, streamed.status_code) == (413, 413)
        assert json.loads(streamed.text) == {"error": "the body is too large"}


class TestServing:
    def test_a_busy_port_is_told_with_the_way_out(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(CannotListen, match=rf"127\.0\.0\.1, port {port}: .*http\.port"):
                listen("127.0.0.1", port)

    def test_an_address_of_another_machine_is_told(self) -> None:
        with pytest.raises(CannotListen, match=r"http\.host"):
            listen("192.0.2.1", 0)

    async def test_the_daemons_signals_stay_its_own(self) -> None:
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        async with serving(FakeDaemon()) as client:
            await client.get("/livez")
            assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before

    @pytest.mark.parametrize("end", ["stop", "cancel"])
    async def test_an_open_stream_cannot_keep_it_from_stopping(
        self, end: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("bot.http.server.GRACE_SECONDS", 1)
        async with streaming() as (client, task, stop):
            began = time.monotonic()
            if end == "stop":
                stop.set()
                await task
            else:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert time.monotonic() - began < 10
            with pytest.raises(httpx2.TransportError):
                await client.get("/livez")


@asynccontextmanager
async def streaming() -> AsyncIterator[tuple[httpx2.AsyncClient, asyncio.Task[None], asyncio.Event]]:
    """A server with one reader on a stream that never ends."""

    async def endless(_: Request) -> Response:
        async def events() -> AsyncIterator[str]:
            yield "data: hello\n\n"
            await asyncio.Event().wait()

        return StreamingResponse(events(), media_type="text/event-stream")

    daemon = FakeDaemon()
    app = build_app(
        health=daemon, metrics=Metrics(), cron=daemon.auto_resume, routes=[Route("/events", endless)]
    )
    listening, stop = listen("127.0.0.1", 0), asyncio.Event()
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    task = asyncio.create_task(serve(app, listening, stop))
    async with (
        httpx2.AsyncClient(base_url=address, trust_env=False, timeout=60) as client,
        client.stream("GET", "/events") as answer,
    ):
        assert answer.status_code == 200
        yield client, task, stop
