"""Commits: a proposal is put into effect as a whole, or not at all; who waits for what came of it is told after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bot.answers import Proposal
from bot.clock import Clock
from bot.desk.stores import Stores
from bot.events import Decided as DecidedEvent
from bot.events import Events
from bot.notices import OwnerNotices
from bot.outcomes import apply
from flows.contract import Automatic, Effect, GlobalPause, Resume, SendAgain
from storage.database import Connection
from storage.models import Account, ChatId, Decision, Message, MessageId


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What a commit sets off: the outbox's sender, and lanes whose chat has changed.

    `relearn`: the owner has said of a text whether it is automatic.
    `resumed`: a pause has ended, and what nobody has answered in it may ask once more.
    """

    wake: Callable[[ChatId], None]
    hasten: Callable[[ChatId, MessageId], None]
    interrupt: Callable[[ChatId], None]
    interrupt_all: Callable[[], None]
    relearn: Callable[[], None]
    resumed: Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """The ids of what a proposal has queued in its own chat."""

    reply_ids: Sequence[MessageId]
    revoke_id: MessageId | None = None


class Commits:
    """One account's."""

    def __init__(
        self,
        account: Account,
        stores: Stores,
        clock: Clock,
        events: Events,
        hooks: Hooks,
        notices: OwnerNotices,
    ) -> None:
        self._account = account
        self._stores = stores
        self._clock = clock
        self._events = events
        self._hooks = hooks
        self._notices = notices

    async def commit(self, chat_id: ChatId, proposal: Proposal) -> Committed | None:
        """None: the chat's state has moved on, and nothing was kept.

        Raises AlreadyDecided, NotQueued and FencedOut.
        """
        store, now = self._stores.outbox, self._clock.now()
        if not (proposal.effects or proposal.notices or proposal.tells or proposal.takes_back):
            reply_ids = await store.answer(
                chat_id, proposal.epoch, proposal.decisions, proposal.answers, proposal.replies, now,
                withdraws=proposal.withdraws,
            )  # fmt: skip
            return None if reply_ids is None else Committed(reply_ids=reply_ids)
        async with self._stores.database.transaction() as connection:
            if proposal.epoch is not None and not await store.may_speak(connection, chat_id, proposal.epoch):
                return None
            return await self._put_into_effect(connection, chat_id, proposal)

    async def _put_into_effect(
        self, connection: Connection, chat_id: ChatId, proposal: Proposal
    ) -> Committed:
        stores, now = self._stores, self._clock.now()
        if proposal.withdraws:
            # Before the changes, which may cancel whatever is queued.
            await stores.outbox.withdraw(connection, chat_id, proposal.withdraws)
        # The changes first: a reply is queued under the epoch that they raise, or they would cancel it.
        for effect in proposal.effects:
            await apply(connection, stores.sessions, stores.automatic, stores.outbox, effect, now)
        reply_ids = await stores.outbox.answer(
            chat_id, None, proposal.decisions, proposal.answers, proposal.replies, now,
            connection=connection,
        )  # fmt: skip
        for notice_chat_id, outgoing in proposal.notices:
            await stores.outbox.enqueue(
                notice_chat_id, outgoing, now, answers=proposal.answers, connection=connection
            )
        if proposal.tells:
            tenant = await stores.tenants.get(self._account.tenant_id, connection)
            await self._notices.note(proposal.tells, tenant, connection)
        revoke_id = None
        if proposal.takes_back is not None:
            revoke_id = await stores.outbox.take_back(connection, proposal.takes_back, now)
        return Committed(reply_ids=reply_ids or [], revoke_id=revoke_id)

    def set_off(self, chat_id: ChatId, proposal: Proposal, committed: Committed) -> None:
        """Wake whoever has something to do now."""
        if committed.revoke_id is not None:
            self._hooks.hasten(chat_id, committed.revoke_id)
        if proposal.replies:
            self._hooks.wake(chat_id)
        for notice_chat_id, _ in proposal.notices:
            self._hooks.wake(notice_chat_id)
        if proposal.tells:
            self._notices.wake()
        for effect in proposal.effects:
            self._set_off_effect(effect)

    def _set_off_effect(self, effect: Effect) -> None:
        if isinstance(effect, Automatic):
            self._hooks.relearn()
        if isinstance(effect, GlobalPause | Automatic):
            self._hooks.interrupt_all()
        elif isinstance(effect, SendAgain):
            self._hooks.wake(effect.chat_id)
        else:
            self._hooks.interrupt(effect.chat_id)
        if isinstance(effect, Resume):
            self._hooks.resumed()

    def tell(self, messages: Sequence[Message], decisions: Sequence[Decision]) -> None:
        """Tell all who listen what was decided about these messages."""
        by_id = {m.id: m for m in messages}
        for decision in decisions:
            message = by_id[decision.message_id]
            self._events.tell(
                DecidedEvent(
                    chat_id=message.chat_id,
                    message_id=message.id,
                    external_id=message.external_id,
                    jid=message.chat_jid,
                    action=decision.action,
                    detail=decision.detail,
                )
            )
