"""Turns: what a flow is told of a chat, and what comes of asking it; nothing is decided or written here."""

from __future__ import annotations

from collections.abc import Sequence

from bot.clock import Clock
from bot.desk.stores import Stores
from bot.outcomes import Tally
from bot.roles import Roles
from flows.contract import Flow, Notice, Turn
from flows.registry import Flows
from storage.models import Account, Address, Author, ChatId, Message, Outgoing, Role


class Turns:
    """One account's."""

    def __init__(self, account: Account, stores: Stores, flows: Flows, roles: Roles, clock: Clock) -> None:
        self._account = account
        self._stores = stores
        self._flows = flows
        self._roles = roles
        self._clock = clock

    async def read(self, messages: Sequence[Message]) -> Turn:
        """The chat as it is now, for messages of one chat and one role."""
        tenant = await self._stores.tenants.get(self._account.tenant_id)
        self._roles.update(tenant)
        last = messages[-1]
        chat = await self._stores.reader.chat(last.chat_id)
        role = self._roles.of(last.sender_jids, from_me=last.author is Author.HUMAN)
        own = self._roles.is_own((chat.jid, last.chat_jid))
        return Turn(
            tenant=tenant,
            chat=chat,
            session=chat.session,
            messages=tuple(messages),
            role=role,
            now=self._clock.now(),
            reader=self._stores.reader,
            own_chat=not chat.is_group and (own or role is Role.ADMIN),
            texts=self._flows.texts,
        )

    @staticmethod
    async def run(flow: Flow, turn: Turn) -> Tally:
        tally = Tally()
        async for outcome in flow.run(turn):
            tally.add(outcome)
        return tally

    async def addressed(
        self, notices: Sequence[Notice], asked: Message
    ) -> tuple[tuple[ChatId, Outgoing], ...]:
        """Notices with the chats that they go to: the owner's own, or the admin's who gave the command."""
        addressed = []
        for notice in notices:
            jids = (self._roles.owner,) if notice.role is Role.OWNER else asked.sender_jids
            chat_id = await self._stores.messages.identify(
                self._account, Address(jid=jids[0]), self._clock.now()
            )
            outgoing = Outgoing(text=notice.text, metadata=notice.topic.metadata, fenced=False)
            addressed.append((chat_id, outgoing))
        return tuple(addressed)
