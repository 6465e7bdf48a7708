"""What the owner is told unasked: noted in the store once, told through the outbox like all else, quietly by night."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from bot.breaker import FIRST_PAUSE, Limit
from bot.clock import Clock
from bot.outbox import Outbox
from bot.retry import until_stored
from bot.roles import Roles
from flows.contract import Tell
from storage.database import Connection, Database
from storage.messages import MessageStore
from storage.models import Account, AccountId, Address, MessageId, Outgoing, Tenant, Topic
from storage.notices import Notice, NoticeStore
from storage.notify import NoticeKind
from storage.outbox import OutboxStore
from storage.tenants import TenantStore

_LIMITED = (
    "WhatsApp lets this number write to nobody new, for now until {until:%Y-%m-%d %H:%M} UTC. Whoever has written "
    "to you is answered as before."
)
_LISTED = 20

_CAPPED = (
    "I have sent {cap} messages within 24 hours, which is the most that this number sends for now. What comes beyond "
    "is not sent: /failed shows it, and /failed retry all sends it tomorrow. See pace.daily and pace.first_day."
)


class OwnerNotices:
    """Of one account."""

    def __init__(
        self,
        account: Account,
        database: Database,
        tenants: TenantStore,
        messages: MessageStore,
        queue: OutboxStore,
        outbox: Outbox,
        roles: Roles,
        clock: Clock,
        can_send: Callable[[], bool],
    ) -> None:
        self._account = account
        self._database = database
        self._tenants = tenants
        self._messages = messages
        self._queue = queue
        self._store = NoticeStore(database, account)
        self._outbox = outbox
        self._roles = roles
        self._clock = clock
        self._can_send = can_send
        self._working: set[asyncio.Task[None]] = set()

    def on_limit(self, limit: Limit | None) -> None:
        """Told once: not again when a later try is refused, too."""
        if limit is not None and limit.pause == FIRST_PAUSE:
            subject = f"{self._account.account_id}:{limit.since.isoformat()}"
            self.say(
                Tell(kind=NoticeKind.FIRST_CONTACTS, subject=subject, text=_LIMITED.format(until=limit.until))
            )

    def on_cap(self, cap: int) -> None:
        """Told once a day."""
        subject = f"{self._account.account_id}:{self._clock.now():%Y-%m-%d}"
        self.say(Tell(kind=NoticeKind.CAPPED, subject=subject, text=_CAPPED.format(cap=cap)))

    def say(self, *tells: Tell) -> None:
        """Note these in the background, and tell them if it is time."""
        self._spawn(self._say(tells))

    async def note(
        self, tells: Sequence[Tell], tenant: Tenant, connection: Connection | None = None
    ) -> list[Tell]:
        """Keep these to be told, in the caller's transaction if there is one; returns those that are new.

        `wake` tells them, or the scheduler within a second.
        """
        now = self._clock.now()
        night = tenant.notify.quiet_until(now, tenant.zone) if tells else None
        return [
            tell
            for tell in tells
            if await self._store.note(
                tell.kind, tell.subject, tell.text, now,
                now if night is None or tell.kind.is_urgent else night,
                chat_id=tell.chat_id, message_id=tell.message_id, connection=connection,
            )
        ]  # fmt: skip

    async def reword(self, kind: NoticeKind, subject: str, text: str) -> bool:
        """Change what is not told yet; False when it was."""
        return await self._store.reword(kind, subject, text)

    def wake(self) -> None:
        """Something may be there to be told."""
        self._spawn(self.tell_due())

    @property
    def can_tell(self) -> bool:
        return self._can_send()

    async def tell_due(self, others: Sequence[AccountId] = ()) -> None:
        """Tell what is due, in one message; also that of `others`, who cannot tell it themselves."""
        if self.can_tell:
            await until_stored(lambda: self._tell_due((self._account.account_id, *others)))

    async def _tell_due(self, accounts: Sequence[AccountId]) -> None:
        now = self._clock.now()
        if not await self._store.is_any_due(accounts, now):
            return
        to = Address(jid=self._roles.notified)
        chat_id = await self._messages.identify(self._account, to, now)
        async with self._database.transaction() as connection:
            notices = await self._store.take_due(connection, accounts, now)
            if not notices:
                return
            await self._queue.enqueue(
                chat_id, _outgoing(notices), now, answers=_causes(notices), connection=connection
            )
        self._outbox.wake(chat_id)

    async def _say(self, tells: Sequence[Tell]) -> None:
        async def note() -> None:
            await self.note(tells, await self._tenants.get(self._account.tenant_id))

        await until_stored(note)
        await self.tell_due()

    async def close(self) -> None:
        """Stop here; what is noted is told by whoever runs next."""
        for task in list(self._working):
            task.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        async def counted() -> None:
            with self._clock.work.doing():
                await work

        self._working.add(task := asyncio.create_task(counted()))
        task.add_done_callback(self._working.discard)


def _causes(notices: Sequence[Notice]) -> list[MessageId]:
    return [n.message_id for n in notices if n.message_id is not None]


def _outgoing(notices: Sequence[Notice]) -> Outgoing:
    """A command in reply to it is about the chat that it is about, if that is one."""
    chats = {n.chat_id for n in notices}
    topic = Topic(about=chats.pop() if len(chats) == 1 else None)
    return Outgoing(text=_text(notices), fenced=False, metadata={**topic.metadata, "notice": notices[0].kind})


def _text(notices: Sequence[Notice]) -> str:
    """One as it is; several as a list, under a line that tells of the night."""
    if len(notices) == 1:
        return notices[0].text
    lines = [f"• {notice.text}" for notice in notices[:_LISTED]]
    if any(notice.was_held for notice in notices):
        lines.insert(0, "While it was quiet:")
    if len(notices) > _LISTED:
        lines.append(f"… and {len(notices) - _LISTED} more.")
    return "\n".join(lines)
