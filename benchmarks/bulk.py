"""A store with a past: chats and messages made by SQL, as the daemon would have left them; nothing of it waits."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import asyncpg

from bot.clock import SystemClock
from bot.config import Config
from bot.wiring import seed
from storage.database import Database
from storage.reading.stats import tally
from storage.tenants import TenantStore

_CHUNK = 200_000

# People whose numbers no benchmark's customer has.
CHATS = """
WITH people AS (
    INSERT INTO sidestep.contacts (tenant_id, jid, phone, push_name, created_at, updated_at)
    SELECT $1, '49' || 15000000000 + n || '@s.whatsapp.net', '49' || 15000000000 + n, 'Customer ' || n, $4, $4
      FROM generate_series(1, $3::int) n
    RETURNING contact_id, jid),
made AS (
    INSERT INTO sidestep.chats (tenant_id, account_id, jid, is_group, contact_id, created_at, updated_at)
    SELECT $1, $2, jid, false, contact_id, $4, $4 FROM people RETURNING chat_id, jid),
named AS (
    INSERT INTO sidestep.chat_aliases (tenant_id, account_id, channel, jid, chat_id)
    SELECT $1, $2, 'whatsapp', jid, chat_id FROM made),
begun AS (
    INSERT INTO sidestep.threads (tenant_id, chat_id, created_at) SELECT $1, chat_id, $4 FROM made
    RETURNING chat_id, thread_id)
SELECT chat_id, thread_id, jid, row_number() OVER (ORDER BY chat_id) AS nth FROM begun JOIN made USING (chat_id)
"""
# The n-th chat is written to 1/n as often as the first (Zipf), and so are words; an answer follows its question.
CHUNK = """
CREATE TEMP TABLE chunk AS
SELECT n, c.chat_id, c.thread_id, n % 2 = 1 AS asks, at,
       (sidestep.milliseconds(at) << 20) | (n & 1048575) AS id,
       (SELECT string_agg('w' || floor(power(20000, random()))::int, ' ')
          FROM generate_series(1, 8) WHERE n > 0) AS text
  FROM (SELECT 2 * pair - 2 + side AS n, floor(power({chats}, random_of_pair))::int AS nth,
               timestamptz '{first}' + (2 * pair - 2 + side) * interval '{step} milliseconds' AS at
          FROM (SELECT pair, random() AS random_of_pair FROM generate_series({start}, {end}) pair) p,
               generate_series(1, 2) side) m
  JOIN bulk_chats c USING (nth)
"""
FILL = """
INSERT INTO sidestep.messages (tenant_id, chat_id, id, thread_id, direction, author, type, external_id, text, sent_at)
SELECT {tenant}, chat_id, id, thread_id, CASE WHEN asks THEN 'inbound' ELSE 'outbound' END,
       CASE WHEN asks THEN 'customer' ELSE 'bot' END, 'text', CASE WHEN asks THEN 'P' || n END, text, at
  FROM chunk ORDER BY id;
INSERT INTO sidestep.message_keys (tenant_id, chat_id, external_id, from_me, id)
SELECT {tenant}, chat_id, 'P' || n, NOT asks, id FROM chunk ORDER BY id;
INSERT INTO sidestep.decisions (tenant_id, chat_id, message_id, action_taken, decided_at)
SELECT {tenant}, chat_id, id, 'keyword_replied', at FROM chunk WHERE asks ORDER BY id;
INSERT INTO sidestep.outbox (tenant_id, chat_id, id, account_id, status, epoch, external_id, queued_at, sent_at,
                             delivered_at)
SELECT {tenant}, chat_id, id, {account}, 'delivered', 0, 'P' || n, at, at, at FROM chunk WHERE NOT asks ORDER BY id;
DROP TABLE chunk;
"""
HEADS = """
INSERT INTO sidestep.chat_state (tenant_id, chat_id, active_thread_id, reply_jid, last_message_id, last_message_at)
SELECT {tenant}, chat_id, c.thread_id, c.jid, m.id, m.sent_at
  FROM bulk_chats c,
       LATERAL (SELECT id, sent_at FROM sidestep.messages m WHERE m.tenant_id = {tenant} AND m.chat_id = c.chat_id
                 UNION ALL SELECT 0, NULL ORDER BY id DESC LIMIT 1) m
"""
REST = "VACUUM ANALYZE"

SPAN = timedelta(days=180)


async def fill(
    database: Database,
    config: Config,
    *,
    messages: int,
    chats: int,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """So many messages of the last half year in a store that is migrated and otherwise empty."""
    tenants, now = TenantStore(database), datetime.now(UTC)
    [tenant] = await seed(config, tenants, SystemClock())
    [account] = await tenants.accounts(tenant.tenant_id)
    first = now - SPAN
    await database.execute("SELECT sidestep.ensure_months($1, $2)", first, now)
    connection = await asyncpg.connect(database.address.url)
    try:
        await connection.execute("SELECT setseed(0.5); SET synchronous_commit = off")
        await connection.execute(
            "CREATE TEMP TABLE bulk_chats (chat_id bigint, thread_id bigint, jid text, nth bigint PRIMARY KEY)"
        )
        made = await connection.fetch(CHATS, tenant.tenant_id, account.account_id, chats, first)
        await connection.copy_records_to_table("bulk_chats", records=[tuple(row) for row in made])
        await connection.execute("ANALYZE bulk_chats")
        place = {"tenant": tenant.tenant_id, "account": account.account_id}
        step = SPAN / max(messages, 1) / timedelta(milliseconds=1)
        for start in range(0, messages // 2, _CHUNK // 2):
            end = min(start + _CHUNK // 2, messages // 2)
            await connection.execute(
                CHUNK.format(chats=chats, first=first.isoformat(), step=step, start=start + 1, end=end)
            )
            await connection.execute(FILL.format(**place))
            tell(f"{2 * end:,} of {messages:,} messages made")
        await connection.execute(HEADS.format(**place))
        await tally(database, tenant.tenant_id, now)
        await connection.execute(REST)
    finally:
        await connection.close()
