"""Slips: a command that the owner has mistyped in a customer's chat. The owner is told, and the line is taken back.

It was a line to the customer until then, and so it takes the chat over like any other: that is the safe reading.
"""

from __future__ import annotations

import asyncio

from bot.clock import Clock
from bot.outbox import Outbox
from bot.policy import Policy
from bot.retry import until_stored
from bot.roles import Roles
from flows.commands.target import label
from storage.database import Database
from storage.messages import MessageStore
from storage.models import Account, Address, ChatId, Message, MessageId, Outgoing, Topic
from storage.outbox import OutboxStore
from storage.sessions import SessionStore


class Slips:
    """Of one account."""

    def __init__(
        self,
        account: Account,
        database: Database,
        messages: MessageStore,
        sessions: SessionStore,
        store: OutboxStore,
        outbox: Outbox,
        roles: Roles,
        clock: Clock,
        policy: Policy,
    ) -> None:
        self._account = account
        self._database = database
        self._messages = messages
        self._sessions = sessions
        self._store = store
        self._outbox = outbox
        self._roles = roles
        self._clock = clock
        self._policy = policy
        self._telling: set[asyncio.Task[None]] = set()

    def recorded(self, message: Message, meant: str) -> None:
        """The owner wrote what looks like the command `meant`. A crash before it is told loses no more than that."""
        self._telling.add(task := asyncio.create_task(self._tell(message, meant)))
        task.add_done_callback(self._telling.discard)

    async def _tell(self, message: Message, meant: str) -> None:
        with self._clock.work.doing():
            owner, revoke = await until_stored(lambda: self._queue(message, meant))
            if revoke is not None:
                self._outbox.hasten(message.chat_id, revoke)
            self._outbox.wake(owner)

    async def _queue(self, message: Message, meant: str) -> tuple[ChatId, MessageId | None]:
        now = self._clock.now()
        owner = await self._messages.identify(self._account, Address(jid=self._roles.owner), now)
        chat = await self._sessions.chat(message.chat_id)
        name = label(chat) if chat else "a customer"
        taken_back = " I have deleted the line there." if self._policy.takes_commands_back else ""
        text = (
            f"You wrote “{message.text}” to {name}. That is no command: did you mean {meant}?{taken_back} "
            f"I took it for a word of yours and leave the chat to you. To command me, reply here with {meant}."
        )
        notice = Outgoing(text=text, metadata=Topic(about=message.chat_id).metadata, fenced=False)
        async with self._database.transaction() as connection:
            await self._store.enqueue(owner, notice, now, answers=[message.id], connection=connection)
            if not self._policy.takes_commands_back:
                return owner, None
            return owner, await self._store.take_back(connection, message, now)
