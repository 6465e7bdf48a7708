"""The desk: one burst becomes one answer. It reads the chat, asks the gates and a flow, and commits what comes of it.

A flow's outcomes take effect all together: the decisions, the replies in the outbox and the changes of
state are one commit, fenced by the epoch under which the answer was begun.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from bot.answers import Answered, Proposal
from bot.clock import Clock
from bot.events import Decided as DecidedEvent
from bot.events import Events
from bot.gates import refusal
from bot.outcomes import Tally, apply, decided_by
from bot.policy import Policy
from bot.reader import StoreReader
from bot.retry import until_stored
from bot.roles import Roles
from flows.contract import (
    Flow,
    GlobalPause,
    Notice,
    Turn,
)
from flows.registry import Flows, Recognised, choose, recognise
from storage.database import Database
from storage.messages import MessageStore
from storage.models import (
    Account,
    Action,
    Address,
    Author,
    ChatId,
    Decision,
    Message,
    MessageId,
    Outgoing,
    Role,
    Session,
)
from storage.outbox import AlreadyDecided, NotQueued, OutboxStore
from storage.sessions import SessionStore
from storage.tenants import TenantStore

log = structlog.get_logger(__name__)

_GROUP_COMMANDS = ("help",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """The stores that the path of one account needs."""

    database: Database
    tenants: TenantStore
    messages: MessageStore
    sessions: SessionStore
    outbox: OutboxStore
    reader: StoreReader


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What the desk sets off once something is committed: the outbox's sender, and lanes whose chat has changed."""

    wake: Callable[[ChatId], None]
    interrupt: Callable[[ChatId], None]
    interrupt_all: Callable[[], None]


class Desk:
    """One account's desk."""

    def __init__(
        self,
        account: Account,
        stores: Stores,
        flows: Flows,
        roles: Roles,
        clock: Clock,
        policy: Policy,
        events: Events,
        hooks: Hooks,
    ) -> None:
        self._account = account
        self._stores = stores
        self._flows = flows
        self._roles = roles
        self._clock = clock
        self._policy = policy
        self._events = events
        self._hooks = hooks

    async def propose(self, messages: Sequence[Message], absorbed: Answered) -> Proposal:
        """Ask the gates about each message, and a flow about those that they let through."""
        return await until_stored(lambda: self._propose(messages, absorbed))

    async def _propose(self, messages: Sequence[Message], absorbed: Answered) -> Proposal:
        turn = await self._turn(messages)
        refused, answerable = self._judge(messages, turn.session)
        absorbed = self._again(absorbed, turn.session)
        # What is held back to be answered with these is answered, also where these ask for no answer themselves.
        said = (*absorbed.messages, *answerable)
        if not said:
            return Proposal(messages=tuple(messages), epoch=None, decisions=tuple(refused))
        turn = turn if said[-1] is messages[-1] else await self._turn(said)
        turn = replace(turn, messages=said, reader=self._stores.reader.without(absorbed.reply_ids))
        flow = choose(turn, self._flows)
        tally = await self._run(flow, turn)
        log.debug("answer_proposed", chat_id=turn.chat.chat_id, flow=flow.name, replies=len(tally.replies))
        joined = [Decision(message_id=m.id, action=Action.JOINED) for m in answerable[:-1]]
        decided = [decided_by(tally, flow, m) for m in answerable[-1:]]
        return Proposal(
            messages=tuple(messages),
            epoch=turn.session.epoch,
            decisions=(*refused, *joined, *decided),
            # Only an answer takes an answer's place: after a failure, or a silence, the earlier one goes out.
            withdraws=absorbed.reply_ids if tally.is_answer else (),
            answered=said if tally.is_answer else tuple(answerable),
            replies=tuple(tally.replies),
            notices=await self._addressed(tally.notices, said[-1]),
            effects=tuple(tally.effects),
        )

    def _judge(self, messages: Sequence[Message], session: Session) -> tuple[list[Decision], list[Message]]:
        """What the gates refuse, and what they let through."""
        refused: list[Decision] = []
        answerable: list[Message] = []
        for message in messages:
            action = refusal(message, session, self._policy, self._clock.now())
            if action is None:
                answerable.append(message)
            else:
                detail = _pause_told(session) if action is Action.IGNORED_PAUSED else None
                refused.append(Decision(message_id=message.id, action=action, detail=detail))
        return refused, answerable

    def _again(self, absorbed: Answered, session: Session) -> Answered:
        """What is to be answered once more: all of it, or else its replies had better go out as they are."""
        refused, _ = self._judge(absorbed.messages, session)
        return Answered() if refused else absorbed

    async def commit(self, proposal: Proposal) -> Answered:
        """Put a proposal into effect; when the chat's state has moved on, nothing happens and the burst stays."""
        chat_id = proposal.messages[0].chat_id
        try:
            reply_ids = await until_stored(lambda: self._commit(chat_id, proposal))
        except AlreadyDecided:
            # A merge, or another process: whatever is still open is proposed anew.
            ids = [m.id for m in proposal.messages]
            still_open = await until_stored(
                lambda: self._stores.messages.still_open(self._account.tenant_id, chat_id, ids)
            )
            return Answered(settled=frozenset(ids) - still_open)
        except NotQueued:
            return Answered(late=True)
        if reply_ids is None:
            return Answered()
        self._tell(proposal.messages, proposal.decisions)
        self._set_off(chat_id, proposal)
        return Answered(
            settled=frozenset(m.id for m in proposal.messages),
            messages=proposal.answered,
            reply_ids=tuple(reply_ids),
        )

    async def command(self, message: Message) -> None:
        """Carry out one chat command. It bypasses the debounce and most gates, and is decided like any message."""
        try:
            settled: frozenset[MessageId] = frozenset()
            while message.id not in settled:  # its chat may be merged between the look and the commit
                settled = (
                    await self.commit(await until_stored(lambda: self._propose_command(message)))
                ).settled
        except Exception:
            # One command that cannot be carried out must not hold up its chat.
            log.exception("command_failed", message_id=message.id, command=message.command)
            await self.dismiss([message], Action.FAILED, "command")

    async def dismiss(self, messages: Sequence[Message], action: Action, detail: str | None = None) -> None:
        """Decide messages without an answer."""
        if not messages:
            return
        decisions = [Decision(message_id=m.id, action=action, detail=detail) for m in messages]
        closed = await until_stored(
            lambda: self._stores.messages.decide(
                self._account.tenant_id, messages[0].chat_id, decisions, self._clock.now()
            )
        )
        self._tell(messages, closed)

    async def _propose_command(self, message: Message) -> Proposal:
        turn = await self._turn([message])
        flow = recognise(message.text or "", turn.role, own_chat=turn.own_chat)
        action = self._refuse_command(turn, flow)
        if flow is None or action is not None:
            decision = Decision(message_id=message.id, action=action or Action.IGNORED_UNSUPPORTED)
            return Proposal(messages=(message,), epoch=None, decisions=(decision,))
        tally = await self._run(flow, turn)
        return Proposal(
            messages=(message,),
            epoch=None,
            decisions=(decided_by(tally, flow, message),),
            answered=(message,),
            replies=tuple(tally.replies),
            notices=await self._addressed(tally.notices, message),
            effects=tuple(tally.effects),
        )

    def _refuse_command(self, turn: Turn, flow: Recognised | None) -> Action | None:
        if turn.role is Role.CUSTOMER and turn.chat.is_group:
            # One member is not the group: nobody silences it, or calls a person into it, for all.
            return (
                None
                if self._policy.groups and flow and flow.name in _GROUP_COMMANDS
                else Action.IGNORED_GROUP
            )
        # A wish to be left alone is obeyed however old it is.
        if flow is not None and flow.name == "stop":
            return None
        if turn.now - turn.messages[0].sent_at > self._policy.max_age:
            return Action.IGNORED_TOO_OLD
        if turn.role is Role.CUSTOMER and turn.session.is_excluded:
            return Action.IGNORED_EXCLUDED
        return None

    async def _turn(self, messages: Sequence[Message]) -> Turn:
        tenant = await self._stores.tenants.get(self._account.tenant_id)
        self._roles.update(tenant)
        chat = await self._stores.reader.chat(messages[-1].chat_id)
        last = messages[-1]
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
        )

    async def _run(self, flow: Flow, turn: Turn) -> Tally:
        tally = Tally()
        async for outcome in flow.run(turn):
            tally.add(outcome)
        return tally

    async def _addressed(
        self, notices: Sequence[Notice], message: Message
    ) -> tuple[tuple[ChatId, Outgoing], ...]:
        """Notices with the chats that they go to: the owner's own, or the admin's who gave the command."""
        addressed = []
        for notice in notices:
            jids = (self._roles.owner,) if notice.role is Role.OWNER else message.sender_jids
            chat_id = await self._stores.messages.identify(
                self._account, Address(jid=jids[0]), self._clock.now()
            )
            addressed.append((chat_id, Outgoing(text=notice.text, fenced=False)))
        return tuple(addressed)

    async def _commit(self, chat_id: ChatId, proposal: Proposal) -> list[MessageId] | None:
        store, now = self._stores.outbox, self._clock.now()
        if not proposal.effects and not proposal.notices:
            return await store.answer(
                chat_id, proposal.epoch, proposal.decisions, proposal.answers, proposal.replies, now,
                withdraws=proposal.withdraws,
            )  # fmt: skip
        async with self._stores.database.transaction() as connection:
            if proposal.epoch is not None and not await store.may_speak(connection, chat_id, proposal.epoch):
                return None
            if proposal.withdraws:
                # Before the changes, which may cancel whatever is queued.
                await store.withdraw(connection, chat_id, proposal.withdraws)
            # The changes first: a reply is queued under the epoch that they raise, or they would cancel it.
            for effect in proposal.effects:
                await apply(connection, self._stores.sessions, effect, now)
            reply_ids = await store.answer(
                chat_id, None, proposal.decisions, proposal.answers, proposal.replies, now,
                connection=connection,
            )  # fmt: skip
            for notice_chat_id, outgoing in proposal.notices:
                await store.enqueue(
                    notice_chat_id, outgoing, now, answers=proposal.answers, connection=connection
                )
            return reply_ids

    def _set_off(self, chat_id: ChatId, proposal: Proposal) -> None:
        if proposal.replies:
            self._hooks.wake(chat_id)
        for notice_chat_id, _ in proposal.notices:
            self._hooks.wake(notice_chat_id)
        for effect in proposal.effects:
            if isinstance(effect, GlobalPause):
                self._hooks.interrupt_all()
            else:
                self._hooks.interrupt(effect.chat_id)

    def _tell(self, messages: Sequence[Message], decisions: Sequence[Decision]) -> None:
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


def _pause_told(session: Session) -> str:
    """Why and how long, for `why`."""
    reason = str(session.pause_reason or "paused")
    since = f", since {session.paused_at:%Y-%m-%d %H:%M} UTC" if session.paused_at else ""
    until = f", until {session.paused_until:%Y-%m-%d %H:%M} UTC" if session.paused_until else ""
    return reason + since + until
