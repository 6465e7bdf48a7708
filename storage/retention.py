"""What is kept no longer than was asked for: messages by whole months, the platform's events to the moment.

In batches, each a commit of its own, so that nobody waits; what is cut off goes on at the next call.
"""

from __future__ import annotations

from datetime import datetime

from storage.database import Database
from storage.models import TenantId

_BATCH = 1000

# Only months that are over as a whole, so that a month is either there or not.
OUTLIVED = """
SELECT o.chat_id, array_agg(o.id) AS ids
  FROM (SELECT m.chat_id, m.id FROM sidestep.messages m
         WHERE m.tenant_id = $1
           AND m.id < (SELECT sidestep.id_floor(
                              date_trunc('month', $2::timestamptz AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'))
         ORDER BY m.id LIMIT $3) o
 GROUP BY o.chat_id
"""
# Their keys stay: what was here once is not taken for new.
FORGET_OUTLIVED = "SELECT sidestep.erase_messages($1, $2, $3, false)"
FORGET_PAYLOADS = """
WITH old AS (
    SELECT chat_id, id FROM sidestep.message_payloads
     WHERE tenant_id = $1 AND id < (SELECT sidestep.id_floor($2)) LIMIT $3),
gone AS (
    DELETE FROM sidestep.message_payloads p USING old
     WHERE p.tenant_id = $1 AND p.chat_id = old.chat_id AND p.id = old.id RETURNING 1)
SELECT count(*) FROM gone
"""
FORGET_NOTED = "DELETE FROM sidestep.noted_events WHERE tenant_id = $1 AND noted_at < $2"


async def forget_noted(database: Database, tenant_id: TenantId, before: datetime) -> int:
    """Drop from a face's ledger what others have entered there before then; returns how many lines."""
    return int((await database.execute(FORGET_NOTED, tenant_id, before)).split()[-1])


DROP_EMPTY_MONTHS = "SELECT sidestep.drop_empty_months($1)"


async def forget_messages(database: Database, tenant_id: TenantId, before: datetime) -> int:
    """Delete the messages of the months that were over before then, with all that hangs on them; returns how many."""
    number = 0
    while chats := await database.fetch(OUTLIVED, tenant_id, before, _BATCH):
        for chat in chats:
            went = await database.fetchval(FORGET_OUTLIVED, tenant_id, chat["chat_id"], chat["ids"])
            number += went["messages"]
    return number


async def forget_payloads(database: Database, tenant_id: TenantId, before: datetime) -> int:
    """Delete the platform's events of messages from before then; returns how many."""
    number = 0
    while forgotten := await database.fetchval(FORGET_PAYLOADS, tenant_id, before, _BATCH):
        number += forgotten
    return number


async def drop_empty_months(database: Database, now: datetime) -> int:
    """Drop the months that are over and in which nothing is left of any tenant's; returns how many."""
    return int(await database.fetchval(DROP_EMPTY_MONTHS, now))
