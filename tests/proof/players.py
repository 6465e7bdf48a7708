"""Who plays: two customers under two addresses each, a group of both, the owner, an admin, and somebody with SQL."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from bot.retry import until_stored
from storage.database import Database
from storage.models import Address, Jid, Tenant
from tests.integration.store_world import TEAM

ADMIN = Address(jid=Jid("5511999990001@s.whatsapp.net"))
GROUP = 2
"""As a chat, beside the two customers' own."""
FORMS = ("phone", "lid", "phone+lid", "lid+phone")


def phone(who: int) -> Jid:
    return Jid(f"55118888000{who:02}@s.whatsapp.net")


def lid(who: int) -> Jid:
    return Jid(f"2000000000000{who:02}@lid")


PEOPLE = tuple((phone(who), lid(who)) for who in range(2))


def address(who: int, form: str) -> Address:
    """A chat as an event names it."""
    if who == GROUP:
        return TEAM
    shown = [phone(who) if part == "phone" else lid(who) for part in form.split("+")]
    return Address(jid=shown[0], alt=shown[1] if len(shown) > 1 else None)


def same_chat(one: Jid, other: Jid) -> bool:
    return one == other or any(one in person and other in person for person in PEOPLE)


# -- by SQL, which takes now() from the game's time: no daemon is told --

CLOCK = """
CREATE SCHEMA proof;
CREATE FUNCTION proof.now() RETURNS timestamptz STABLE LANGUAGE sql
RETURN current_setting('proof.now')::timestamptz;
"""
AS_A_FACE = """
SELECT set_config('search_path', 'proof, pg_catalog', true), set_config('proof.now', $1, true),
       set_config('sidestep.tenant', $2, true)
"""
BY_A_HUMAN = "whaply, by a human"
SILENCING: Mapping[str, str] = {
    # As somebody with a SQL console would, who takes nothing back that is queued: the claim alone can refuse it.
    "console": """
        UPDATE sidestep.chat_state SET is_paused = true, pause_reason = 'manual_pause', paused_at = now(),
               paused_until = NULL, epoch = epoch + 1
         WHERE tenant_id = sidestep.face_tenant()
           AND chat_id IN (SELECT chat_id FROM sidestep.chat_aliases WHERE jid = ANY ($1))
    """,
    "whaply": "UPDATE face_whaply.sessions SET is_paused = true, pause_reason = 'busy' WHERE chat_id = ANY ($1)",
    BY_A_HUMAN: """
        UPDATE face_whaply.sessions SET is_paused = true, pause_reason = 'human_intervention' WHERE chat_id = ANY ($1)
    """,
    "processor": "UPDATE face_processor.chat_tracking_state SET is_excluded = true WHERE jid = ANY ($1)",
    "processor, all": "UPDATE face_processor.processing_state SET is_paused = true WHERE $1::text[] IS NOT NULL",
    "threads": """
        UPDATE face_threads.et_threads SET status = 'archived' WHERE status = 'active' AND $1::text[] IS NOT NULL
    """,
}
CALLING_BACK: Mapping[str, str] = {
    "console": """
        UPDATE sidestep.chat_state SET is_paused = false, pause_reason = NULL, paused_at = NULL, paused_until = NULL,
               epoch = epoch + 1
         WHERE tenant_id = sidestep.face_tenant()
           AND chat_id IN (SELECT chat_id FROM sidestep.chat_aliases WHERE jid = ANY ($1))
    """,
    "whaply": "UPDATE face_whaply.sessions SET is_paused = false WHERE chat_id = ANY ($1)",
    "processor": "UPDATE face_processor.chat_tracking_state SET is_excluded = false WHERE jid = ANY ($1)",
    "processor, all": "UPDATE face_processor.processing_state SET is_paused = false WHERE $1::text[] IS NOT NULL",
}
RECORDING = """
INSERT INTO face_whaply.messages (tenant_id, chat_id, message_id, from_me, text, created_at)
SELECT sidestep.face_tenant(), $1::text[][1], $2, $3, 'price', now()
"""
CLEANING = "SELECT face_whaply.auto_resume_paused_sessions(2) WHERE $1::text[] IS NOT NULL"


async def by_sql(database: Database, tenant: Tenant, now: datetime, sql: str, who: int, *more: object) -> str:
    """Run one statement about a chat in a session of its own; the tag that psql would show."""
    jids = [TEAM.jid] if who == GROUP else list(PEOPLE[who])

    async def run() -> str:
        async with database.transaction() as connection:
            await connection.execute(AS_A_FACE, now.isoformat(), tenant.instance_name)
            return await connection.execute(sql, jids, *more)

    # What is about several chats may cross a daemon's transaction: PostgreSQL ends one, which is then done again.
    return await until_stored(run)
