"""Messages as they are recorded and read back: the inbox's table family. Holds the queries, no loop and no decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from storage.database import Database
from storage.errors import StorageError, StoreUnavailable
from storage.identities import Identities
from storage.models import (
    Account,
    Address,
    Arrival,
    ChatId,
    ChatNamed,
    InboundMessage,
    Jid,
    Merge,
    Message,
    MessageId,
    Recorded,
    TenantId,
)
from storage.rows import (
    arrival_columns,
    clamped,
    event_json,
    medium_of,
    message_columns,
    message_of,
    printable,
    recorded_of,
    remembered,
)

REFUSED = (asyncpg.PostgresError, asyncpg.InterfaceError, UnicodeError, ValueError, OverflowError)
"""What a batch's own content can raise; failures of the server are StoreUnavailable by then."""

_MONTHS_AHEAD = timedelta(days=62)
_TICK = timedelta(milliseconds=1)  # the past ends so long before now, in ids as in sidestep.record_past
_LOOKS = 5


class BadArrival(StorageError):
    """Something in a batch that PostgreSQL will never take; nothing of the batch was recorded."""


ENSURE_MONTHS = "SELECT sidestep.ensure_months($1, $2)"
RECORD = """
SELECT ordinal, is_new, id, chat_id, thread_id, action_taken, changed_id, text, edited_at, deleted_at, sent_at
  FROM sidestep.record($1, $2, $3, $4,
       $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)
"""
# The same with the media that come with it: their rows are there as soon as the messages, so that no crash loses one.
RECORD_WITH_MEDIA = """
WITH recorded AS MATERIALIZED (
    SELECT * FROM sidestep.record($1, $2, $3, $4,
           $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)),
expected AS (
    INSERT INTO sidestep.media AS m (tenant_id, account_id, chat_id, message_id, type, due_at, created_at)
    SELECT $1, $2, r.chat_id, r.id, i.type, $4, $4
      FROM recorded r JOIN unnest($23::text[]) WITH ORDINALITY i (type, ordinal) USING (ordinal)
     WHERE r.is_new AND i.type IS NOT NULL
    ON CONFLICT (tenant_id, chat_id, message_id, ordinal) DO UPDATE SET due_at = excluded.due_at
     WHERE m.status = 'pending')
SELECT ordinal, is_new, id, chat_id, thread_id, action_taken, changed_id, text, edited_at, deleted_at, sent_at
  FROM recorded
"""
# The inner call first: media are looked for among what is recorded by then.
RECORD_PAST = """
SELECT sidestep.expect_past_media($1, $2, $3, $4, $5, $8, $9,
       sidestep.record_past($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
                            $18, $19, $20)) AS record_past
"""
# What an import has told before gets its id here, and is not new to the statement above.
ADOPT_IMPORTS = "SELECT sidestep.adopt_imports($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
ERASED_AMONG = "SELECT sidestep.erased_among($1, $2)"
# Only whom nobody has heard live: there the name is newer.
NAME_CONTACTS = """
UPDATE sidestep.contacts c SET push_name = n.name, updated_at = $4
  FROM unnest($2::text[], $3::text[]) n (jid, name)
 WHERE c.tenant_id = $1 AND n.jid IN (c.jid, c.lid) AND c.push_name IS NULL
"""
NAME_CHAT = """
UPDATE sidestep.chats c SET name = $5, updated_at = $6
  FROM sidestep.chat_aliases a
 WHERE a.tenant_id = $1 AND a.account_id = $2 AND a.channel = $3 AND a.jid = $4
   AND c.tenant_id = a.tenant_id AND c.chat_id = a.chat_id AND c.is_group AND c.name IS DISTINCT FROM $5
"""
QUARANTINE = """
INSERT INTO sidestep.quarantine (tenant_id, account_id, external_id, event, error, received_at)
VALUES ($1, $2, $3, $4, $5, $6)
"""
_COLUMNS = """
m.tenant_id, c.account_id, m.chat_id, c.jid AS chat_jid, m.id, m.thread_id, m.direction, m.author, m.type,
m.external_id, m.text, m.media_url, m.is_group, m.addressed, m.reply_to, m.command, m.metadata, m.sent_at,
m.edited_at, m.deleted_at, m.sender_device, p.jid, p.lid
"""
_UNDECIDED = """
  FROM (SELECT d.chat_id, d.message_id FROM sidestep.decisions d
         WHERE d.tenant_id = $1 AND d.action_taken IS NULL AND {what}) d
 CROSS JOIN LATERAL (
      SELECT l.account_id, l.jid FROM sidestep.chats l
       WHERE l.tenant_id = $1 AND l.chat_id = d.chat_id AND l.account_id = $2 LIMIT 1) c
 CROSS JOIN LATERAL (
      SELECT l.* FROM sidestep.messages l
       WHERE l.tenant_id = $1 AND l.chat_id = d.chat_id AND l.id = d.message_id LIMIT 1) m
  LEFT JOIN sidestep.contacts p ON p.tenant_id = m.tenant_id AND p.contact_id = m.sender_id
 ORDER BY m.id
"""
# The few open decisions first: a LIMIT within LATERAL lets no plan begin elsewhere. One that was made while the store
# was empty, when all ways are equal, went through all messages until PostgreSQL counted them, a minute later.
UNDECIDED = (
    "SELECT"
    + _COLUMNS
    + _UNDECIDED.format(what="($3::timestamptz IS NULL OR d.message_id < sidestep.id_floor($3))")
)
# What nobody has answered while the bot was silent, see sidestep.reopen_backlog.
REOPENED = "SELECT" + _COLUMNS + _UNDECIDED.format(what="d.event_type LIKE 'back:%'")
# The read begins at the newest message and ends at the thread's first. The CASE hides from the planner what it would
# take for selective: from there on nearly every message is of the thread, so that to stop at the limit is all it needs.
# A customer's request for a person is a command, and yet a part of the conversation.
HISTORY = (
    "SELECT"  # noqa: S608  constants of ours
    + _COLUMNS
    + """, d.action_taken AS last_action
  FROM sidestep.messages m
  JOIN sidestep.chats c ON c.tenant_id = m.tenant_id AND c.chat_id = m.chat_id
  LEFT JOIN sidestep.outbox o ON o.tenant_id = m.tenant_id AND o.chat_id = m.chat_id AND o.id = m.id
  LEFT JOIN sidestep.contacts p ON p.tenant_id = m.tenant_id AND p.contact_id = m.sender_id
  LEFT JOIN LATERAL (
       SELECT e.action_taken FROM sidestep.decisions e
        WHERE e.tenant_id = m.tenant_id AND e.chat_id = m.chat_id AND e.message_id = m.id AND e.action_taken IS NOT NULL
          AND e.event_type <> 'repeat' AND e.event_type NOT LIKE 'clock:%'
        ORDER BY e.decided_at DESC, e.event_type LIMIT 1) d ON true
 WHERE m.tenant_id = $1 AND m.chat_id = $2
   AND (m.command IS NULL OR (m.author = 'customer' AND d.action_taken = 'handed_off'))
   AND m.deleted_at IS NULL AND m.type NOT IN ('edit', 'revoke') AND (m.type <> 'reaction' OR m.text <> '')
   AND m.id >= (SELECT sidestep.id_floor(t.created_at) FROM sidestep.threads t
                 WHERE t.tenant_id = $1 AND t.chat_id = $2 AND t.status = 'active')
   AND CASE WHEN m.thread_id = (SELECT s.active_thread_id FROM sidestep.chat_state s
                                 WHERE s.tenant_id = $1 AND s.chat_id = $2) THEN true ELSE false END
   AND (o.status IS NULL OR o.status NOT IN ('cancelled', 'failed'))
 ORDER BY m.id DESC LIMIT $3
"""
)
STILL_OPEN = """
SELECT message_id FROM sidestep.decisions
 WHERE tenant_id = $1 AND chat_id = sidestep.chat_now($1, $2) AND message_id = ANY ($3)
   AND action_taken IS NULL
"""
FORGET_CHANGES = "DELETE FROM sidestep.early_changes WHERE tenant_id = $1 AND id < sidestep.id_floor($2)"


class MessageStore:
    """Messages of all accounts. Everything that lasts is in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._identities = Identities(database)
        self._months: tuple[datetime, datetime] | None = None
        self._past_months: set[datetime] = set()

    async def record(
        self, account: Account, arrivals: Sequence[Arrival], now: datetime
    ) -> tuple[list[Recorded], list[Merge]]:
        """Record a batch in one commit; results stand in the order of `arrivals`.

        With them come the merges that this store has caused since the last batch. Raises StoreUnavailable
        when nothing was recorded and the same call may succeed later, and BadArrival when the batch
        holds something that PostgreSQL will never take.
        """
        try:
            await self.ensure_months(now)
            rows = await self._record(*_recording(arrivals, now), account, arrivals, now)
        except REFUSED as exc:
            raise BadArrival(f"{type(exc).__name__}: {exc}") from exc
        recorded = [recorded_of(account, arrivals[row["ordinal"] - 1], row, now) for row in rows]
        return recorded, self._identities.take_merges()

    async def record_past(
        self, account: Account, arrivals: Sequence[Arrival], now: datetime
    ) -> tuple[int, list[Merge]]:
        """Record what was said before, in one commit and each at its own time; returns how many were new.

        Nothing wakes: all are decided as imported, and no chat's state changes. In an order that lasts
        within one second only as long as `arrivals` has it. What was erased stays so. Merges and errors are as with
        `record`.
        """
        try:
            ids = [printable(a.event.external_id) for a in arrivals]
            erased = set(await self._database.fetchval(ERASED_AMONG, account.tenant_id, ids))
            arrivals = [a for a, known_as in zip(arrivals, ids, strict=True) if known_as not in erased]
            if not arrivals:
                return 0, []
            await self.make_months_of(arrivals, now)
            columns = message_columns(arrivals, now)
            await self._adopt(account, arrivals, columns, now)
            [row] = await self._record(RECORD_PAST, columns, account, arrivals, now)
        except REFUSED as exc:
            self._past_months.clear()  # one may have been dropped since
            raise BadArrival(f"{type(exc).__name__}: {exc}") from exc
        return int(row["record_past"]), self._identities.take_merges()

    async def _adopt(
        self, account: Account, arrivals: Sequence[Arrival], columns: tuple[list[Any], ...], now: datetime
    ) -> None:
        await self._identities.know(account, [a.event for a in arrivals], now)
        jid, _, _, external_id, author, kind, is_group, text, _, _, _, sent_at, raw, *_ = columns
        await self._database.execute(
            ADOPT_IMPORTS, account.tenant_id, account.account_id, account.channel,
            jid, external_id, author, kind, is_group, text, sent_at, raw,
        )  # fmt: skip

    async def name_contacts(self, account: Account, names: Mapping[Jid, str], now: datetime) -> None:
        """Give contacts a name who have none; of others nothing is kept."""
        await self._database.execute(
            NAME_CONTACTS, account.tenant_id, list(names), [printable(n) for n in names.values()], now
        )

    async def name_chat(self, account: Account, named: ChatNamed, now: datetime) -> None:
        """A group's subject. Of a group that has no chat nothing is kept."""
        await self._database.execute(
            NAME_CHAT, account.tenant_id, account.account_id, account.channel,
            named.chat.jid, printable(named.name), now,
        )  # fmt: skip

    async def _record(
        self,
        statement: str,
        columns: tuple[list[Any], ...],
        account: Account,
        arrivals: Sequence[Arrival],
        now: datetime,
    ) -> list[asyncpg.Record]:
        for _ in range(_LOOKS):
            await self._identities.know(account, [a.event for a in arrivals], now)
            try:
                return await self._database.fetch(
                    statement, account.tenant_id, account.account_id, account.channel, now, *columns
                )
            except asyncpg.PostgresError as exc:
                if exc.sqlstate != "SS001":
                    raise
                # Another session has merged or erased one of the chats since we looked: look again.
                self._identities.forget()
        raise StoreUnavailable(
            "a chat changed under each attempt to record its messages; the call can be repeated"
        )

    async def quarantine(self, account: Account, event: InboundMessage, error: str, now: datetime) -> None:
        """Keep an event whole that cannot be recorded."""
        await self._database.execute(
            QUARANTINE, account.tenant_id, account.account_id, printable(event.external_id),
            event_json(event), printable(error), now,
        )  # fmt: skip

    async def ensure_months(self, now: datetime) -> None:
        """Make the months that `now` and the weeks after it need; asks PostgreSQL once in a while only."""
        if self._months is None or not self._months[0] < now < self._months[1] - _MONTHS_AHEAD / 2:
            span = (now - timedelta(days=1), now + _MONTHS_AHEAD)
            await self._database.execute(ENSURE_MONTHS, *span)
            self._months = span

    async def make_months_of(self, arrivals: Sequence[Arrival], now: datetime) -> None:
        """Make the months of the past that these need."""
        for month in {_month(min(clamped(a.event.sent_at, now), now - _TICK)) for a in arrivals}:
            if month not in self._past_months:
                await self._database.execute(ENSURE_MONTHS, month, month)
                self._past_months.add(month)

    async def undecided(self, account: Account, before: datetime | None = None) -> list[Message]:
        """What was recorded, until then, and not decided, oldest first: what a killed daemon left behind."""
        rows = await self._database.fetch(UNDECIDED, account.tenant_id, account.account_id, before)
        return [message_of(row) for row in rows]

    async def reopened(self, account: Account) -> list[Message]:
        """What asks once more, oldest first: the bot was silent, is back, and nobody has answered it."""
        rows = await self._database.fetch(REOPENED, account.tenant_id, account.account_id)
        return [message_of(row) for row in rows]

    async def history(self, tenant_id: TenantId, chat_id: ChatId, limit: int) -> list[Message]:
        """The newest messages of the active thread, oldest first, as they read now.

        Commands, what was never said and what was taken back are left out.
        """
        rows = await self._database.fetch(HISTORY, tenant_id, chat_id, limit)
        return [remembered(row) for row in reversed(rows)]

    async def forget_changes(self, tenant_id: TenantId, before: datetime) -> int:
        """Wait no longer for the targets of edits, revokes and reactions that came before then; returns how many."""
        return int((await self._database.execute(FORGET_CHANGES, tenant_id, before)).split()[-1])

    async def still_open(
        self, tenant_id: TenantId, chat_id: ChatId, ids: Sequence[MessageId]
    ) -> set[MessageId]:
        """Which of these are undecided."""
        rows = await self._database.fetch(STILL_OPEN, tenant_id, chat_id, list(ids))
        return {MessageId(r["message_id"]) for r in rows}

    async def identify(
        self,
        account: Account,
        address: Address,
        now: datetime,
        *,
        name: str | None = None,
        is_group: bool = False,
    ) -> ChatId:
        """The one chat behind an address, made, completed or merged as needed; `record` tells of a merge."""
        return await self._identities.identify(account, address, now, name=name, is_group=is_group)


def _recording(arrivals: Sequence[Arrival], now: datetime) -> tuple[str, tuple[list[Any], ...]]:
    """The statement that records these, with its arrays: another one where there are media among them."""
    columns = arrival_columns(arrivals, now)
    media = [medium_of(a.event) for a in arrivals]
    return (RECORD_WITH_MEDIA, (*columns, media)) if any(media) else (RECORD, columns)


def _month(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
