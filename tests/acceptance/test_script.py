"""A script beside the running daemon sends through the one way out, and only to those who have written."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.clock import SystemClock
from bot.config import Config, load
from bot.events import Decided, Event, Events
from bot.script import NobodyThere, send_and_log
from bot.simulation import CUSTOMER, Line, Simulation, simulated
from storage.database import Database
from storage.decisions import explain
from storage.models import Action, ExternalId, MessageType, Origin, Status
from storage.sessions import SessionStore
from storage.tenants import TenantStore
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
    assert kept == {"job": "oven", "origin": "api"}
    fate = await db.fetchval(
        "SELECT o.status FROM sidestep.outbox o JOIN sidestep.messages m USING (tenant_id, chat_id, id)"
        " WHERE m.text = 'Too late.'"
    )
    assert fate == "cancelled"


async def test_a_program_takes_no_chat_over_but_a_person_who_writes_in_one_does(
    config: Config, db: Database
) -> None:
    decided: dict[str | None, str] = {}

    def note(event: Event) -> None:
        if isinstance(event, Decided):
            decided[event.external_id] = event.action

    events = Events()
    events.listen(note)
    async with simulated(config, db, SystemClock(), events) as simulation:
        await simulation.say(Line(who="customer", text="price", external_id=ExternalId("M1")))
        sent_by_program = await send_and_log(config, CUSTOMER, "Your cake is ready.")
        await until(lambda: _is_said(simulation, "Your cake is ready."), 60)
        await simulation.say(Line(who="customer", text="price", external_id=ExternalId("M2")))
        await until(lambda: _has(decided, "M2"), 60)
        said_by_person = await send_and_log(config, CUSTOMER, "It's me, Bia.", by_human=True)
        await simulation.say(Line(who="customer", text="price", external_id=ExternalId("M3")))
        await until(lambda: _has(decided, "M3"), 60)
        await until(lambda: _is_said(simulation, "It's me, Bia."), 60)
    assert (decided["M2"], decided["M3"]) == (Action.KEYWORD_REPLIED, Action.IGNORED_PAUSED)
    tenant = await TenantStore(db).find("shop")
    assert tenant is not None
    stories = [
        story
        for message_id in (sent_by_program, said_by_person)
        for story in await explain(db, SessionStore(db, tenant), tenant.tenant_id, str(message_id))
    ]
    assert [(s.message.origin, s.action) for s in stories] == [
        (Origin.API, None),
        (Origin.CONSOLE, Action.PAUSED),
    ]
    assert [reply.status for story in stories for reply in story.replies] == [Status.SENT, Status.SENT]


async def _has(decided: dict[str | None, str], message_id: str) -> bool:
    return message_id in decided


async def _is_said(simulation: Simulation, text: str) -> bool:
    return any(m.content.text == text for m in simulation.transport.sent)
