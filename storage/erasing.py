"""Erasing a person from the database: silences the chats, deletes in batches, then the person; removes no file.

Each batch is a commit of its own, so that a running daemon never waits for it. What is cut off goes on where it was
when it is repeated: the person is the last to go.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from storage.database import Database
from storage.errors import StorageError
from storage.models import LID_SERVER, PHONE_SERVER, ChatId, ContactId, Jid, MessageId, TenantId

_BATCH = 1000
_LOOK_AGAIN_SECONDS = 0.2
# What reads a table of millions may take its time; it keeps nobody waiting.
_PATIENCE_SECONDS = 3600.0

PEOPLE_AT = """
SELECT c.contact_id, c.jid, c.lid, c.phone, c.push_name FROM sidestep.contacts c
 WHERE c.tenant_id = $1 AND (c.jid = ANY ($2) OR c.lid = ANY ($2) OR c.contact_id IN (
       SELECT h.contact_id FROM sidestep.chat_aliases a JOIN sidestep.chats h USING (tenant_id, chat_id)
        WHERE a.tenant_id = $1 AND a.jid = ANY ($2) AND NOT h.is_group))
 ORDER BY c.contact_id
"""
ADDRESSES_OF_ONE = "SELECT sidestep.mapped_users($1)"
PEOPLE_CALLED = """
SELECT contact_id, jid, lid, phone, push_name FROM sidestep.contacts
 WHERE tenant_id = $1 AND lower(push_name) = lower($2) ORDER BY contact_id
"""
CHATS_OF = "SELECT sidestep.chats_of($1, $2)"
HOW_MUCH = """
SELECT (SELECT count(*) FROM sidestep.messages
         WHERE tenant_id = $1 AND chat_id = ANY (sidestep.chats_of($1, $2))) AS alone,
       (SELECT count(*) FROM sidestep.messages WHERE tenant_id = $1 AND sender_id = ANY ($2) AND is_group) AS in_groups
"""
# The chats before the outbox, in the order in which a takeover locks them.
SILENCE = """
WITH held AS (
    SELECT chat_id FROM sidestep.chat_state WHERE tenant_id = $1 AND chat_id = ANY ($2)
     ORDER BY chat_id FOR NO KEY UPDATE)
UPDATE sidestep.chat_state s SET epoch = s.epoch + 1, is_excluded = true
  FROM held WHERE s.tenant_id = $1 AND s.chat_id = held.chat_id
"""
CANCEL_ALL = """
UPDATE sidestep.outbox SET status = 'cancelled', due_at = NULL, error = 'the person was erased'
 WHERE tenant_id = $1 AND chat_id = ANY ($2) AND status = 'queued' AND sent_at IS NULL
"""
IS_SENDING = """
SELECT EXISTS (SELECT FROM sidestep.outbox
                WHERE tenant_id = $1 AND chat_id = ANY ($2) AND sent_at IS NULL AND status = 'sending' AND due_at > $3)
"""
NEXT_IN_CHAT = "SELECT id FROM sidestep.messages WHERE tenant_id = $1 AND chat_id = $2 ORDER BY id LIMIT $3"
NEXT_IN_GROUPS = """
SELECT chat_id, id FROM sidestep.messages WHERE tenant_id = $1 AND sender_id = ANY ($2) AND is_group LIMIT $3
"""
# What the bot has answered them there; an answer to several people is not theirs alone.
ANSWERS = """
SELECT o.id FROM sidestep.outbox o
 WHERE o.tenant_id = $1 AND o.chat_id = $2 AND o.id > $3 AND o.answers && $4
   AND NOT EXISTS (SELECT FROM sidestep.messages m
                    WHERE m.tenant_id = $1 AND m.chat_id = $2 AND m.id = ANY (o.answers) AND m.sender_id <> ALL ($5))
"""
ERASE_MESSAGES = "SELECT sidestep.erase_messages($1, $2, $3, true)"
ERASE_ORPHANS = "SELECT sidestep.erase_orphans($1, $2)"
# Events of others that name them: whom they mention, whom they quote.
ERASE_MENTIONS = """
WITH gone AS (
    DELETE FROM sidestep.message_payloads p
     WHERE p.tenant_id = $1 AND p.chat_id = ANY ($2)
       AND EXISTS (SELECT FROM unnest($3::text[]) u WHERE strpos(p.raw::text, u) > 0) RETURNING 1)
SELECT count(*) FROM gone
"""
# As whom another system has written them down.
ERASE_WRITTEN = """
WITH gone AS (
    DELETE FROM sidestep.people p
     WHERE p.tenant_id = $1
       AND (p.person_id IN (SELECT c.person_id FROM sidestep.contacts c
                             WHERE c.tenant_id = $1 AND c.contact_id = ANY ($2))
            OR p.number IN (SELECT unnest(sidestep.number_variants(n)) FROM unnest($3::text[]) n)) RETURNING 1)
SELECT count(*) FROM gone
"""
ERASE_PEOPLE = "SELECT sidestep.erase_people($1, $2, $3, $4, $5)"


class PersonRefused(StorageError):
    """Nobody, or nobody definite, is meant; nothing has changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A contact, as far as it is known."""

    contact_id: ContactId
    jid: Jid | None
    lid: Jid | None
    phone: str | None
    name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How many messages there are of somebody: in chats with them alone, ours included, and theirs in groups."""

    alone: int
    in_groups: int


class Erasing:
    """The people of one tenant, and how they are forgotten. `now` tells the time."""

    def __init__(self, database: Database, tenant_id: TenantId, now: Callable[[], datetime]) -> None:
        self._database = database
        self._tenant_id = tenant_id
        self._now = now

    async def addresses_of_one(self, jids: Sequence[Jid]) -> list[Jid]:
        """These, and those that the WhatsApp library knows to be the same person's."""
        users = [jid.partition("@")[0] for jid in jids]
        mapped = await self._database.fetchval(ADDRESSES_OF_ONE, users)
        return list(dict.fromkeys([*jids, *map(Jid, mapped)]))

    async def people_at(self, jids: Sequence[Jid]) -> list[Person]:
        """Who has one of these addresses: more than one contact where they are not known to be the same person."""
        return [_person(row) for row in await self._database.fetch(PEOPLE_AT, self._tenant_id, list(jids))]

    async def people_called(self, name: str) -> list[Person]:
        return [_person(row) for row in await self._database.fetch(PEOPLE_CALLED, self._tenant_id, name)]

    async def extent(self, people: Sequence[Person]) -> Extent:
        row = await self._database.fetchrow(
            HOW_MUCH, self._tenant_id, _ids(people), timeout=_PATIENCE_SECONDS
        )
        assert row is not None  # noqa: S101  a row of two counts
        return Extent(alone=row["alone"], in_groups=row["in_groups"])

    async def erase(
        self, people: Sequence[Person], jids: Sequence[Jid], progress: Callable[[int], None]
    ) -> Mapping[str, int]:
        """Delete whatever there is of these people; returns how many rows of which table.

        `jids`: addresses of theirs that perhaps no contact has. `progress` is told how many messages have gone.
        Files of media are still there: sweep afterwards.
        """
        went: Counter[str] = Counter()

        def count(told: Mapping[str, Any]) -> None:
            went.update(told)
            progress(went["messages"])

        chats = await self._chats(people)
        await self._silence(chats)
        for chat_id in chats:
            while batch := await self._database.fetch(NEXT_IN_CHAT, self._tenant_id, chat_id, _BATCH):
                count(await self._erase_messages(chat_id, [row["id"] for row in batch]))
        groups: set[ChatId] = set()
        while batch := await self._database.fetch(NEXT_IN_GROUPS, self._tenant_id, _ids(people), _BATCH):
            chat_id = ChatId(batch[0]["chat_id"])
            groups.add(chat_id)
            ids = [row["id"] for row in batch if row["chat_id"] == chat_id]
            answers = await self._database.fetch(
                ANSWERS, self._tenant_id, chat_id, min(ids), ids, _ids(people)
            )
            count(await self._erase_messages(chat_id, [*ids, *(row["id"] for row in answers)]))
        count(await self._erase_traces(chats, sorted(groups), people, jids))
        kept: dict[str, int] = await self._database.fetchval(
            ERASE_PEOPLE, self._tenant_id, _ids(people), list(jids), self._now(), dict(went),
            timeout=_PATIENCE_SECONDS,
        )  # fmt: skip
        return kept

    async def _chats(self, people: Sequence[Person]) -> list[ChatId]:
        return [ChatId(c) for c in await self._database.fetchval(CHATS_OF, self._tenant_id, _ids(people))]

    async def _silence(self, chats: Sequence[ChatId]) -> None:
        """The bot begins nothing more in these chats; a message that is just being sent comes to its end first."""
        async with self._database.transaction() as connection:
            await connection.execute(SILENCE, self._tenant_id, chats)
            await connection.execute(CANCEL_ALL, self._tenant_id, chats)
        # Else its id would be noted after all has gone. Where its daemon was killed, the lease ends it.
        while await self._database.fetchval(IS_SENDING, self._tenant_id, chats, self._now()):  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    async def _erase_messages(self, chat_id: ChatId, ids: Sequence[MessageId]) -> dict[str, int]:
        told: dict[str, int] = await self._database.fetchval(
            ERASE_MESSAGES, self._tenant_id, chat_id, ids, timeout=_PATIENCE_SECONDS
        )
        return told

    async def _erase_traces(
        self, chats: Sequence[ChatId], groups: Sequence[ChatId], people: Sequence[Person], jids: Sequence[Jid]
    ) -> dict[str, int]:
        told: dict[str, int] = await self._database.fetchval(
            ERASE_ORPHANS, self._tenant_id, chats, timeout=_PATIENCE_SECONDS
        )
        known = [jid for person in people for jid in (person.jid, person.lid) if jid]
        # Numbers alone: a short name may be a part of any word.
        named = [jid.partition("@") for jid in (*known, *jids)]
        users = sorted({user for user, _, server in named if server in (PHONE_SERVER, LID_SERVER)})
        mentions = await self._database.fetchval(
            ERASE_MENTIONS, self._tenant_id, groups, users, timeout=_PATIENCE_SECONDS
        )
        written = await self._database.fetchval(
            ERASE_WRITTEN,
            self._tenant_id,
            _ids(people),
            [user for user, _, server in named if server == PHONE_SERVER],
        )
        return {**told, "message_payloads": mentions, "people": written}


def _ids(people: Sequence[Person]) -> list[ContactId]:
    return [person.contact_id for person in people]


def _person(row: asyncpg.Record) -> Person:
    return Person(
        contact_id=ContactId(row["contact_id"]),
        jid=row["jid"],
        lid=row["lid"],
        phone=row["phone"],
        name=row["push_name"],
    )
