"""The watch: what only the time brings up that an owner should know of; it looks, has it noted, and changes nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo

from bot.clock import Clock
from bot.events import Event, StatusMoved
from bot.notices import OwnerNotices
from bot.transports.base import Connection, ConnectionState
from bot.transports.states import MEANINGS
from flows.commands.target import label
from flows.commands.times import span_in_words, until_in_words
from flows.contract import Tell
from storage.database import Connection as StoreConnection
from storage.database import Database
from storage.models import Account, Status, Tenant
from storage.notify import NoticeKind
from storage.reading.chats import ChatReads
from storage.sessions import Resumed, SessionStore
from storage.states import State, pause_of, state_of
from storage.tenants import TenantStore

_AN_HOUR = timedelta(hours=1)
_FEWEST_SENDS = 10
"""Fewer tell nothing: one failure of two is a half."""

_QUIETLY_AWAY = (ConnectionState.STARTING, ConnectionState.PAIRING, ConnectionState.STOPPED)
"""Whoever starts, links or stops a number knows that it is not connected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trouble:
    since: datetime
    subject: str = ""


class Watch:
    """Of one account, and of its tenant's chats."""

    def __init__(
        self,
        account: Account,
        database: Database,
        tenants: TenantStore,
        sessions: SessionStore,
        notices: OwnerNotices,
        clock: Clock,
        connection: Callable[[], Connection],
    ) -> None:
        self._account = account
        self._tenants = tenants
        self._sessions = sessions
        self._chats = ChatReads(database, account.tenant_id)
        self._notices = notices
        self._clock = clock
        self._connection = connection
        self._trouble: _Trouble | None = None
        self._sends: deque[tuple[datetime, bool]] = deque()

    def hear(self, event: Event) -> None:
        """What becomes of this account's sends."""
        if isinstance(event, StatusMoved) and event.status in (Status.SENT, Status.FAILED, Status.UNKNOWN):
            self._sends.append((self._clock.now(), event.status is Status.SENT))

    async def returned(self, resumed: Sequence[Resumed], connection: StoreConnection) -> None:
        """The clock has ended these pauses, in the caller's transaction: it is back where no more keeps it silent."""
        tenant = await self._tenants.get(self._account.tenant_id, connection)
        if tenant.notify.resumed:
            back = [_returned(one) for one in resumed if state_of(one.chat.session) is State.ACTIVE]
            await self._notices.note(back, tenant, connection)

    async def look_at_chats(self) -> None:
        """Who waits for a human, and where the bot is about to return."""
        tenant, now = await self._tenants.get(self._account.tenant_id), self._clock.now()
        await self._notices.note(
            [*await self._waiting(tenant, now), *await self._returning(tenant, now)], tenant
        )

    async def look_at_number(self) -> None:
        """Whether it is connected, and what becomes of its sends."""
        tenant, now = await self._tenants.get(self._account.tenant_id), self._clock.now()
        await self._look_at_connection(tenant, now)
        await self._notices.note(self._failed_sends(tenant, now), tenant)

    async def _waiting(self, tenant: Tenant, now: datetime) -> Sequence[Tell]:
        after = tenant.notify.waiting_after
        if after is None or tenant.closed_at(now):
            return ()
        return [
            Tell(
                kind=NoticeKind.WAITING,
                subject=f"{chat.chat_id}:{since.isoformat()}",
                text=f"{label(chat)} has been waiting for a person for {span_in_words(now - since)}.",
                chat_id=chat.chat_id,
            )
            for chat in await self._sessions.handed_over(now - after)
            if (since := chat.session.paused_at) is not None
        ]

    async def _returning(self, tenant: Tenant, now: datetime) -> Sequence[Tell]:
        before = tenant.notify.before_resume
        if before is None:
            return ()
        return [
            Tell(
                kind=NoticeKind.RETURNING,
                subject=f"{chat.chat_id}:{at.isoformat()}",
                text=f"I stay out of {label(chat)} {until_in_words(at, now, tenant.zone)}, then I answer again.",
                chat_id=chat.chat_id,
            )
            for chat in await self._chats.paused_and_due(now + before)
            if (at := chat.session.returns_at) is not None
            and at > now
            # What else keeps it silent there does not end with the pause.
            and state_of(chat.session) is pause_of(chat.session)
        ]

    async def _look_at_connection(self, tenant: Tenant, now: datetime) -> None:
        connection = self._connection()
        if connection.state in _QUIETLY_AWAY:
            return
        if connection.can_send and connection.state is not ConnectionState.PHONE_OFFLINE:
            await self._tell_end(tenant, now)
            return
        trouble = self._trouble = self._trouble or _Trouble(since=connection.since)
        after = tenant.notify.trouble_after
        lasts = MEANINGS[connection.state].ends or (after is not None and now - trouble.since >= after)
        if after is not None and lasts and not trouble.subject:
            tell = self._in_trouble(connection, trouble, tenant, now)
            if await self._notices.note([tell], tenant):
                self._trouble = replace(trouble, subject=tell.subject)

    def _in_trouble(self, connection: Connection, trouble: _Trouble, tenant: Tenant, now: datetime) -> Tell:
        since = _at(trouble.since, now, tenant.zone)
        advice = connection.advice or "nothing can be sent"
        return Tell(
            kind=NoticeKind.NUMBER,
            # Also a daemon that is started again and again tells it once a day.
            subject=f"{self._account.account_id}:{connection.state}:{_day(now, tenant.zone)}",
            text=f"The number {self._account.name} is in trouble since {since}: {advice}.",
        )

    async def _tell_end(self, tenant: Tenant, now: datetime) -> None:
        trouble, self._trouble = self._trouble, None
        if trouble is None or not trouble.subject:
            return
        name, since = self._account.name, _at(trouble.since, now, tenant.zone)
        # Where no other number could tell of it, it comes with the end.
        cut_off = f"The number {name} was cut off from {since} to {_at(now, now, tenant.zone)}."
        if not await self._notices.reword(NoticeKind.NUMBER, trouble.subject, cut_off):
            over = f"{trouble.subject}:over"
            text = f"The number {name} is all right again."
            await self._notices.note([Tell(kind=NoticeKind.NUMBER, subject=over, text=text)], tenant)

    def _failed_sends(self, tenant: Tenant, now: datetime) -> Sequence[Tell]:
        while self._sends and self._sends[0][0] < now - _AN_HOUR:
            self._sends.popleft()
        limit, number = tenant.notify.failed_share, len(self._sends)
        failed = sum(not went_out for _, went_out in self._sends)
        if limit is None or number < _FEWEST_SENDS or failed < limit * number:
            return ()
        text = (
            f"Of the last hour's {number} messages of {self._account.name} {failed} could not be sent, or may not have "
            "been: /failed tells which."
        )
        subject = f"{self._account.account_id}:{_day(now, tenant.zone)}"
        return (Tell(kind=NoticeKind.FAILED_SENDS, subject=subject, text=text),)


def _returned(one: Resumed) -> Tell:
    return Tell(
        kind=NoticeKind.RESUMED,
        subject=f"{one.chat.chat_id}:{one.due_at.isoformat()}",
        text=f"I answer {label(one.chat)} again.",
        chat_id=one.chat.chat_id,
        message_id=one.message_id,
    )


def _day(now: datetime, zone: tzinfo) -> str:
    return now.astimezone(zone).date().isoformat()


def _at(moment: datetime, now: datetime, zone: tzinfo) -> str:
    shown = moment.astimezone(zone)
    return f"{shown:%H:%M}" if _day(moment, zone) == _day(now, zone) else f"{shown:%d %b %H:%M}"
