"""A running bot obeys what is written by SQL at once, and takes rows that were written for records."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from flows.contract import Decided, Outcome, Reply, Turn
from storage.database import Database
from storage.models import Action
from tests.integration.face_world import face
from tests.integration.path_world import Path
from tests.integration.store_world import ANA, SHOP, World, said

ANSWER = "From 10 to 50."

PAUSES = {
    "processor": "UPDATE chat_tracking_state SET is_excluded = TRUE WHERE jid = $1",
    "processor, all": "UPDATE processing_state SET is_paused = TRUE, paused_at = NOW() WHERE id = 1 AND $1 <> ''",
    "whaply": "UPDATE sessions SET is_paused = TRUE, pause_reason = 'human_takeover' WHERE chat_id = $1",
}


@pytest.fixture
async def path(db: Database) -> Path:
    return Path.build(db, await World.open(db))


async def write(path: Path, name: str, statement: str, *arguments: object) -> None:
    async with face(path.world.db, name.partition(",")[0]) as connection:
        assert await connection.execute(statement, *arguments) != "UPDATE 0"


@pytest.mark.parametrize("name", PAUSES)
async def test_an_answer_that_is_being_typed_is_not_said_after_a_pause_by_sql(path: Path, name: str) -> None:
    async with path.running():
        path.see(said("M1", "price?"))
        await path.pipeline.inbox.drained()
        await path.clock.advance(timedelta(seconds=2))
        assert path.transport.typing
        await write(path, name, PAUSES[name], ANA.jid)
        await path.settle()
        path.see(said("M2", "hello?"))
        await path.settle()
    assert path.said == []
    assert path.decided[-1] in (Action.IGNORED_PAUSED, Action.IGNORED_EXCLUDED, Action.IGNORED_GLOBAL_PAUSE)


@dataclass
class Slow:
    """A model that answers when it is let, and remembers under which prompt it was asked."""

    name: str = "slow"
    action: Action = Action.AI_REPLIED
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    let: asyncio.Event = field(default_factory=asyncio.Event)
    prompts: list[str] = field(default_factory=list)

    async def run(self, turn: Turn) -> AsyncIterator[Outcome]:
        self.prompts.append(turn.tenant.system_prompt)
        self.asked.set()
        await self.let.wait()
        yield Reply(text=ANSWER)
        yield Decided(action=Action.AI_REPLIED)


@pytest.mark.parametrize("name", PAUSES)
async def test_an_answer_that_is_being_thought_of_is_not_said_after_a_pause_by_sql(
    db: Database, name: str
) -> None:
    slow = Slow()
    path = Path.build(
        db, await World.open(db, replace(SHOP, llm_provider="anthropic")), ai={"anthropic": slow}
    )
    async with path.running():
        path.see(said("M1", "are you open?"))
        await path.pipeline.inbox.drained()
        thinking = asyncio.create_task(path.clock.advance(timedelta(seconds=2)))
        await asyncio.wait_for(slow.asked.wait(), 60)
        await write(path, name, PAUSES[name], ANA.jid)
        slow.let.set()
        await thinking
        await path.settle()
    assert path.said == []
    assert len(path.decided) == 1


async def test_a_prompt_that_is_written_by_sql_is_the_next_turn_s(db: Database) -> None:
    slow = Slow()
    slow.let.set()
    path = Path.build(
        db, await World.open(db, replace(SHOP, llm_provider="anthropic")), ai={"anthropic": slow}
    )
    async with path.running():
        path.see(said("M1", "are you open?"))
        await path.settle()
        await write(
            path, "whaply", "UPDATE tenants SET system_prompt = 'Be brief.' WHERE instance_name = 'shop'"
        )
        path.see(said("M2", "are you open?"))
        await path.settle()
    assert slow.prompts == ["", "Be brief."]
    assert path.said == [ANSWER, ANSWER]


async def test_a_session_that_is_resumed_by_sql_is_answered_again(path: Path) -> None:
    async with path.running():
        path.see(said("M1", "price?"))
        await path.settle()
        await write(path, "whaply", "UPDATE sessions SET is_paused = TRUE WHERE chat_id = $1", ANA.jid)
        path.see(said("M2", "price?"))
        await path.settle()
        await write(path, "whaply", "UPDATE sessions SET is_paused = FALSE WHERE chat_id = $1", ANA.jid)
        path.see(said("M3", "price?"))
        await path.settle()
    assert path.decided == [Action.KEYWORD_REPLIED, Action.IGNORED_PAUSED, Action.KEYWORD_REPLIED]
    assert path.said == [ANSWER, ANSWER]


async def test_a_reset_by_sql_drops_what_is_being_typed_and_the_next_message_begins_anew(path: Path) -> None:
    async with path.running():
        path.see(said("M1", "price?"))
        await path.pipeline.inbox.drained()
        await path.clock.advance(timedelta(seconds=2))
        assert path.transport.typing
        await write(path, "threads", "UPDATE et_threads SET status = 'archived' WHERE status = 'active'")
        await path.settle()
        assert path.said == []
        path.see(said("M2", "price?"))
        await path.settle()
    assert path.said == [ANSWER]
    rows = await path.world.db.fetch(
        "SELECT count(DISTINCT thread_id) FROM sidestep.messages WHERE author = 'customer'"
    )
    assert rows[0][0] == 2


@pytest.mark.parametrize(("mode", "answers"), [("from_last", [ANSWER]), ("from_now", [])])
async def test_after_a_restart_a_chat_goes_on_from_the_last_message_or_from_now(
    path: Path, mode: str, answers: list[str]
) -> None:
    [open_one] = await path.world.record(said("M1", "price?"))
    await write(
        path, "processor", "UPDATE chat_tracking_state SET resume_mode = $2 WHERE jid = $1", ANA.jid, mode
    )
    async with path.running():
        await path.pipeline.start()
        await path.settle()
        assert path.said == answers
        path.see(said("M2", "price?"))
        await path.settle()
    assert path.said == [*answers, ANSWER]
    expected = Action.KEYWORD_REPLIED if answers else Action.IGNORED_TOO_OLD
    assert await path.world.action(open_one.message.id) is expected


RECORDS = {
    "processor": """
        INSERT INTO messages (message_id, jid, content, timestamp, is_from_me) VALUES ($2, $1, 'price?', 1708186800, $3)
    """,
    "store": """
        INSERT INTO messages (message_id, context_id, context_type, direction, content, status)
        VALUES ($2, $1, 'private', CASE WHEN $3 THEN 'outgoing' ELSE 'incoming' END, 'price?', 'queued')
    """,
    "threads": """
        INSERT INTO et_messages (tenant_id, lead_id, channel, message_id, timestamp, direction, text_content, raw_json)
        SELECT 1, lead_id, channel, $2, 1708186800000, CASE WHEN $3 THEN 'outbound' ELSE 'inbound' END, 'price?', '{}'
          FROM et_threads WHERE $1 <> '' LIMIT 1
    """,
    "whaply": "INSERT INTO messages (tenant_id, chat_id, message_id, from_me, text) VALUES (1, $1, $2, $3, 'price?')",
}


@pytest.mark.parametrize("name", RECORDS)
async def test_rows_that_are_written_by_sql_are_neither_answered_nor_sent(path: Path, name: str) -> None:
    async with path.running():
        path.see(said("M1", "hello"))
        await path.settle()
        greeted = list(path.said)
        await write(path, name, RECORDS[name], ANA.jid, "SQL1", False)
        await write(path, name, RECORDS[name], ANA.jid, "SQL2", True)
        await path.pipeline.recover()
        await path.pipeline.outbox.take_up()
        await path.settle()
        assert path.said == greeted
        path.see(said("M2", "price?"))
        await path.settle()
    assert path.said == [*greeted, ANSWER]
