"""Lanes: one per chat, so that a chat's messages are handled in order while chats do not wait for each other.

A lane gathers a person's burst (debounce), has it answered, and starts over when a new message makes the answer
stale; without a debounce each message is answered by itself. Commands pass what waits for an answer.
It decides nothing about what to say: the desk does. A lane ends when it has nothing left to do.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import structlog

from bot.answers import Answered, Proposal
from bot.clock import Alarm, Clock
from bot.policy import Policy
from storage.models import Action, Changed, ChatId, Message, MessageId

log = structlog.get_logger(__name__)


class Desk(Protocol):
    """Where a lane brings its messages."""

    async def command(self, message: Message) -> None:
        """Carry out a chat command, and decide it."""
        ...

    async def propose(self, messages: Sequence[Message], absorbed: Answered) -> Proposal:
        """Make the answer to a burst; changes nothing, may be cancelled at any time."""
        ...

    async def commit(self, proposal: Proposal) -> Answered:
        """Decide the burst and queue its replies in one commit; never cancelled."""
        ...

    async def dismiss(self, messages: Sequence[Message], action: Action, detail: str | None = None) -> None:
        """Decide messages without an answer."""
        ...


class Holds(Protocol):
    """What keeps replies from being sent."""

    def hold_back(self, chat_id: ChatId, ids: Sequence[MessageId]) -> bool:
        """Send none of these until `let_go`; False when one is already on its way."""
        ...

    def let_go(self, chat_id: ChatId) -> None:
        """What was held back goes out, unless it was withdrawn."""
        ...


class Lane:
    """One chat's messages on their way through the flows."""

    def __init__(self, chat_id: ChatId, desk: Desk, holds: Holds, clock: Clock, policy: Policy) -> None:
        self.chat_id = chat_id
        self._desk = desk
        self._holds = holds
        self._clock = clock
        self._policy = policy
        self._alarm = Alarm(clock)
        self._arrived: deque[Message] = deque()
        self._joining: set[MessageId] = set()
        self._burst: list[Message] = []
        self._absorbed = Answered()
        self._first_at = self._due_at = clock.now()
        self._proposing: asyncio.Task[Proposal] | None = None
        self._last: Answered | None = None
        self._held = 0
        self._human: Message | None = None
        self._commanding: Message | None = None
        self._task: asyncio.Task[None] | None = None

    def push(self, message: Message, *, joins: bool = False) -> None:
        """Take a recorded, undecided message in; once only, however often it is brought.

        One that `joins` is answered with what is being answered, also without a debounce.
        """
        if any(m.id == message.id for m in self._known()):
            return
        self._arrived.append(message)
        if joins:
            self._joining.add(message.id)
        self._start()

    def change(self, changed: Changed) -> None:
        """A message was edited or revoked: whatever is not answered yet is answered as it reads now."""
        before = list(self._known())
        self._arrived = deque(map(changed.of, self._arrived))
        self._burst = [changed.of(m) for m in self._burst]
        self._absorbed = self._absorbed.with_change(changed)
        if self._last is not None:
            self._last = self._last.with_change(changed)
        if list(self._known()) != before:
            self.interrupt()

    def hold(self) -> None:
        """A human was seen speaking here: stop making an answer, at once, until `release`."""
        self._held += 1
        self._interrupt()

    def release(self) -> None:
        """The human's message has been dealt with."""
        self._held -= 1
        self._alarm.ring()

    def stand_aside(self, human: Message) -> None:
        """A human has spoken, and it is committed: what was written before is theirs to answer."""
        self._last = None
        if self._task is not None:
            self._human = human if self._human is None or self._human.is_before(human) else self._human
            self._interrupt()
            self._alarm.ring()

    def interrupt(self) -> None:
        """The chat's state has changed: an answer being made starts over."""
        self._interrupt()
        self._alarm.ring()

    def typing(self) -> None:
        """The customer is still writing: wait for the rest."""
        if self._burst and self._proposing is None:
            self._postpone()
            self._alarm.ring()

    def delivered(self) -> None:
        """The chat's replies have left: they can no longer be taken back."""
        self._last = None

    def take_all(self) -> list[Message]:
        """Give up everything undecided, for another lane to take."""
        taken = [*self._burst, *self._arrived]
        self._burst.clear()
        self._arrived.clear()
        self._let_go()
        self._last = None
        self._interrupt()
        self._alarm.ring()
        return taken

    @property
    def is_over(self) -> bool:
        return self._task is None and self._last is None and self._held == 0

    def _known(self) -> Iterator[Message]:
        yield from self._arrived
        yield from self._burst
        if self._commanding is not None:
            yield self._commanding
        if self._human is None:  # else their answers may have been taken from them
            # Decided while they were being read as undecided: they have their answer.
            yield from self._absorbed.messages
            if self._last is not None:
                yield from self._last.messages

    def _start(self) -> None:
        if self._task is None:
            self._clock.work.begin()
            self._task = asyncio.create_task(self._run(), name=f"lane-{self.chat_id}")
        else:
            self._alarm.ring()

    def _interrupt(self) -> None:
        if self._proposing is not None:
            self._proposing.cancel()

    async def _run(self) -> None:
        try:
            while self._arrived or self._burst:
                await self._step()
        except Exception:
            # What the lane held stays undecided in the store, and is taken up again at the next start.
            log.exception("lane_failed")
            self.take_all()
        finally:
            # No await may stand between the last look and here, or a message pushed meanwhile would wait for ever.
            self._task = None
            self._clock.work.end()

    async def _step(self) -> None:
        """Look at where things stand, and do the one next thing."""
        if (message := self._next()) is not None:
            await self._admit(message)
        elif self._held:
            # Not even an answer that is ready: whether a human's line makes it stale is known at the release.
            await self._alarm.wait()
        elif self._human is not None and self._proposing is None:
            await self._leave_to(self._human)
        elif self._proposing is not None and self._proposing.done():
            await self._conclude(self._proposing)
        elif self._proposing is not None:
            await self._alarm.wait()
        elif self._clock.now() < self._due_at:
            if not await self._alarm.wait(self._due_at):
                self._due_at = self._clock.now()  # the time is up, also where the wall clock has gone back
        else:
            self._propose()

    def _next(self) -> Message | None:
        """Whose turn it is: each comes at once, but where it waits for the answer to what was there before it.

        A command waits for no answer, and passes what does.
        """
        if self._arrived and (not self._burst or self._joins(self._arrived[0])):
            return self._arrived[0]
        return next((m for m in self._arrived if m.command is not None), None)

    def _joins(self, message: Message) -> bool:
        """Whether it is answered together with the burst, which is one person's."""
        gathers = bool(self._policy.debounce) or message.id in self._joining
        return gathers and message.has_sender_of(self._burst[0])

    def _propose(self) -> None:
        # Counted apart: the lane itself only waits for it.
        self._clock.work.begin()
        self._proposing = asyncio.create_task(self._desk.propose(list(self._burst), self._absorbed))
        self._proposing.add_done_callback(self._proposed)

    def _proposed(self, _: asyncio.Task[Proposal]) -> None:
        self._alarm.ring()
        self._clock.work.end()

    async def _admit(self, message: Message) -> None:
        self._arrived.remove(message)
        self._joining.discard(message.id)
        if message.command is not None:
            self._commanding = message
            await self._desk.command(message)
            self._commanding = None
            return
        if not self._burst:
            self._first_at = self._clock.now()
        insort(self._burst, message, key=lambda m: m.id)  # one that asks once more may be older than the rest
        self._postpone()
        self._interrupt()
        if len(self._burst) == 1 and self._policy.debounce:
            self._recall_for(message)

    def _recall_for(self, message: Message) -> None:
        """Answer the last messages again together with a new one of theirs, if their reply has not left."""
        last, self._last = self._last, None
        if last is None or not message.has_sender_of(last.messages[-1]):
            return
        # Held back, and withdrawn only by the commit of the joint answer: until then it is all that they have.
        if self._holds.hold_back(self.chat_id, last.reply_ids):
            self._absorbed = last

    def _let_go(self) -> None:
        if self._absorbed.reply_ids:
            self._absorbed = Answered()
            self._holds.let_go(self.chat_id)

    def _postpone(self) -> None:
        self._due_at = min(
            self._clock.now() + self._policy.debounce, self._first_at + self._policy.longest_debounce
        )

    async def _leave_to(self, human: Message) -> None:
        self._last = None
        self._let_go()
        # A line that comes late leaves to the bot what was written after it.
        theirs = [m for m in (*self._burst, *self._arrived) if m.command is None and m.is_before(human)]
        self._burst = [m for m in self._burst if m not in theirs]
        self._arrived = deque(m for m in self._arrived if m not in theirs)
        if theirs:
            await self._desk.dismiss(theirs, Action.SUPERSEDED, "a human spoke")
        if self._human is human:
            self._human = None

    async def _conclude(self, proposing: asyncio.Task[Proposal]) -> None:
        self._proposing = None
        if proposing.cancelled():
            return
        if (error := proposing.exception()) is not None:
            await self._fail(error)
            return
        proposal = proposing.result()
        if list(proposal.messages) != self._burst:
            return  # more has come since, or other words: it is answered together, as it reads now
        try:
            answered = await self._desk.commit(proposal)
        except Exception as exc:  # noqa: BLE001  an answer that cannot be kept must not hold up its chat
            await self._fail(exc)
            return
        self._burst = [m for m in self._burst if m.id not in answered.settled]
        if answered.late or not self._burst:
            self._let_go()
        self._last = answered if answered.reply_ids else None

    async def _fail(self, error: BaseException) -> None:
        log.error("answer_failed", exc_info=error)
        failed, self._burst = self._burst, []
        self._let_go()
        await self._desk.dismiss(failed, Action.FAILED, type(error).__name__)

    async def close(self) -> None:
        """Stop here; what is undecided stays so in the store."""
        tasks = [t for t in (self._task, self._proposing) if t is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Lanes:
    """The lanes of one account."""

    def __init__(self, desk: Desk, holds: Holds, clock: Clock, policy: Policy) -> None:
        self._desk = desk
        self._holds = holds
        self._clock = clock
        self._policy = policy
        self._lanes: dict[ChatId, Lane] = {}

    def lane(self, chat_id: ChatId) -> Lane:
        """The chat's lane, made if it has none."""
        lane = self._lanes.get(chat_id)
        if lane is None:
            self._sweep()
            lane = self._lanes[chat_id] = Lane(chat_id, self._desk, self._holds, self._clock, self._policy)
        return lane

    def find(self, chat_id: ChatId) -> Lane | None:
        """The chat's lane if it has one: most chats are at rest."""
        return self._lanes.get(chat_id)

    def merge(self, keep: ChatId, gone: ChatId) -> None:
        """Bring what waits in a lane whose chat is gone to the chat that it has become."""
        if (old := self._lanes.pop(gone, None)) is not None:
            for message in old.take_all():
                self.lane(keep).push(replace(message, chat_id=keep))
        if (kept := self._lanes.get(keep)) is not None:
            kept.interrupt()

    def interrupt_all(self) -> None:
        """Every chat's state has changed."""
        for lane in self._lanes.values():
            lane.interrupt()

    async def close(self) -> None:
        """Stop every lane where it stands."""
        await asyncio.gather(*(lane.close() for lane in list(self._lanes.values())))

    def _sweep(self) -> None:
        # Cheap enough at each new lane while there are few; a thousand at rest are dropped together.
        if len(self._lanes) % 1000 == 999:
            self._lanes = {c: lane for c, lane in self._lanes.items() if not lane.is_over}
