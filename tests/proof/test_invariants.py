"""Whatever people, phones, clocks and crashes do in whatever order, the invariants hold.

Hypothesis plays everybody; `shop.py` notes in which order the daemon saw what and started what. `make prove-fast` plays
the same few games each time, `make prove` new ones with 100,000 moves in all. Numbers name invariants: 1 recorded
first, 2 decided once, 3 never over the human, 5 in order, 6 honest status.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from bot.transports.base import NotConnected, SendPostponed, SendRefused, SendUnconfirmed, TransportError
from storage.database import Database
from storage.models import (
    Address,
    ExternalId,
    InboundMessage,
    Jid,
    MessageType,
    Receipt,
    Status,
)
from tests.conftest import fresh_database
from tests.integration.store_world import AFTER, OWNER
from tests.proof import claims
from tests.proof.shop import POLICY, Seen, Send, Shop

FEW = 30
GAMES = int(os.environ.get("SIDESTEP_PROVE_GAMES", "0"))
"""How many, new ones each time; 0: the same few."""
MOVES = 50

ADMIN = Address(jid=Jid("5511999990001@s.whatsapp.net"))
# Some of them more often, so that the bot is not silent most of the time.
COMMANDS = (
    "/pause", "/pause 1h", "/resume", "/resume", "/resume", "/exclude", "/include", "/include", "/reset", "/status",
)  # fmt: skip
FORMS = ("phone", "lid", "phone+lid", "lid+phone")
T = TypeVar("T")


def phone(who: int) -> Jid:
    return Jid(f"55118888000{who:02}@s.whatsapp.net")


def lid(who: int) -> Jid:
    return Jid(f"2000000000000{who:02}@lid")


def address(who: int, form: str) -> Address:
    shown = [phone(who) if part == "phone" else lid(who) for part in form.split("+")]
    return Address(jid=shown[0], alt=shown[1] if len(shown) > 1 else None)


def pick(items: Sequence[T], back: int) -> T:
    """One of the last. What is drawn may not depend on what happened: nobody can repeat PostgreSQL's pace."""
    return items[-1 - back % len(items)]


people = st.integers(0, 1)
backs = st.integers(0, 5)
words = st.sampled_from(["hello", "hello", "price", "price", "handoff"])
forms = st.sampled_from(FORMS)


# As somebody with a SQL console would, who takes nothing back that is queued: the claim alone can refuse it.
PAUSE_BY_SQL = """
UPDATE sidestep.chat_state SET is_paused = true, pause_reason = 'manual_pause', paused_at = $3, paused_until = NULL,
       epoch = epoch + 1 WHERE tenant_id = $1 AND chat_id = $2
"""
RESUME_BY_SQL = """
UPDATE sidestep.chat_state SET is_paused = false, pause_reason = NULL, paused_at = NULL, paused_until = NULL,
       epoch = epoch + 1 WHERE tenant_id = $1 AND chat_id = $2 AND $3::timestamptz IS NOT NULL
"""


class Game(RuleBasedStateMachine):
    """One shop, three customers, the owner on two devices, an admin; the daemon may crash."""

    runner: asyncio.Runner
    database: Database

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.wrong: list[str] = []
        self.moved_state = False  # since the last look at the store: who may speak is not certain
        self.silent: frozenset[Jid] = frozenset()
        self.called_back: list[tuple[int, int]] = []
        self.shop = self.wait(Shop.open(self.database, may_have_left))
        self.shop.on_start = self.judge

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    # -- what people do --

    @rule(who=people, form=forms, text=words, late=st.sampled_from([0, 0, 0, 0, 90, 36_000]))
    def a_customer_writes(self, who: int, form: str, text: str, late: int) -> None:
        self.say(who, form, text, late=late)

    @rule(who=people, form=forms, text=words, steps=st.integers(0, 40))
    def a_customer_writes_and_waits_for_the_debounce(
        self, who: int, form: str, text: str, steps: int
    ) -> None:
        self.say(who, form, text)
        self.wait(self.shop.breathe(40))
        self.wait(self.shop.clock.press_on(POLICY.debounce))
        self.wait(self.shop.breathe(steps))

    @rule(
        who=people, form=forms, text=words, pause=st.sampled_from([0, 1, 2, 3, 5]), steps=st.integers(0, 40)
    )
    def a_customer_writes_again_while_the_bot_types(
        self, who: int, form: str, text: str, pause: int, steps: int
    ) -> None:
        self.a_customer_writes_and_waits_for_the_debounce(who, form, text, steps)
        self.wait(self.shop.clock.press_on(timedelta(seconds=pause)))
        self.say(who, form, text)

    @rule(
        who=people,
        form=forms,
        seconds=st.sampled_from([0, 1, 2, 3]),
        steps=st.integers(0, 40),
        form_of_owner=forms,
    )
    def the_owner_steps_in_while_the_bot_answers(
        self, who: int, form: str, seconds: int, steps: int, form_of_owner: str
    ) -> None:
        self.a_customer_writes_and_waits_for_the_debounce(who, form, "price", 40)
        self.wait(self.shop.clock.press_on(timedelta(seconds=seconds)))
        self.wait(self.shop.breathe(steps))
        self.the_owner_writes(who, form_of_owner, 0, 0)

    @rule(who=people, form=forms, command=st.sampled_from(["/stop", "/start", "/start", "/human", "/help"]))
    def a_customer_commands(self, who: int, form: str, command: str) -> None:
        self.say(who, form, command)

    @rule(
        who=people, form=forms, device=st.sampled_from([0, 7]), late=st.sampled_from([0, 0, 0, 300, 10_800])
    )
    def the_owner_writes(self, who: int, form: str, device: int, late: int) -> None:
        self.say(who, form, "it is me", late=late, from_me=True, sender_device=device)

    @rule(
        who=people,
        form=forms,
        command=st.sampled_from(COMMANDS),
    )
    def the_owner_commands(self, who: int, form: str, command: str) -> None:
        self.say(who, form, command, from_me=True)

    @rule(command=st.sampled_from(["/global pause", "/global resume", "/global resume"]))
    def an_admin_commands(self, command: str) -> None:
        self.arrive(self.message(ADMIN, ADMIN, command))

    @rule(back=backs, kind=st.sampled_from([MessageType.EDIT, MessageType.REVOKE, MessageType.REACTION]))
    def a_message_is_changed(self, back: int, kind: MessageType) -> None:
        if self.shop.seen:
            event = pick(self.shop.seen, back).event
            self.count += 1
            self.arrive(
                replace(
                    event,
                    external_id=ExternalId(f"c{self.count}"),
                    type=kind,
                    reply_to=event.external_id,
                    text="price",
                )
            )

    @rule(back=backs)
    def a_message_comes_again(self, back: int) -> None:
        if self.shop.seen:
            self.arrive(pick(self.shop.seen, back).event)

    @rule(back=backs, status=st.sampled_from([Status.SENT, Status.DELIVERED, Status.READ]))
    def a_phone_acknowledges(self, back: int, status: Status) -> None:
        if self.shop.phones.started:
            # It may be under way still: the receipt is quicker than the answer to the send.
            sent = pick(self.shop.phones.started, back)
            self.arrive(
                Receipt(
                    chat=Address(jid=sent.to),
                    external_ids=(sent.external_id,),
                    status=status,
                    at=self.shop.clock.now(),
                )
            )

    # -- what goes wrong --

    @rule(error=st.sampled_from([NotConnected, SendRefused, SendPostponed, SendUnconfirmed]))
    def the_next_send_fails(self, error: type[TransportError]) -> None:
        self.shop.phones.refuse = error("as the game wants it")

    @rule()
    def sends_take_their_time(self) -> None:
        self.shop.phones.block()

    @rule()
    def the_model_takes_its_time(self) -> None:
        self.shop.thinking.clear()

    @rule()
    def the_connection_goes(self) -> None:
        self.wait(self.shop.phones.suspend())

    @rule()
    def the_connection_comes_back(self) -> None:
        self.wait(self.shop.phones.resume())

    @rule()
    def the_daemon_is_killed(self) -> None:
        self.wait(self.shop.restart())

    @rule(who=people, pause=st.booleans())
    def another_process_changes_the_state(self, who: int, pause: bool) -> None:
        self.moved_state = True
        self.wait(self.by_sql(who, pause))

    # -- time --

    @rule(steps=st.integers(1, 30))
    def the_daemon_goes_on(self, steps: int) -> None:
        self.wait(self.shop.breathe(steps))

    @rule(seconds=st.sampled_from([1, 3, 15, 600, 3_700, 8_000]))
    def time_passes(self, seconds: int) -> None:
        self.wait(self.pass_time(seconds))

    @rule()
    def all_comes_to_rest(self) -> None:
        self.rest()

    def teardown(self) -> None:
        try:
            self.wait(self.shop.phones.resume())
            self.shop.phones.refuse = None
            self.wait(self.pass_time(1_200))
            self.rest()
            self.wait(self.pass_time(1_200))
            self.rest()
            self.wait(claims.assert_all_is_settled(self.database, self.shop.tenant))
            self.wait(claims.assert_people_are_one(self.database, self.shop.tenant, self.linked()))
        finally:
            self.wait(self.shop.crash())

    # -- how it is done --

    def say(self, who: int, form: str, text: str, *, late: int = 0, **changes: Any) -> None:
        chat = address(who, form)
        sender = OWNER if changes.get("from_me") else chat
        self.arrive(replace(self.message(chat, sender, text, late=late), **changes))

    def message(self, chat: Address, sender: Address, text: str, *, late: int = 0) -> InboundMessage:
        self.count += 1
        return InboundMessage(
            external_id=ExternalId(f"m{self.count}"), chat=chat, sender=sender, text=text,
            sent_at=self.shop.clock.now() - timedelta(seconds=late),
        )  # fmt: skip

    def arrive(self, event: InboundMessage | Receipt) -> None:
        if isinstance(event, InboundMessage) and event.text not in ("hello", "price"):
            self.moved_state = True
        self.wait(self.at_once(lambda: self.shop.phones.arrive(event)))

    @staticmethod
    async def at_once(call: Any) -> None:
        call()

    async def by_sql(self, who: int, pause: bool) -> None:
        """What a face or another process does: the store's state changes, and nobody tells this daemon."""
        world = self.shop.world
        for jid in (phone(who), lid(who)):
            if (chat_id := await world.outbox.chat_at(jid)) is not None:
                if not pause:
                    self.called_back.append((self.shop.next_order(), who))
                sql = PAUSE_BY_SQL if pause else RESUME_BY_SQL
                await self.database.execute(sql, world.tenant.tenant_id, chat_id, self.shop.clock.now())

    async def pass_time(self, seconds: int) -> None:
        await self.shop.clock.press_on(timedelta(seconds=seconds))
        await self.shop.scheduler.run_due()
        await self.shop.pipeline.outbox.take_up()

    def rest(self) -> None:
        self.wait(self.shop.settle())
        self.wait(claims.assert_all_is_decided(self.database, self.shop.tenant))
        self.wait(claims.assert_all_is_recorded(self.database, self.shop.tenant, self.shop.seen))
        self.wait(claims.assert_overlaps_are_told(self.database, self.shop.tenant, self.overlapped()))
        claims.assert_statuses_only_move_forward(self.shop.statuses)
        self.assert_nothing_is_answered_twice()
        self.no_send_was_wrong()
        self.silent = self.wait(claims.silent_addresses(self.database, self.shop.tenant))
        self.moved_state = False

    # -- what must hold of sends --

    @invariant()
    def no_send_was_wrong(self) -> None:
        assert self.wrong == []

    def judge(self, send: Send) -> None:
        """Called at the very start of a send; what is raised in there would be the daemon's to handle."""
        if send.ids:  # else it is a command's answer, or a notice: not fenced by a human's line
            try:
                self.check(send)
            except AssertionError as wrong:
                self.wrong.append(str(wrong))

    def check(self, send: Send) -> None:
        asked = [s for s in self.shop.seen if s.event.external_id in send.ids and not s.event.from_me]
        for human in self.humans(send.to):
            assert human.order < send.made, f"3: a human had spoken ({human}) when {send} started"
            for question in asked:
                assert human.order < question.order or human.event.sent_at < question.event.sent_at, (
                    f"3: {send} answers {question}, which was the human's to answer ({human})"
                )
        for human in self.humans(send.to):
            spoke = human.event.sent_at
            assert spoke + AFTER <= send.started_at or self.is_called_back(send.to, human), (
                f"3: {send} started {send.started_at - spoke} after a human spoke"
            )
        assert self.moved_state or send.to not in self.silent, f"3: the store was silent for {send.to}"
        before = [s for s in self.shop.sends if s is not send and s.to == send.to and s.left and s.ids]
        if before and self.was_linked(send.to, before[-1].made):
            assert self.first(send) > self.last(before[-1]), f"5: {send} comes after {before[-1]}"

    def is_called_back(self, to: Jid, human: Seen) -> bool:
        """Whether the bot was called back to the chat after this line: by another process, or by the owner, whose
        command counts from when it was written, too.
        """
        if any(order > human.order for order, who in self.called_back if to in (phone(who), lid(who))):
            return True
        resumes = (
            seen
            for seen in self.shop.seen
            if seen.event.from_me
            and seen.event.text == "/resume"
            and self.same_person(to, seen.event.chat.jid)
        )
        return any(seen.order > human.order or seen.event.sent_at > human.event.sent_at for seen in resumes)

    def humans(self, to: Jid) -> Iterator[Seen]:
        """The owner's lines in the chat with this address, as far as they could be known to be in it."""
        for seen in self.shop.seen:
            event = seen.event
            spoke = event.from_me and event.text == "it is me" and event.type is MessageType.TEXT
            known = self.same_person(to, event.chat.jid) and self.was_linked(to, seen.order)
            if spoke and not seen.repeated and (to in event.chat.jids or known):
                yield seen

    @staticmethod
    def same_person(one: Jid, other: Jid) -> bool:
        return any(one in (phone(who), lid(who)) and other in (phone(who), lid(who)) for who in range(3))

    def was_linked(self, jid: Jid, order: int) -> bool:
        """Whether an event had shown both addresses of this person before then."""
        return any(
            s.order < order and s.event.chat.alt is not None and jid in s.event.chat.jids
            for s in self.shop.seen
        )

    def linked(self) -> list[tuple[Jid, Jid]]:
        return [(phone(w), lid(w)) for w in range(3) if self.was_linked(phone(w), 1 << 62)]

    def overlapped(self) -> list[ExternalId]:
        return [
            s.external_id
            for s in self.shop.sends
            if s.ids and s.ended is not None and s.external_id is not None
            and any(s.order < h.order < s.ended for h in self.humans(s.to))
        ]  # fmt: skip

    def order_of(self, external_id: ExternalId) -> int:
        return next((s.order for s in self.shop.seen if s.event.external_id == external_id), 0)

    def first(self, send: Send) -> int:
        return min(map(self.order_of, send.ids))

    def last(self, send: Send) -> int:
        return max(map(self.order_of, send.ids))

    def assert_nothing_is_answered_twice(self) -> None:
        answered = [i for send in self.shop.sends if send.left for i in send.ids]
        assert len(answered) == len(set(answered)), f"2: answered twice: {sorted(answered)}"


def may_have_left(error: TransportError) -> bool:
    """Whether the phone may have it although the send has failed."""
    return isinstance(error, SendUnconfirmed)


@contextmanager
def playing(runner: asyncio.Runner, dsn: str) -> Iterator[type[Game]]:
    """One loop and one pool for all games; each has a tenant of its own."""
    database = runner.run(Database.open(dsn, max_size=8))
    try:
        yield type("PlayedGame", (Game,), {"runner": runner, "database": database})
    finally:
        runner.run(database.close())


@pytest.fixture
async def dsn(postgres: str, template: str) -> Any:
    async with fresh_database(postgres, template) as dsn:
        yield dsn


def test_the_invariants_hold_in_every_game(dsn: str) -> None:
    with asyncio.Runner() as runner, playing(runner, dsn) as game:
        run_state_machine_as_test(
            game,
            settings=settings(
                max_examples=GAMES or FEW, stateful_step_count=MOVES, deadline=None, derandomize=not GAMES,
                database=None, suppress_health_check=list(HealthCheck), print_blob=True,
            ),
        )  # fmt: skip
