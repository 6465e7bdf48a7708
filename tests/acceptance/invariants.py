"""What must hold in the database whatever was said to the bot and however it ended."""

from __future__ import annotations

from storage.models import Action
from tests.conftest import connected

RECORDED_TEXTS = """
SELECT m.text FROM sidestep.messages m JOIN sidestep.chats c USING (tenant_id, chat_id)
 WHERE c.jid = $1 ORDER BY m.id
"""
UNDECIDED = """
SELECT m.external_id FROM sidestep.messages m
  LEFT JOIN sidestep.decisions d
    ON (d.tenant_id, d.chat_id, d.message_id) = (m.tenant_id, m.chat_id, m.id)
   AND d.event_type IN ('message', 'live')
 WHERE m.author <> 'bot' GROUP BY m.tenant_id, m.chat_id, m.id, m.external_id
HAVING count(*) FILTER (WHERE d.event_type IS DISTINCT FROM 'live') <> 1 OR count(d.action_taken) <> count(*)
"""
REOPENED = "SELECT message_id FROM sidestep.decisions WHERE event_type LIKE 'back:%' AND action_taken IS NULL"
# A reply that was answered together with a later message is cancelled; any other may have reached the customer.
ANSWERED_TWICE = """
SELECT m.external_id, array_agg(o.status) FROM sidestep.outbox o
  CROSS JOIN unnest(o.answers) AS answered (id)
  JOIN sidestep.messages m ON (m.tenant_id, m.chat_id, m.id) = (o.tenant_id, o.chat_id, answered.id)
 WHERE o.status IN ('sent', 'delivered', 'read', 'unknown', 'sending')
 GROUP BY m.tenant_id, m.chat_id, m.id, m.external_id HAVING count(*) > 1
"""
REPLIED_WITHOUT_REPLY = """
SELECT m.external_id FROM sidestep.decisions d
  JOIN sidestep.messages m ON (m.tenant_id, m.chat_id, m.id) = (d.tenant_id, d.chat_id, d.message_id)
 WHERE d.action_taken IN ('keyword_replied', 'ai_replied')
   AND NOT EXISTS (SELECT FROM sidestep.outbox o
                    WHERE (o.tenant_id, o.chat_id) = (d.tenant_id, d.chat_id) AND d.message_id = ANY (o.answers))
"""
UNSETTLED = "SELECT id, status FROM sidestep.outbox WHERE status IN ('queued', 'sending')"
RECORDED = "SELECT external_id FROM sidestep.messages WHERE author = 'customer'"
ACTIONS = """
SELECT m.external_id, array_agg(d.action_taken ORDER BY d.event_type) AS actions
  FROM sidestep.decisions d
  JOIN sidestep.messages m ON (m.tenant_id, m.chat_id, m.id) = (d.tenant_id, d.chat_id, d.message_id)
 WHERE d.event_type IN ('message', 'live') AND d.action_taken IS NOT NULL GROUP BY 1
"""
# What the owner is told is fenced by nothing.
BY_STATUS = "SELECT status, count(*) FROM sidestep.outbox WHERE epoch IS NOT NULL GROUP BY status"


async def assert_all_is_well(dsn: str) -> None:
    """At rest: each event is decided once, nothing is answered twice, and nothing is left half sent."""
    async with connected(dsn) as connection:
        for claim in (UNDECIDED, REOPENED, ANSWERED_TWICE, REPLIED_WITHOUT_REPLY, UNSETTLED):
            assert await connection.fetch(claim) == [], claim


async def recorded_texts(dsn: str, number: str) -> list[str]:
    """What was said in the chat with this number, both ways, in order."""
    jid = f"{number.removeprefix('+')}@s.whatsapp.net"
    async with connected(dsn) as connection:
        return [row["text"] for row in await connection.fetch(RECORDED_TEXTS, jid)]


async def recorded_ids(dsn: str) -> list[str]:
    """The ids of the customers' messages."""
    async with connected(dsn) as connection:
        return [row["external_id"] for row in await connection.fetch(RECORDED)]


async def actions(dsn: str) -> dict[str, list[Action]]:
    """What was decided about each message, by its id; what is open is not there."""
    async with connected(dsn) as connection:
        rows = await connection.fetch(ACTIONS)
    return {row["external_id"]: [Action(a) for a in row["actions"]] for row in rows}


async def outbox_by_status(dsn: str) -> dict[str, int]:
    """How many messages to customers have which status."""
    async with connected(dsn) as connection:
        return {row["status"]: row["count"] for row in await connection.fetch(BY_STATUS)}
