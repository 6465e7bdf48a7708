"""What must hold in the store when all has come to rest, tenant by tenant; each claim names its invariant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from storage.database import Database
from storage.models import ExternalId, Jid, MessageId, Status, Tenant
from tests.proof.daemon import Daemon
from tests.proof.shop import Seen

# What came only as unread, or before it could be read, has a decision of its own that says so.
UNDECIDED = """
SELECT m.external_id, array_agg(d.event_type || ':' || coalesce(d.action_taken, '-')) FROM sidestep.messages m
  LEFT JOIN sidestep.decisions d
    ON (d.tenant_id, d.chat_id, d.message_id) = (m.tenant_id, m.chat_id, m.id) AND d.event_type IN ('message', 'live')
 WHERE m.tenant_id = $1 AND m.author <> 'bot' GROUP BY m.tenant_id, m.chat_id, m.id, m.external_id
HAVING count(*) FILTER (WHERE d.event_type IS DISTINCT FROM 'live') <> 1 OR count(d.action_taken) <> count(*)
"""
ANSWERED_TWICE = """
SELECT m.external_id, array_agg(o.status) FROM sidestep.outbox o
  CROSS JOIN unnest(o.answers) AS answered (id)
  JOIN sidestep.messages m ON (m.tenant_id, m.chat_id, m.id) = (o.tenant_id, o.chat_id, answered.id)
 WHERE o.tenant_id = $1 AND o.epoch IS NOT NULL AND o.status IN ('sent', 'delivered', 'read', 'unknown', 'sending')
 GROUP BY m.tenant_id, m.chat_id, m.id, m.external_id HAVING count(*) > 1
"""
REPLIED_WITHOUT_REPLY = """
SELECT m.external_id FROM sidestep.decisions d
  JOIN sidestep.messages m ON (m.tenant_id, m.chat_id, m.id) = (d.tenant_id, d.chat_id, d.message_id)
 WHERE d.tenant_id = $1 AND d.action_taken = 'ai_replied'
   AND NOT EXISTS (SELECT FROM sidestep.outbox o
                    WHERE (o.tenant_id, o.chat_id) = (d.tenant_id, d.chat_id) AND d.message_id = ANY (o.answers))
"""
UNSETTLED = (
    "SELECT id, status, error FROM sidestep.outbox WHERE tenant_id = $1 AND status IN ('queued', 'sending')"
)
KEYS = (
    "SELECT external_id, from_me, count(*) AS n FROM sidestep.message_keys WHERE tenant_id = $1 GROUP BY 1, 2"
)
NOT_OVERLAPPED = """
SELECT external_id FROM sidestep.outbox WHERE tenant_id = $1 AND external_id = ANY ($2) AND NOT overlapped
"""
SILENT = """
SELECT a.jid FROM sidestep.chat_aliases a JOIN sidestep.chat_state s USING (tenant_id, chat_id)
  LEFT JOIN sidestep.processing_state g USING (tenant_id)
 WHERE a.tenant_id = $1
   AND ((s.is_paused AND s.pause_reason = 'manual_pause' AND s.paused_until IS NULL)
        OR s.is_excluded OR s.opted_out_at IS NOT NULL OR coalesce(g.is_paused, false))
"""
MAY_SPEAK = """
SELECT coalesce(bool_and(NOT (
           s.is_paused OR s.is_excluded OR s.opted_out_at IS NOT NULL OR coalesce(g.is_paused, false))), true)
  FROM sidestep.chat_aliases a JOIN sidestep.chat_state s USING (tenant_id, chat_id)
  LEFT JOIN sidestep.processing_state g USING (tenant_id)
 WHERE a.tenant_id = $1 AND a.jid = ANY ($2)
"""
CHATS_OF = "SELECT count(DISTINCT chat_id) FROM sidestep.chat_aliases WHERE tenant_id = $1 AND jid = ANY ($2)"
ACTIVE_THREADS = """
SELECT chat_id, count(*) FROM sidestep.threads WHERE tenant_id = $1 AND status = 'active' GROUP BY 1 HAVING count(*) > 1
"""
# One member is not the group, and no human's line pauses it unless that is configured.
SILENCED_GROUPS = """
SELECT c.jid, s.pause_reason, s.opted_out_at FROM sidestep.chats c JOIN sidestep.chat_state s USING (tenant_id, chat_id)
 WHERE c.tenant_id = $1 AND c.is_group
   AND (s.opted_out_at IS NOT NULL OR s.pause_reason = 'customer_request'
        OR (s.pause_reason = 'human_takeover' AND NOT $2))
"""
NOT_IGNORED = """
SELECT m.external_id, d.action_taken FROM sidestep.messages m
  JOIN sidestep.decisions d ON (d.tenant_id, d.chat_id, d.message_id) = (m.tenant_id, m.chat_id, m.id)
 WHERE m.tenant_id = $1 AND m.is_group AND m.author = 'customer' AND m.command IS NULL AND NOT m.addressed
   AND d.event_type = 'message' AND d.action_taken NOT IN ('ignored_group', 'imported')
"""
SHOWN = {
    "whaply": """
        SELECT message_id FROM face_whaply.messages WHERE tenant_id = $1 AND message_id NOT LIKE 'sidestep:%'
    """,
    "whaply's sessions": """
        SELECT chat_id FROM face_whaply.sessions f WHERE tenant_id = $1 AND is_paused IS DISTINCT FROM (
            SELECT s.is_paused FROM sidestep.chat_state s WHERE s.tenant_id = $1 AND s.chat_id = f.id)
    """,
}
_RANK = {Status.SENT: 1, Status.DELIVERED: 2, Status.READ: 3}


async def assert_all_is_decided(database: Database, tenant: Tenant) -> None:
    """2: each message once, and nobody is answered twice."""
    for claim in (UNDECIDED, ANSWERED_TWICE, REPLIED_WITHOUT_REPLY, ACTIVE_THREADS):
        assert await database.fetch(claim, tenant.tenant_id) == [], claim


async def assert_all_is_recorded(database: Database, tenant: Tenant, seen: Sequence[Seen]) -> None:
    """1: what was handed over is there, once."""
    rows = {(r["external_id"], r["from_me"]): r["n"] for r in await database.fetch(KEYS, tenant.tenant_id)}
    missing = [s for s in seen if (s.event.external_id, s.event.from_me) not in rows]
    assert missing == []
    assert [key for key, n in rows.items() if n > 1] == []


async def assert_the_faces_show_it(database: Database, tenant: Tenant, seen: Sequence[Seen]) -> None:
    """1, by SQL: what was handed over is shown, once, and who is paused."""
    shown = Counter(r["message_id"] for r in await database.fetch(SHOWN["whaply"], tenant.tenant_id))
    assert [i for i, n in shown.items() if n > 1] == []
    assert [s for s in seen if s.event.external_id not in shown] == []
    assert await database.fetch(SHOWN["whaply's sessions"], tenant.tenant_id) == []


async def assert_groups_are_left_alone(database: Database, tenant: Tenant, *, takes_over: bool) -> None:
    """What people say to each other is nobody's to answer, and none of them silences the bot for all."""
    assert await database.fetch(NOT_IGNORED, tenant.tenant_id) == []
    assert await database.fetch(SILENCED_GROUPS, tenant.tenant_id, takes_over) == []


async def assert_all_is_settled(database: Database, tenant: Tenant) -> None:
    """6: with a connection and some time nothing is left half sent."""
    assert await database.fetch(UNSETTLED, tenant.tenant_id) == []


async def assert_overlaps_are_told(
    database: Database, tenant: Tenant, overlapped: Sequence[ExternalId]
) -> None:
    """3: a send that had started when the human spoke is recorded as that."""
    assert await database.fetch(NOT_OVERLAPPED, tenant.tenant_id, list(overlapped)) == []


async def assert_people_are_one(
    database: Database, tenant: Tenant, people: Sequence[tuple[Jid, Jid]]
) -> None:
    for both in people:
        assert await database.fetchval(CHATS_OF, tenant.tenant_id, list(both)) <= 1, both


async def silent_addresses(database: Database, tenant: Tenant) -> frozenset[Jid]:
    """Where the bot may not speak until somebody says so: nothing of this ends by the clock."""
    return frozenset(Jid(r["jid"]) for r in await database.fetch(SILENT, tenant.tenant_id))


async def may_speak(database: Database, tenant: Tenant, jids: Sequence[Jid]) -> bool:
    """Whether the bot is silent at none of these addresses."""
    return bool(await database.fetchval(MAY_SPEAK, tenant.tenant_id, list(jids)))


def assert_statuses_only_move_forward(
    statuses: Mapping[tuple[Daemon, MessageId], Sequence[Status]],
) -> None:
    """6: sent, delivered, read: never back, and none of them twice, as each daemon tells it."""
    for told in statuses.values():
        ranks = [_RANK[s] for s in told if s in _RANK]
        assert ranks == sorted(set(ranks)), told
