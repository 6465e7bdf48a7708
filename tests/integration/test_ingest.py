"""`POST /api/messages` over real HTTP: what is recorded, once, and that none of it is answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr

from bot.http import build_app, listen, serve
from bot.http.guard import MAX_BODY_BYTES
from bot.http.ingest import ingest_route
from bot.importing.batch import MOST_MESSAGES, BatchRefused, messages_of
from bot.importing.ingest import Ingest
from bot.metrics import Metrics
from storage.database import Database
from storage.errors import StoreUnavailable
from storage.imports import ImportStore
from storage.models import Action
from tests.integration.store_world import ANA, NOW, World, said, typed
from tests.integration.test_http import FakeDaemon

TOKEN = SecretStr("a-long-token")
BEARER = {"Authorization": "Bearer a-long-token"}


@pytest.fixture
async def world(rollback_db: Database) -> World:
    return await World.open(rollback_db)


@asynccontextmanager
async def asking(
    world: World, token: SecretStr | None = TOKEN, store: ImportStore | None = None
) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the daemon's port; it sends the right token unless told otherwise."""
    daemon, metrics = FakeDaemon(), Metrics()
    port = Ingest(store or ImportStore(world.db), world.tenants, ["shop"], lambda: NOW, metrics)
    app = build_app(
        health=daemon,
        metrics=metrics,
        cron=daemon.auto_resume,
        token=token,
        routes=[ingest_route(port, token)],
    )
    listening, stop = listen("127.0.0.1", 0), asyncio.Event()
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve(app, listening, stop))
        async with httpx2.AsyncClient(
            base_url=address, trust_env=False, timeout=60, headers=BEARER
        ) as client:
            yield client
        stop.set()


async def post(client: httpx2.AsyncClient, body: object) -> httpx2.Response:
    return await client.post("/api/messages", json=body)


def message(number: int = 123, **more: object) -> dict[str, Any]:
    return {
        "id": f"ext_msg_{number}",
        "direction": "inbound",
        "type": "text",
        "content": "Hello, I'm interested in your product",
        "media_url": None,
        "sent_at": "2026-02-01T10:30:00Z",
        **more,
    }


def batch(*messages: dict[str, Any], **more: object) -> dict[str, Any]:
    return {
        "platform": "whatsapp",
        "external_conversation_id": "thread-7",
        "participant_identifier": "+55 (11) 98888-0001",
        "participant_name": "Ana",
        "messages": list(messages),
        **more,
    }


def alone(number: int, **more: object) -> dict[str, Any]:
    """A message that says itself where it was said."""
    where = {key: value for key, value in batch().items() if key != "messages"}
    return {**where, **message(number), **more}


REPLY = {"direction": "outbound", "content": "Thanks for reaching out!", "sent_at": "2026-02-01T10:32:00Z"}


async def rows(world: World) -> list[tuple[object, ...]]:
    found = await world.db.fetch(
        "SELECT c.channel, c.jid, m.external_id, m.direction, m.author, m.text FROM sidestep.messages m"
        " JOIN sidestep.chats c USING (tenant_id, chat_id) ORDER BY m.id"
    )
    return [tuple(row) for row in found]


async def test_a_batch_is_recorded_in_the_customers_chat_and_wakes_nothing(world: World) -> None:
    [live] = await world.record(said("L1", by=ANA, push_name="Ana S."))
    before = await world.db.fetchrow("SELECT * FROM sidestep.chat_state")
    async with asking(world) as client:
        answer = await post(client, batch(message(123), message(124, **REPLY)))
        metrics = (await client.get("/metrics")).text
    assert answer.status_code == 200
    assert answer.json() == {
        "accepted": 2,
        "duplicates": 0,
        "errors": [],
        "conversations": [
            {"platform": "whatsapp", "external_conversation_id": "thread-7", "accepted": 2, "duplicates": 0}
        ],
    }
    assert await rows(world) == [
        ("whatsapp", ANA.jid, "ext_msg_123", "inbound", "customer", "Hello, I'm interested in your product"),
        ("whatsapp", ANA.jid, "ext_msg_124", "outbound", "human", "Thanks for reaching out!"),
        ("whatsapp", ANA.jid, "L1", "inbound", "customer", "hello"),
    ]
    assert await world.db.fetchrow("SELECT * FROM sidestep.chat_state") == before
    assert [m.id for m in await world.messages.undecided(world.account)] == [live.message.id]
    assert await world.count("outbox") == 0
    assert f'sidestep_decisions_total{{action="{Action.IMPORTED}"}} 2.0' in metrics.splitlines()
    payload = await world.db.fetchval("SELECT raw FROM sidestep.message_payloads p LIMIT 1")
    assert payload["sent_at"].startswith("2026-02-01T10:3")
    assert await world.db.fetchval("SELECT push_name FROM sidestep.contacts") == "Ana S."


async def test_what_comes_again_is_a_duplicate_and_changes_nothing(world: World) -> None:
    await world.record(said("ext_msg_123", "as it was heard"), typed("ext_msg_124", "as it was typed"))
    again = batch(message(123), message(124, **REPLY), message(125), message(125, content="other words"))
    async with asking(world) as client:
        first, second = await post(client, again), await post(client, again)
    assert (first.json()["accepted"], first.json()["duplicates"]) == (1, 3)
    assert (second.json()["accepted"], second.json()["duplicates"]) == (0, 4)
    assert sorted(str(row[5]) for row in await rows(world)) == [
        "Hello, I'm interested in your product",
        "as it was heard",
        "as it was typed",
    ]


async def test_one_body_may_hold_many_conversations_in_every_shape(world: World) -> None:
    ben = {"participant_identifier": "5511988880002"}
    bodies: list[object] = [
        {"conversations": [batch(message(1)), batch(message(2), **ben)]},
        [batch(message(3)), batch(message(4), participant_identifier="011 98888-0002")],
        {"messages": [alone(5), alone(6) | {"participant": {"phone": "+5511988880002", "name": "Ben"}}]},
        [alone(7, participant_identifier="5511988880001@s.whatsapp.net")],
    ]
    async with asking(world) as client:
        for body in bodies:
            answer = await post(client, body)
            assert (answer.status_code, answer.json()["errors"]) == (200, []), answer.text
    by_chat: dict[object, list[object]] = {}
    for row in await rows(world):
        by_chat.setdefault(row[1], []).append(row[2])
    assert {jid: sorted(map(str, found)) for jid, found in by_chat.items()} == {
        ANA.jid: [f"ext_msg_{n}" for n in (1, 3, 5, 7)],
        "5511988880002@s.whatsapp.net": [f"ext_msg_{n}" for n in (2, 4, 6)],
    }


async def test_other_channels_get_chats_and_an_account_of_their_own(world: World) -> None:
    await world.record(said("L1", by=ANA))
    bodies = [
        batch(
            message(1),
            platform="telegram",
            external_conversation_id=987654321,
            participant_identifier="@AnaS",
        ),
        batch(
            message(2), platform="Telegram", external_conversation_id="other", participant_identifier="anas"
        ),
        batch(message(3), platform="signal", external_conversation_id="s-1"),
        batch(
            message(4),
            platform="email",
            external_conversation_id="<a@b>",
            participant_identifier="A@Shop.example",
        ),
        batch(
            message(5),
            platform="discord",
            external_conversation_id="room",
            group=True,
            participant_identifier=None,
        ),
        batch(
            message(6), platform="wechat", external_conversation_id="wx-1", participant_identifier="wxid_1"
        ),
    ]
    async with asking(world) as client:
        for body in bodies:
            answer = await post(client, body)
            assert (answer.status_code, answer.json()["accepted"]) == (200, 1), answer.text
            assert (await post(client, body)).json()["duplicates"] == 1
    chats = await world.db.fetch(
        "SELECT c.jid, c.channel, c.is_group, a.name, p.jid AS person FROM sidestep.chats c"
        " JOIN sidestep.accounts a USING (tenant_id, account_id)"
        " LEFT JOIN sidestep.contacts p USING (tenant_id, contact_id) ORDER BY c.chat_id"
    )
    assert [tuple(row) for row in chats] == [
        (ANA.jid, "whatsapp", False, "shop", ANA.jid),
        ("987654321", "telegram", False, "shop-telegram", "anas@telegram"),
        ("other", "telegram", False, "shop-telegram", "anas@telegram"),
        ("s-1", "signal", False, "shop-signal", ANA.jid),
        ("<a@b>", "email", False, "shop-email", "a@shop.example@email"),
        ("room", "discord", True, "shop-discord", None),
        ("wx-1", "wechat", False, "shop-wechat", "wxid_1@wechat"),
    ]
    assert [a.name for a in await world.tenants.accounts(world.tenant.tenant_id)] == ["shop"]


async def test_a_number_that_its_country_writes_in_two_ways_is_one_person(world: World) -> None:
    await world.record(said("L1", by=ANA))
    async with asking(world) as client:
        await post(client, batch(message(1), participant_identifier="+55 11 8888-0001"))
    assert {row[1] for row in await rows(world)} == {ANA.jid}


async def test_a_medium_stays_where_it_is(world: World) -> None:
    picture = message(1, type="photo", content=None, media_url="https://files.example/a.jpg")
    async with asking(world) as client:
        assert (await post(client, batch(picture))).json()["accepted"] == 1
    row = await world.db.fetchrow(
        "SELECT m.type, m.media_url, f.status, f.url FROM sidestep.messages m"
        " JOIN sidestep.media f ON f.message_id = m.id"
    )
    assert row is not None
    assert tuple(row) == ("image", "https://files.example/a.jpg", "stored", "https://files.example/a.jpg")


async def test_each_message_that_is_refused_is_told_and_costs_nothing_else(world: World) -> None:
    wrong: list[Any] = [
        message(1),
        message(2, direction="sideways"),
        message(3, sent_at="yesterday"),
        message(4, sent_at="2026-02-01T10:30:00"),
        message(5, sent_at="2096-02-01T10:30:00Z"),
        message(6, content="a\0b"),
        message(7, type="poem"),
        message(8, content="x" * 70_000),
        {k: v for k, v in message(9).items() if k != "id"},
        "no object",
        message(10, content=None),
        message(11, type="reaction"),
        message(12, participant_identifier="nobody"),
        message(13),
    ]
    async with asking(world) as client:
        answer = await post(client, batch(*wrong))
    assert answer.status_code == 207
    told = answer.json()
    assert (told["accepted"], told["duplicates"]) == (2, 0)
    assert [error["index"] for error in told["errors"]] == list(range(1, 13))
    reasons = {error["index"]: error["reason"] for error in told["errors"]}
    assert "direction" in reasons[1]
    assert "sent_at" in reasons[2]
    assert "still to come" in reasons[4]
    assert not [reason for reason in reasons.values() if "poem" in reason or "nobody" in reason]
    assert [row[2] for row in await rows(world)] == ["ext_msg_1", "ext_msg_13"]


async def test_what_the_database_refuses_is_told_too(db: Database) -> None:
    world = await World.open(db)
    async with asking(world) as client:
        answer = await post(client, batch(message(1), message(2, extra="a\0b"), message(3)))
    assert (answer.status_code, answer.json()["accepted"]) == (207, 2)
    assert [error["index"] for error in answer.json()["errors"]] == [1]
    assert "database refuses" in answer.json()["errors"][0]["reason"]


class TestRefused:
    async def test_without_a_token_configured_it_is_closed(self, world: World) -> None:
        async with asking(world, token=None) as client:
            answer = await post(client, batch(message()))
        assert answer.status_code == 403
        assert "SIDESTEP__HTTP__TOKEN" in answer.json()["error"]
        assert await world.count("messages") == 0

    @pytest.mark.parametrize("given", ["", "Bearer wrong", "Basic a-long-token"])
    async def test_without_the_right_token_it_is_closed(self, world: World, given: str) -> None:
        async with asking(world) as client:
            answer = await client.post(
                "/api/messages", json=batch(message()), headers={"Authorization": given}
            )
        assert answer.status_code == 401
        assert await world.count("messages") == 0

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (b"{", "not JSON"), (b"", "not JSON"), (b"\xff", "not JSON"), (b"[]", "no messages"),
            (b"{}", "no list"), (b"7", "an object"),
            (json.dumps(batch()).encode(), "no messages"),
            (json.dumps(batch(message(), tenant="other")).encode(), "one of shop"),
            (json.dumps(batch(message(), account="other")).encode(), "account"),
            (json.dumps(batch(*(message(n) for n in range(MOST_MESSAGES + 1)))).encode(), f"more than {MOST_MESSAGES}"),
        ],
    )  # fmt: skip
    async def test_what_is_no_batch_is_refused_as_a_whole(
        self, world: World, body: bytes, words: str
    ) -> None:
        async with asking(world) as client:
            answer = await client.post("/api/messages", content=body)
        assert (answer.status_code, words in answer.json()["error"]) == (400, True), answer.text
        assert await world.count("messages") == 0

    async def test_what_is_too_large_is_refused(self, world: World) -> None:
        async with asking(world) as client:
            answer = await client.post("/api/messages", content=b" " * (MAX_BODY_BYTES + 1))
            assert (await client.get("/api/messages")).status_code == 405
        assert answer.status_code == 413

    async def test_a_store_that_is_away_is_told_so_that_it_is_sent_again(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Away(ImportStore):
            async def known_phone(self, *_: object) -> str | None:
                raise StoreUnavailable("away")

        async with asking(world, store=Away(world.db)) as client:
            answer = await post(client, batch(message()))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")

    def test_lists_in_lists_have_an_end(self) -> None:
        deep: Any = batch(message())
        for _ in range(10):
            deep = {"messages": [deep]}
        assert messages_of(deep)
        with pytest.raises(BatchRefused):
            messages_of("x")


async def test_it_is_recorded_at_its_own_time(world: World) -> None:
    async with asking(world) as client:
        await post(client, batch(message(1, sent_at="2019-02-01T10:30:00+02:00")))
    assert await world.db.fetchval("SELECT sent_at FROM sidestep.messages") == datetime(
        2019, 2, 1, 8, 30, tzinfo=UTC
    )
