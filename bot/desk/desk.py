"""The desk: one burst becomes one answer. It reads the chat, asks the gates and a flow, and commits what comes of it.

A flow's outcomes take effect all together: the decisions, the replies in the outbox and the changes of
state are one commit, fenced by the epoch under which the answer was begun.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

import structlog

from bot.answers import Answered, Proposal
from bot.clock import Clock
from bot.crashpoints import Point, passing
from bot.desk.commands import Commands
from bot.desk.commits import Commits, Hooks
from bot.desk.stores import Stores
from bot.desk.turns import Turns
from bot.events import Events
from bot.gates import refusal
from bot.notices import OwnerNotices
from bot.outcomes import Tally, decided_by
from bot.policy import Policy
from bot.retry import until_stored
from bot.rhythm import Rhythm
from bot.roles import Roles
from flows.commands.target import label
from flows.commands.times import until_in_words
from flows.contract import Decided, Pause, Tell, Turn
from flows.registry import Flows, choose
from storage.lease import FencedOut
from storage.models import Account, Action, Decision, Message, MessageId, PauseReason, Session
from storage.notify import NoticeKind
from storage.outbox import AlreadyDecided, NotQueued

log = structlog.get_logger(__name__)

_LOOP = (
    "I think that another bot answers me in the chat with {who}: {loop}. I am silent there {until}; /resume calls me "
    "back before."
)
_REPEATED = "the same answer to the same question was given twice just now"


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
        self._clock = clock
        self._policy = policy
        self._rhythm = rhythm
        self._started_at = clock.now()
        self._turns = Turns(account, stores, flows, roles, clock)
        self._commands = Commands(self._turns, stores, roles, policy)
        self._commits = Commits(account, stores, clock, events, hooks, notices)

    async def propose(self, messages: Sequence[Message], absorbed: Answered) -> Proposal:
        """Ask the gates about each message, and a flow about those that they let through."""
        return await until_stored(lambda: self._propose(messages, absorbed))

    async def _propose(self, messages: Sequence[Message], absorbed: Answered) -> Proposal:
        turn = await self._turns.read(messages)
        refused, answerable = self._judge(messages, turn.session)
        absorbed = self._again(absorbed, turn.session)
        # What is held back to be answered with these is answered, also where these ask for no answer themselves.
        said = (*absorbed.messages, *answerable)
        if not said:
            return Proposal(messages=tuple(messages), epoch=None, decisions=tuple(refused))
        if answerable and (loop := self._rhythm.loop(turn.chat.chat_id)) is not None:
            return await self._leave_loop(turn, refused, answerable, loop)
        turn = turn if said[-1] is messages[-1] else await self._turns.read(said)
        turn = replace(turn, messages=said, reader=self._stores.reader.without(absorbed.reply_ids))
        flow = choose(turn, self._flows)
        tally = await self._turns.run(flow, turn)
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
            notices=await self._turns.addressed(tally.notices, turn.messages[-1]),
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
            committed = await until_stored(lambda: self._commits.commit(chat_id, proposal))
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
        self._commits.tell(proposal.messages, proposal.decisions)
        self._commits.set_off(chat_id, proposal, committed)
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
        for propose in (self._commands.propose, self._commands.excuse):
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
            self._commits.tell(messages, closed)


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
