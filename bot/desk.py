"""The desk: one burst becomes one answer. It reads the chat, asks the gates and a flow, and commits what comes of it.

A flow's outcomes take effect all together: the decisions, the replies in the outbox and the changes of
state are one commit, fenced by the epoch under which the answer was begun.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import structlog

from bot.answers import Answered, Proposal
from bot.clock import Clock
from bot.crashpoints import Point, passing
from bot.events import Decided as DecidedEvent
from bot.events import Events
from bot.gates import refusal
from bot.notices import OwnerNotices
from bot.outcomes import Tally, apply, decided_by
from bot.policy import Policy
from bot.reader import StoreReader
from bot.retry import until_stored
from bot.rhythm import Rhythm
from bot.roles import Roles
from flows.commands.paging import shortened
from flows.commands.target import called, label
from flows.commands.times import until_in_words
from flows.contract import (
    Automatic,
    Decided,
    Flow,
    GlobalPause,
    Notice,
    Pause,
    Resume,
    SendAgain,
    Tell,
    Turn,
)
from flows.registry import Flows, Recognised, choose, recognise
from storage.automatic import AutomaticStore
from storage.database import Database
from storage.lease import FencedOut
from storage.messages import MessageStore
from storage.models import (
    PHONE_SERVER,
    Account,
    Action,
    Address,
    Author,
    ChatId,
    ChatSummary,
    Decision,
    Message,
    MessageId,
    Outgoing,
    PauseReason,
    Role,
    Session,
    Topic,
)
from storage.notify import NoticeKind
from storage.outbox import AlreadyDecided, NotQueued, OutboxStore
from storage.sessions import SessionStore
from storage.tenants import TenantStore

log = structlog.get_logger(__name__)

_LOOP = (
    "I think that another bot answers me in the chat with {who}: {loop}. I am silent there {until}; /resume calls me "
    "back before."
)
_REPEATED = "the same answer to the same question was given twice just now"
_EXCUSE = (
    "I could not carry out “{command}”{giver}: something went wrong, and nothing has changed. Try it once more; my log "
    "has the reason."
)
_QUOTED = 60
_GROUP_COMMANDS = ("help",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """The stores that the path of one account needs."""

    database: Database
    tenants: TenantStore
    messages: MessageStore
    sessions: SessionStore
    outbox: OutboxStore
    automatic: AutomaticStore
    reader: StoreReader


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What the desk sets off once something is committed: the outbox's sender, and lanes whose chat has changed.

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
class _Committed:
    """The ids of what a proposal has queued in its own chat."""

    reply_ids: Sequence[MessageId]
    revoke_id: MessageId | None = None


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
        notices: OwnerNotices,
        rhythm: Rhythm,
    ) -> None:
        self._account = account
        self._stores = stores
        self._flows = flows
        self._roles = roles
        self._clock = clock
        self._policy = policy
        self._events = events
        self._hooks = hooks
        self._notices = notices
        self._started_at = clock.now()
        self._rhythm = rhythm

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
        if answerable and (loop := self._rhythm.loop(turn.chat.chat_id)) is not None:
            return await self._leave_loop(turn, refused, answerable, loop)
        turn = turn if said[-1] is messages[-1] else await self._turn(said)
        turn = replace(turn, messages=said, reader=self._stores.reader.without(absorbed.reply_ids))
        flow = choose(turn, self._flows)
        tally = await self._run(flow, turn)
        if tally.is_only_words and self._rhythm.is_needless(said[-1], tally.replies):
            tally = Tally(decided=Decided(action=Action.IGNORED_REPEAT, detail=_REPEATED))
        log.debug("answer_proposed", chat_id=turn.chat.chat_id, flow=flow.name, replies=len(tally.replies))
        # Only an answer takes an answer's place: after a failure, or a silence, the earlier one goes out. But what is
        # said for want of an answer is not said twice.
        replaces = tally.is_answer or (bool(tally.replies) and tuple(tally.replies) == absorbed.replies)
        joined = [Decision(message_id=m.id, action=Action.JOINED) for m in answerable[:-1]]
        decided = [decided_by(tally, flow, m) for m in answerable[-1:]]
        return Proposal(
            messages=tuple(messages),
            epoch=turn.session.epoch,
            decisions=(*refused, *joined, *decided),
            withdraws=absorbed.reply_ids if replaces else (),
            answered=said if replaces else tuple(answerable),
            replies=tuple(tally.replies),
            notices=await self._addressed(tally.notices, turn.messages[-1]),
            tells=tuple(tally.tells),
            effects=tuple(tally.effects),
        )

    async def _leave_loop(
        self, turn: Turn, refused: Sequence[Decision], looped: Sequence[Message], loop: str
    ) -> Proposal:
        """Another bot answers ours: say nothing, pause the chat for a while, and tell the owner."""
        chat, until = turn.chat, turn.now + self._policy.loops.pause
        shown = until_in_words(until, turn.now, turn.tenant.zone)
        tell = Tell(
            kind=NoticeKind.LOOP,
            subject=str(looped[-1].id),
            text=_LOOP.format(who=label(chat), loop=loop, until=shown),
            chat_id=chat.chat_id,
            message_id=looped[-1].id,
        )
        decided = [Decision(message_id=m.id, action=Action.IGNORED_LOOP, detail=loop) for m in looped]
        return Proposal(
            messages=turn.messages,
            epoch=turn.session.epoch,
            decisions=(*refused, *decided),
            answered=tuple(looped),
            tells=(tell,),
            effects=(Pause(chat_id=chat.chat_id, reason=PauseReason.BOT_LOOP, until=until),),
        )

    def _judge(self, messages: Sequence[Message], session: Session) -> tuple[list[Decision], list[Message]]:
        """What the gates refuse, and what they let through."""
        refused: list[Decision] = []
        answerable: list[Message] = []
        for message in messages:
            action = refusal(message, session, self._policy, self._clock.now(), self._started_at)
            if action is None:
                answerable.append(message)
            else:
                detail = _why_refused(action, message, session)
                refused.append(Decision(message_id=message.id, action=action, detail=detail))
        return refused, answerable

    def _again(self, absorbed: Answered, session: Session) -> Answered:
        """What is to be answered once more: all of it, or else its replies had better go out as they are."""
        refused, _ = self._judge(absorbed.messages, session)
        return Answered() if refused else absorbed

    async def commit(self, proposal: Proposal) -> Answered:
        """Put a proposal into effect; when the chat's state has moved on, nothing happens and the burst stays."""
        chat_id = proposal.messages[0].chat_id
        passing(Point.PROPOSED)
        everything = frozenset(m.id for m in proposal.messages)
        try:
            committed = await until_stored(lambda: self._commit(chat_id, proposal))
        except AlreadyDecided:
            # A merge, or another process: whatever is still open is proposed anew.
            still_open = await until_stored(
                lambda: self._stores.messages.still_open(self._account.tenant_id, chat_id, list(everything))
            )
            return Answered(settled=everything - still_open)
        except FencedOut:
            # Not ours to answer any more: they stay as they are in the store, for whoever serves the account.
            return Answered(settled=everything)
        except NotQueued:
            return Answered(late=True)
        if committed is None:
            return Answered()
        passing(Point.DECIDED)
        self._tell(proposal.messages, proposal.decisions)
        self._set_off(chat_id, proposal, committed)
        if any(isinstance(e, Pause) and e.reason is PauseReason.BOT_LOOP for e in proposal.effects):
            self._rhythm.forget(chat_id)
        elif proposal.answered:
            self._rhythm.answered(proposal.answered[-1], proposal.replies)
        return Answered(
            settled=everything,
            messages=proposal.answered,
            reply_ids=tuple(committed.reply_ids),
            replies=proposal.replies,
        )

    async def command(self, message: Message) -> None:
        """Carry out one chat command. It bypasses the debounce and most gates, and is decided like any message."""
        for propose in (self._propose_command, self._propose_excuse):
            try:
                settled: frozenset[MessageId] = frozenset()
                while message.id not in settled:  # its chat may be merged between the look and the commit
                    settled = (await self.commit(await until_stored(partial(propose, message)))).settled
                return
            except Exception:
                # One command that cannot be carried out must not hold up its chat.
                log.exception("command_failed", message_id=message.id, command=message.command)
        await self.dismiss([message], Action.FAILED, "command")

    async def dismiss(self, messages: Sequence[Message], action: Action, detail: str | None = None) -> None:
        """Decide messages without an answer."""
        if not messages:
            return
        decisions = [Decision(message_id=m.id, action=action, detail=detail) for m in messages]
        with suppress(FencedOut):
            closed = await until_stored(
                lambda: self._stores.outbox.dismiss(messages[0].chat_id, decisions, self._clock.now())
            )
            self._tell(messages, closed)

    async def _propose_command(self, message: Message) -> Proposal:
        turn = await self._turn([message])
        turn = replace(turn, meant=await self._meant(turn))
        flow = recognise(
            message.text or "", turn.role, own_chat=turn.own_chat, is_reply=message.reply_to is not None
        )
        action = self._refuse_command(turn, flow)
        takes_back = self._to_take_back(message, own_chat=turn.own_chat)
        if flow is None or action is not None:
            decision = Decision(message_id=message.id, action=action or Action.IGNORED_UNSUPPORTED)
            return Proposal(messages=(message,), epoch=None, decisions=(decision,), takes_back=takes_back)
        tally = await self._run(flow, turn)
        if tally.is_only_words and turn.now - message.sent_at > self._policy.max_age:
            # A wish, such as to be left alone, is obeyed however old it is; a question is not answered.
            tally = Tally(decided=Decided(action=Action.IGNORED_TOO_OLD))
        return Proposal(
            messages=(message,),
            epoch=None,
            decisions=(decided_by(tally, flow, message),),
            answered=(message,),
            replies=tuple(tally.replies),
            notices=await self._addressed(tally.notices, turn.messages[-1]),
            tells=tuple(tally.tells),
            effects=tuple(tally.effects),
            takes_back=takes_back,
        )

    async def _meant(self, turn: Turn) -> ChatSummary | None:
        """The chat of the notice that a command in one's own chat replies to."""
        if not turn.own_chat or (reference := turn.messages[-1].reply_to) is None:
            return None
        found = await turn.reader.told(turn.chat.chat_id, reference)
        if found is None or (about := found[0].about) in (None, turn.chat.chat_id):
            return None
        return await self._stores.sessions.chat(about)  # None: erased since

    async def _propose_excuse(self, message: Message) -> Proposal:
        """A command has failed as nobody has foreseen: tell whoever gave it; of a customer's, the owner."""
        role = self._roles.of(message.sender_jids, from_me=message.author is Author.HUMAN)
        user, _, server = message.chat_jid.partition("@")
        phone = user if server == PHONE_SERVER else None
        giver = (
            f" of {called(None, phone, message.is_group, message.chat_id)}" if role is Role.CUSTOMER else ""
        )
        notice = Notice(
            text=_EXCUSE.format(command=shortened(message.text or "", _QUOTED), giver=giver),
            role=Role.ADMIN if role is Role.ADMIN else Role.OWNER,
            topic=Topic(about=message.chat_id),
        )
        return Proposal(
            messages=(message,),
            epoch=None,
            decisions=(Decision(message_id=message.id, action=Action.FAILED, detail="command"),),
            answered=(message,),
            notices=await self._addressed([notice], message),
            takes_back=self._to_take_back(message, own_chat=self._roles.is_own((message.chat_jid,))),
        )

    def _to_take_back(self, message: Message, *, own_chat: bool) -> Message | None:
        """A command on one of the owner's devices where a customer reads it: only that can be revoked."""
        is_seen = message.author is Author.HUMAN and not own_chat
        return message if is_seen and self._policy.takes_commands_back else None

    def _refuse_command(self, turn: Turn, flow: Recognised | None) -> Action | None:
        if turn.role is Role.CUSTOMER and turn.chat.is_group:
            # One member is not the group: nobody silences it, or calls a person into it, for all.
            return (
                None
                if self._policy.groups and flow and flow.name in _GROUP_COMMANDS
                else Action.IGNORED_GROUP
            )
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
            texts=self._flows.texts,
        )

    async def _run(self, flow: Flow, turn: Turn) -> Tally:
        tally = Tally()
        async for outcome in flow.run(turn):
            tally.add(outcome)
        return tally

    async def _addressed(
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

    async def _commit(self, chat_id: ChatId, proposal: Proposal) -> _Committed | None:
        store, now = self._stores.outbox, self._clock.now()
        if not (proposal.effects or proposal.notices or proposal.tells or proposal.takes_back):
            reply_ids = await store.answer(
                chat_id, proposal.epoch, proposal.decisions, proposal.answers, proposal.replies, now,
                withdraws=proposal.withdraws,
            )  # fmt: skip
            return None if reply_ids is None else _Committed(reply_ids=reply_ids)
        async with self._stores.database.transaction() as connection:
            if proposal.epoch is not None and not await store.may_speak(connection, chat_id, proposal.epoch):
                return None
            if proposal.withdraws:
                # Before the changes, which may cancel whatever is queued.
                await store.withdraw(connection, chat_id, proposal.withdraws)
            # The changes first: a reply is queued under the epoch that they raise, or they would cancel it.
            for effect in proposal.effects:
                await apply(connection, self._stores.sessions, self._stores.automatic, store, effect, now)
            reply_ids = await store.answer(
                chat_id, None, proposal.decisions, proposal.answers, proposal.replies, now,
                connection=connection,
            )  # fmt: skip
            for notice_chat_id, outgoing in proposal.notices:
                await store.enqueue(
                    notice_chat_id, outgoing, now, answers=proposal.answers, connection=connection
                )
            if proposal.tells:
                tenant = await self._stores.tenants.get(self._account.tenant_id)
                await self._notices.note(proposal.tells, tenant, connection)
            revoke_id = None
            if proposal.takes_back is not None:
                revoke_id = await store.take_back(connection, proposal.takes_back, now)
            return _Committed(reply_ids=reply_ids or [], revoke_id=revoke_id)

    def _set_off(self, chat_id: ChatId, proposal: Proposal, committed: _Committed) -> None:
        if committed.revoke_id is not None:
            self._hooks.hasten(chat_id, committed.revoke_id)
        if proposal.replies:
            self._hooks.wake(chat_id)
        for notice_chat_id, _ in proposal.notices:
            self._hooks.wake(notice_chat_id)
        if proposal.tells:
            self._notices.wake()
        for effect in proposal.effects:
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


def _why_refused(action: Action, message: Message, session: Session) -> str | None:
    if message.deleted_at is not None:
        return "revoked"
    return _pause_told(session) if action is Action.IGNORED_PAUSED else None


def _pause_told(session: Session) -> str:
    """Why and how long, for `why`."""
    reason = str(session.pause_reason or "paused")
    since = f", since {session.paused_at:%Y-%m-%d %H:%M} UTC" if session.paused_at else ""
    until = f", until {session.paused_until:%Y-%m-%d %H:%M} UTC" if session.paused_until else ""
    return reason + since + until
