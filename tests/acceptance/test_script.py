"""A script beside the running daemon sends through the one way out, and only to those who have written."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.clock import SystemClock
from bot.config import Config, load
from bot.events import Events
from bot.script import NobodyThere, send_and_log
from bot.simulation import CUSTOMER, Line, simulated
from storage.database import Database
from storage.models import ExternalId, MessageType
from tests.acceptance.conversation import CONFIG
from tests.conftest import until


@pytest.fixture
def config(tmp_path: Path, dsn: str) -> Config:
    file = tmp_path / "config.yaml"
    file.write_text(f"{CONFIG}\npace: {{debounce: 0.1s, typing: false}}\n", encoding="utf-8")
    return load(file, environ={"DATABASE_URL": dsn}, dotenv=tmp_path / "none")


async def test_a_script_s_message_is_recorded_and_sent_by_the_daemon(config: Config, db: Database) -> None:
    async with simulated(config, db, SystemClock(), Events()) as simulation:
        sent = simulation.transport.sent

        async def has_sent(count: int) -> bool:
            return len(sent) == count

        with pytest.raises(NobodyThere):
            await send_and_log(config, CUSTOMER, "Buy now!")
        await simulation.say(Line(who="customer", text="hello", external_id=ExternalId("M1")))
        await until(lambda: has_sent(1), 10)
        await send_and_log(config, CUSTOMER, "Your cake is ready.", metadata={"job": "oven"})
        url = "https://example.com/cake.jpg"
        await send_and_log(config, CUSTOMER, "Look!", media_url=url, media_type=MessageType.IMAGE)
        await until(lambda: has_sent(3), 10)
        assert [m.content.text for m in sent[1:]] == ["Your cake is ready.", "Look!"]
        assert sent[2].content.media_url == url

        await simulation.say(Line(who="owner", text="I am here", external_id=ExternalId("O1")))
        await send_and_log(config, CUSTOMER, "Too late.")
        await send_and_log(config, CUSTOMER, "But this must go.", fenced=False)
        await until(lambda: has_sent(4), 10)
        assert sent[3].content.text == "But this must go."
    kept = await db.fetchval("SELECT metadata FROM sidestep.messages WHERE text = 'Your cake is ready.'")
    assert kept == {"job": "oven"}
    fate = await db.fetchval(
        "SELECT o.status FROM sidestep.outbox o JOIN sidestep.messages m USING (tenant_id, chat_id, id)"
        " WHERE m.text = 'Too late.'"
    )
    assert fate == "cancelled"
