"""`sidestep run` without a network: it lives, tells what is wrong, and stops when it is told to."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import pytest

from storage.embedded import EmbeddedPostgres
from storage.models import Action, Status
from tests.acceptance.conversation import Shop
from tests.acceptance.daemon import DAEMON_CONFIG, Daemon, assert_clean, daemon
from tests.acceptance.frozen import frozen, server_of
from tests.acceptance.program import runs
from tests.conftest import fresh_database

STOP_SECONDS = 10.0

METRICS = (
    "sidestep_messages_total",
    "sidestep_decisions_total",
    "sidestep_outbox",
    "sidestep_takeover_seconds",
    "sidestep_resume_lag_seconds",
    "sidestep_record_seconds",
    "sidestep_reply_seconds",
    "sidestep_connection_state",
    "sidestep_ai_tokens_total",
    "sidestep_job_runs_total",
)


@pytest.fixture(scope="module")
async def served(
    postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Shop]:
    """A shop whose daemon runs for all tests of this module that only look at it."""
    async with fresh_database(postgres, template) as dsn:
        shop = Shop(folder=tmp_path_factory.mktemp("served"), dsn=dsn)
        shop.configure(DAEMON_CONFIG)
        yield shop


@pytest.fixture(scope="module")
async def serving(served: Shop) -> AsyncIterator[Daemon]:
    async with daemon(served.folder, DATABASE_URL=served.dsn) as running:
        yield running
        running.program.signal(signal.SIGTERM)
        assert_clean(await running.program.finished(STOP_SECONDS))


@pytest.fixture
def shop(tmp_path: Path, dsn: str) -> Shop:
    made = Shop(folder=tmp_path, dsn=dsn)
    made.configure(DAEMON_CONFIG)
    return made


async def test_it_is_alive_and_not_ready_and_says_what_to_do(serving: Daemon) -> None:
    assert (await serving.ask("GET", "/livez")).status_code == 200
    answer = await serving.ask("GET", "/readyz")
    assert answer.status_code == 503
    told = answer.json()
    assert told["ready"] is False
    assert told["database"]["ok"] is True
    account = told["accounts"]["shop"]
    assert (account["state"], account["can_send"], account["can_receive"]) == ("reconnecting", False, False)
    assert "proxy" in account["advice"]
    assert datetime.fromisoformat(account["since"]).tzinfo is not None


async def test_the_metrics_have_the_names_that_others_watch(serving: Daemon) -> None:
    text = (await serving.ask("GET", "/metrics")).text
    assert [name for name in METRICS if f"# TYPE {name.removesuffix('_total')}" not in text] == []
    assert [a for a in Action if f'sidestep_decisions_total{{action="{a}"}} 0.0' not in text] == []
    assert [s for s in Status if f'sidestep_outbox{{status="{s}"}}' not in text] == []
    assert 'sidestep_connection_state{account="shop",state="reconnecting"} 1.0' in text
    assert "5511" not in text


async def test_the_cron_route_answers_with_what_it_did(serving: Daemon) -> None:
    answer = await serving.ask("POST", "/cron/auto-resume")
    assert (answer.status_code, answer.json()) == (200, {"resumed": [], "cleaned": 0})


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/cron/auto-resume", 405),
        ("POST", "/livez", 405),
        ("DELETE", "/metrics", 405),
        ("GET", "/", 404),
        ("GET", "/../config.yaml", 404),
    ],
)
async def test_a_wrong_request_gets_a_json_error(serving: Daemon, method: str, path: str, code: int) -> None:
    answer = await serving.ask(method, path)
    assert (answer.status_code, list(answer.json())) == (code, ["error"])


async def test_a_page_of_another_site_may_not_use_it(serving: Daemon) -> None:
    answer = await serving.ask("POST", "/cron/auto-resume", Origin="https://elsewhere.example")
    assert answer.status_code == 403


async def test_the_account_is_served_once(serving: Daemon, served: Shop) -> None:
    second = await served.run("chat", "--jsonl", "--database", served.dsn)
    assert second.code == 2
    assert "'shop' is already served by another sidestep" in second.err
    assert "Traceback" not in second.err
    assert (await serving.ask("GET", "/livez")).status_code == 200


async def test_a_busy_port_is_told(serving: Daemon, served: Shop) -> None:
    second = await served.run("run", DATABASE_URL=served.dsn, SIDESTEP__HTTP__PORT=str(serving.port))
    assert (second.code, second.out) == (2, "")
    assert f"port {serving.port}" in second.err
    assert "http.port" in second.err
    assert "Traceback" not in second.err


async def test_beside_a_daemon_the_store_can_be_looked_at(serving: Daemon, served: Shop) -> None:
    unknown = await served.run("why", "3EB0", DATABASE_URL=served.dsn)
    assert (unknown.code, unknown.out) == (1, "")
    assert "3EB0" in unknown.err
    assert (await served.run("check", DATABASE_URL=served.dsn)).code == 0


async def test_with_a_token_only_life_is_told_to_strangers(shop: Shop) -> None:
    token = "a long enough secret"
    async with daemon(shop.folder, DATABASE_URL=shop.dsn, SIDESTEP__HTTP__TOKEN=token) as running:
        assert (await running.ask("GET", "/livez")).status_code == 200
        assert (await running.ask("GET", "/readyz")).json() == {"ready": False}
        for method, path in (("GET", "/metrics"), ("POST", "/cron/auto-resume")):
            assert (await running.ask(method, path)).status_code == 401
            assert (await running.ask(method, path, Authorization="Bearer wrong")).status_code == 401
            right = await running.ask(method, path, Authorization=f"Bearer {token}")
            assert right.status_code == 200
        told = await running.ask("GET", "/readyz", Authorization=f"Bearer {token}")
        assert "shop" in told.json()["accounts"]
        running.program.signal(signal.SIGINT)
        finished = await running.program.finished(STOP_SECONDS)
    assert_clean(finished)
    assert token not in finished.err


async def test_its_own_database_is_shared_while_it_runs_and_stops_with_it(
    shop: Shop, open_folder: Path
) -> None:
    folder = str(open_folder)
    async with daemon(shop.folder, SIDESTEP__DATABASE__DIR=folder) as running:
        server = server_of(open_folder)
        unknown = await shop.run("why", "3EB0", SIDESTEP__DATABASE__DIR=folder)
        assert unknown.code == 1
        assert (await shop.run("check", SIDESTEP__DATABASE__DIR=folder)).code == 0
        assert server_of(open_folder) == server
        second = await shop.run("run", SIDESTEP__DATABASE__DIR=folder)
        assert (second.code, "already served" in second.err) == (2, True)
        running.program.signal(signal.SIGTERM)
        assert_clean(await running.program.finished(STOP_SECONDS))
    assert not is_there(open_folder / "data" / "postmaster.pid")
    assert not runs(server)


@pytest.mark.parametrize("known", [False, True], ids=["just_now", "known"])
@pytest.mark.parametrize("own", [True, False], ids=["embedded", "external"])
async def test_it_stops_in_time_though_the_database_hangs(
    shop: Shop, open_folder: Path, own: bool, known: bool
) -> None:
    server = EmbeddedPostgres(open_folder, durable=False)
    where = {"SIDESTEP__DATABASE__DIR": str(open_folder)} if own else {"DATABASE_URL": await server.start()}
    try:
        async with daemon(shop.folder, **where) as running:
            pid = server_of(open_folder)
            with frozen(open_folder):
                if known:
                    await running.program.logged("store_lost")
                running.program.signal(signal.SIGTERM)
                assert_clean(await running.program.finished(STOP_SECONDS))
            assert runs(pid) is not own
    finally:
        await server.stop()


def is_there(path: Path) -> bool:
    return path.exists()


async def test_a_network_that_is_down_is_told_once_a_try(shop: Shop) -> None:
    async with daemon(shop.folder, DATABASE_URL=shop.dsn) as running:
        await running.program.logged("connection_changed", state="reconnecting", times=2)
        running.program.signal(signal.SIGTERM)
        finished = await running.program.finished()
    assert_clean(finished)
    told = [json.loads(line) for line in finished.err.splitlines() if line.startswith("{")]
    tries = [each for each in told if each.get("state") == "reconnecting"]
    assert len(tries) >= 2
    assert [each["event"] for each in tries if each["next_try"] is None] == []
    # Beside that only the client that each try takes, since it has its cost.
    assert {each["event"] for each in told if each["event"].startswith("whatsapp_")} <= {
        "whatsapp_link_started"
    }
