"""Whatever people, phones, clocks and crashes do in whatever order, the invariants hold.

Hypothesis plays everybody; `shop.py` notes in which order the daemons saw what and started what, `judge.py` and
`claims.py` hold the invariants against it. `make prove-fast` plays the same few games each time, `make prove` new ones
with 100,000 moves in all. Numbers name invariants: 1 recorded first, 2 decided once, 3 never over the human, 5 in
order, 6 honest status.
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
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from bot.transports.base import (
    NotConnected,
    SendPostponed,
    SendRefused,
    SendUnconfirmed,
    TransportError,
    TransportEvent,
)
from storage.database import Database
from storage.models import (
    Address,
    ChatId,
    ExternalId,
    InboundMessage,
    MessageType,
    Outgoing,
    Receipt,
    Status,
    Unopened,
)
from storage.outbox import OutboxStore
from tests.conftest import connected, fresh_database
from tests.integration.store_world import OWNER, TEAM
from tests.proof import claims
from tests.proof.judge import EVERYBODY, Judge
from tests.proof.players import (
    ADMIN,
    BY_A_HUMAN,
    CALLING_BACK,
    CLEANING,
    CLOCK,
    FORMS,
    GROUP,
    PEOPLE,
    RECORDING,
    SILENCING,
    address,
    by_sql,
)
from tests.proof.shop import LINE, POLICY, Line, Shop

FEW = 30
GAMES = int(os.environ.get("SIDESTEP_PROVE_GAMES", "0"))
"""How many, new ones each time; 0: the same few."""
MOVES = 50

# Some of them more often, so that the bot is not silent most of the time.
COMMANDS = (
    "/pause", "/pause 1h", "/resume", "/resume", "/resume", "/exclude", "/include", "/include", "/reset", "/status",
)  # fmt: skip
T = TypeVar("T")


def unopened(said: InboundMessage) -> Unopened:
    """What a transport tells of a message that it could not open."""
    return Unopened(message=replace(said, type=MessageType.UNDECRYPTABLE, text=None, is_history=True))


def pick(items: Sequence[T], back: int) -> T:
    """One of the last. What is drawn may not depend on what happened: nobody can repeat PostgreSQL's pace."""
    return items[-1 - back % len(items)]


people = st.integers(0, 1)
chats = st.sampled_from([0, 0, 1, 1, GROUP])
backs = st.integers(0, 5)
words = st.sampled_from(["hello", "hello", "price", "price", "handoff"])
forms = st.sampled_from(FORMS)
seconds_typed = st.sampled_from([0, 1, 2, 3])
steps_taken = st.integers(0, 40)


class Game(RuleBasedStateMachine):
    """One shop, two customers and a group, the owner on two devices, an admin; daemons may crash, and take over."""

    runner: asyncio.Runner
    database: Database

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    @initialize(takeover_in_groups=st.booleans())
    def a_shop_opens(self, takeover_in_groups: bool) -> None:
        policy = replace(POLICY, takeover_in_groups=takeover_in_groups)
        self.shop = self.wait(Shop.open(self.database, policy, may_have_left))
        self.judge = Judge(self.shop)

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    # -- what people do --

    @rule(who=people, form=forms, text=words, late=st.sampled_from([0, 0, 0, 0, 90, 36_000]))
    def a_customer_writes(self, who: int, form: str, text: str, late: int) -> None:
        self.say(who, form, text, late=late)

    @rule(who=people, form=forms, text=words, steps=steps_taken)
    def a_customer_writes_and_waits_for_the_debounce(
        self, who: int, form: str, text: str, steps: int
    ) -> None:
        self.say(who, form, text)
        self.wait(self.shop.time.press_on(POLICY.debounce))
        self.wait(self.shop.breathe(steps))

    @rule(
        who=people, form=forms, text=words, pause=st.sampled_from([0, 1, 2, 3, 5]), steps=st.integers(0, 40)
    )
    def a_customer_writes_again_while_the_bot_types(
        self, who: int, form: str, text: str, pause: int, steps: int
    ) -> None:
        self.a_customer_writes_and_waits_for_the_debounce(who, form, text, steps)
        self.wait(self.shop.time.press_on(timedelta(seconds=pause)))
        self.say(who, form, text)

    @rule(who=people, form=forms, command=st.sampled_from(["/stop", "/start", "/start", "/human", "/help"]))
    def a_customer_commands(self, who: int, form: str, command: str) -> None:
        self.say(who, form, command)

    @rule(who=chats, form=forms, device=st.sampled_from([0, 7]), late=st.sampled_from([0, 0, 0, 300, 10_800]))
    def the_owner_writes(self, who: int, form: str, device: int, late: int) -> None:
        self.say(who, form, LINE, late=late, from_me=True, sender_device=device)

    @rule(who=people, form=forms, seconds=seconds_typed, steps=steps_taken, form_of_owner=forms)
    def the_owner_steps_in_while_the_bot_answers(
        self, who: int, form: str, seconds: int, steps: int, form_of_owner: str
    ) -> None:
        self.the_bot_answers(who, form, seconds, steps)
        self.the_owner_writes(who, form_of_owner, 0, 0)

    @rule(
        who=people, form=forms, late=st.sampled_from([0, 0, 0, 300]), follows=st.booleans(), steps=steps_taken
    )
    def the_owner_writes_what_cannot_be_read(
        self, who: int, form: str, late: int, follows: bool, steps: int, text: str = LINE
    ) -> None:
        """The platform tells at once that it was the owner; what was said it tells later, or never."""
        said = replace(self.message(address(who, form), OWNER, text, late=late), from_me=True)
        self.arrive(replace(said, type=MessageType.UNDECRYPTABLE, text=None))
        self.wait(self.shop.breathe(steps))
        if follows:
            self.arrive(said)

    @rule(who=people, form=forms, follows=st.booleans(), steps=steps_taken)
    def the_owner_commands_what_cannot_be_read(self, who: int, form: str, follows: bool, steps: int) -> None:
        self.the_owner_writes_what_cannot_be_read(who, form, 0, follows, steps, "/status")

    @rule(who=people, form=forms, text=words, follows=st.booleans(), steps=steps_taken)
    def a_customer_writes_what_cannot_be_read(
        self, who: int, form: str, text: str, follows: bool, steps: int
    ) -> None:
        chat = address(who, form)
        said = self.message(chat, chat, text)
        self.arrive(unopened(said))
        self.wait(self.shop.breathe(steps))
        if follows:
            self.arrive(said)

    @rule(who=people, form=forms, seconds=seconds_typed, steps=steps_taken, follows=st.booleans())
    def what_cannot_be_read_comes_while_the_bot_answers(
        self, who: int, form: str, seconds: int, steps: int, follows: bool
    ) -> None:
        self.the_bot_answers(who, form, seconds, steps)
        self.the_owner_writes_what_cannot_be_read(who, form, 0, follows, 0)

    @rule(who=chats, form=forms, command=st.sampled_from(COMMANDS))
    def the_owner_commands(self, who: int, form: str, command: str) -> None:
        self.say(who, form, command, from_me=True)

    @rule(command=st.sampled_from(["/global pause", "/global resume", "/global resume"]))
    def an_admin_commands(self, command: str) -> None:
        self.arrive(self.message(ADMIN, ADMIN, command))

    @rule(who=chats, form=forms)
    def everybody_calls_the_bot_back(self, who: int, form: str) -> None:
        """Or it would be silent for most of a game."""
        for command in ("/resume", "/include"):
            self.the_owner_commands(who, form, command)
        if who != GROUP:
            self.a_customer_commands(who, form, "/start")
        self.an_admin_commands("/global resume")

    # -- in a group --

    @rule(who=people, form=forms, text=words, to=st.sampled_from(["all", "us", "our message"]))
    def a_member_writes(self, who: int, form: str, text: str, to: str) -> None:
        """To the others, or to the bot: by a mention, or in reply to what it has said."""
        said = self.message(TEAM, address(who, form), text)
        self.arrive(replace(said, mentions_me=to == "us", reply_to_me=to == "our message"))

    @rule(
        who=people,
        form=forms,
        command=st.sampled_from(["/stop", "/human", "/help", "/pause"]),
        to=st.booleans(),
    )
    def a_member_commands(self, who: int, form: str, command: str, to: bool) -> None:
        self.arrive(replace(self.message(TEAM, address(who, form), command), mentions_me=to))

    @rule(who=people, form=forms, seconds=seconds_typed, steps=steps_taken)
    def a_human_speaks_in_the_group_while_the_bot_answers(
        self, who: int, form: str, seconds: int, steps: int
    ) -> None:
        """It steps aside where that is configured, and goes on elsewhere."""
        self.a_member_writes(who, form, "price", "us")
        self.wait(self.shop.time.press_on(POLICY.debounce))
        self.shop.time.jump(timedelta(seconds=seconds))
        self.wait(self.shop.breathe(steps))
        self.the_owner_writes(GROUP, form, 0, 0)

    # -- what phones do --

    @rule(back=backs, kind=st.sampled_from([MessageType.EDIT, MessageType.REVOKE, MessageType.REACTION]))
    def a_message_is_changed(self, back: int, kind: MessageType) -> None:
        if self.shop.seen:
            event = pick(self.shop.seen, back).event
            changed = ExternalId(f"c{self.next_count()}")
            self.arrive(
                replace(event, external_id=changed, type=kind, reply_to=event.external_id, text="price")
            )

    @rule(back=backs)
    def a_message_comes_again(self, back: int) -> None:
        if self.shop.seen:
            self.arrive(pick(self.shop.seen, back).event)

    @rule(back=backs, status=st.sampled_from([Status.SENT, Status.DELIVERED, Status.READ]))
    def a_phone_acknowledges(self, back: int, status: Status) -> None:
        if self.shop.started:
            # It may be under way still: the receipt is quicker than the answer to the send.
            sent = pick(self.shop.started, back)
            chat, at = Address(jid=sent.to), self.shop.time.now()
            self.arrive(Receipt(chat=chat, external_ids=(sent.external_id,), status=status, at=at))

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

    @rule(another=st.booleans())
    def the_daemon_is_killed(self, another: bool) -> None:
        """It starts again, or one that stands by takes over."""
        self.wait(self.shop.restart(by_another=another))

    @rule(frozen=st.booleans())
    def another_daemon_takes_over(self, frozen: bool) -> None:
        """The first is silent for longer than its lease lasts, and is not told that it has lost the account."""
        self.wait(self.shop.take_over(frozen=frozen))

    @rule(who=people, form=forms, seconds=seconds_typed, steps=steps_taken, human=st.booleans())
    def the_daemon_freezes_while_the_bot_answers(
        self, who: int, form: str, seconds: int, steps: int, human: bool
    ) -> None:
        """Another takes over, and may see the owner step in, before the first goes on where it stood."""
        self.the_bot_answers(who, form, seconds, steps)
        self.wait(self.shop.take_over(frozen=True))
        if human:
            self.the_owner_writes(who, form, 0, 0)
            self.wait(self.shop.breathe(40))
        self.who_was_lost_goes_on()

    @rule()
    def who_was_lost_goes_on(self) -> None:
        """It thaws, and believes that the account is its own."""
        for daemon in self.shop.lost:
            daemon.go_on()
        self.wait(self.shop.breathe(40))

    @rule()
    def who_was_lost_finds_out(self) -> None:
        for daemon in self.shop.lost:
            self.wait(daemon.look())

    # -- by SQL: no daemon is told --

    @rule(who=chats, how=st.sampled_from(sorted(SILENCING)))
    def somebody_silences_by_sql(self, who: int, how: str) -> None:
        if how == BY_A_HUMAN and who == GROUP:
            how = "whaply"  # what a human does in a group is another rule's
        self.judge.moved_state = True
        begun = self.shop.next_order()
        if self.by_sql(who, SILENCING[how]) == "UPDATE 0":
            return
        if how == "processor, all":
            self.judge.all_silenced(True)
        else:
            self.judge.cut_off(EVERYBODY if how == "threads" else who, begun)
        if how == BY_A_HUMAN:
            self.wait(self.a_line_is_in_the_store(who))

    @rule(
        who=people,
        form=forms,
        seconds=seconds_typed,
        steps=steps_taken,
        how=st.sampled_from(sorted(SILENCING)),
    )
    def somebody_silences_by_sql_while_the_bot_answers(
        self, who: int, form: str, seconds: int, steps: int, how: str
    ) -> None:
        self.the_bot_answers(who, form, seconds, steps)
        self.somebody_silences_by_sql(who, how)

    @rule(who=chats, how=st.sampled_from(sorted(CALLING_BACK)))
    def somebody_calls_back_by_sql(self, who: int, how: str) -> None:
        self.judge.moved_state = True
        if how == "processor, all":
            self.judge.all_silenced(False)
        else:
            self.judge.called_back(who)
        self.by_sql(who, CALLING_BACK[how])

    @rule(who=people)
    def a_person_speaks_by_a_program(self, who: int) -> None:
        """As `send_and_log(…, by_human=True)`: it goes out by the daemon, which finds it queued."""
        self.wait(self.speak(who))

    @rule(who=chats, from_me=st.booleans())
    def somebody_records_by_sql(self, who: int, from_me: bool) -> None:
        """A record takes nothing over, and nobody answers it."""
        self.by_sql(who, RECORDING, f"s{self.next_count()}", from_me)

    @rule()
    def somebody_ends_idle_pauses_by_sql(self) -> None:
        self.judge.moved_state = True
        self.by_sql(GROUP, CLEANING)

    # -- time --

    @rule(steps=st.integers(1, 30))
    def the_daemon_goes_on(self, steps: int) -> None:
        self.wait(self.shop.breathe(steps))

    @rule(seconds=st.sampled_from([1, 3, 15, 600, 3_700, 8_000]))
    def time_passes(self, seconds: int) -> None:
        self.wait(self.shop.pass_time(timedelta(seconds=seconds)))

    @rule()
    def all_comes_to_rest(self) -> None:
        self.wait(self.shop.settle())
        self.wait(self.hold_the_claims())

    def teardown(self) -> None:
        try:
            for _ in range(2):
                self.wait(self.shop.phones.resume())
                self.shop.phones.refuse = None
                self.wait(self.shop.pass_time(timedelta(seconds=1_200)))
                self.all_comes_to_rest()
            self.wait(claims.assert_all_is_settled(self.database, self.shop.tenant))
            self.wait(claims.assert_people_are_one(self.database, self.shop.tenant, self.judge.linked()))
        finally:
            self.wait(self.shop.close())

    # -- how it is done --

    def the_bot_answers(self, who: int, form: str, seconds: int, steps: int) -> None:
        """It may speak, has been asked, and is so far with its answer: making it, typing, claiming or sending it."""
        if not self.wait(claims.may_speak(self.database, self.shop.tenant, PEOPLE[who])):
            self.everybody_calls_the_bot_back(who, form)
            self.all_comes_to_rest()
        self.a_customer_writes_and_waits_for_the_debounce(who, form, "price", 0)
        self.shop.time.jump(timedelta(seconds=seconds))
        self.wait(self.shop.breathe(steps))

    def say(self, who: int, form: str, text: str, *, late: int = 0, **changes: Any) -> None:
        chat = address(who, form)
        sender = OWNER if changes.get("from_me") else chat
        self.arrive(replace(self.message(chat, sender, text, late=late), **changes))

    def message(self, chat: Address, sender: Address, text: str, *, late: int = 0) -> InboundMessage:
        return InboundMessage(
            external_id=ExternalId(f"m{self.next_count()}"), chat=chat, sender=sender, text=text,
            is_group=chat == TEAM, sent_at=self.shop.time.now() - timedelta(seconds=late),
        )  # fmt: skip

    def next_count(self) -> int:
        self.count += 1
        return self.count

    def arrive(self, event: TransportEvent) -> None:
        if not isinstance(event, InboundMessage) or event.text not in ("hello", "price"):
            self.judge.moved_state = True

        async def at_once() -> None:
            self.shop.phones.arrive(event)

        self.wait(at_once())

    def by_sql(self, who: int, sql: str, *more: object) -> str:
        now = self.shop.time.now()
        return self.wait(by_sql(self.database, self.shop.tenant, now, sql, who, *more))

    async def speak(self, who: int) -> None:
        store, now = OutboxStore(self.database, self.shop.account), self.shop.time.now()
        for jid in PEOPLE[who]:
            if (chat_id := await store.chat_at(jid)) is not None:
                self.judge.moved_state = True
                # What was asked for is known by its text.
                await store.speak(chat_id, Outgoing(text=f"it is me, at a desk {self.next_count()}"), now)
                await self.a_line_is_in_the_store(who, chat_id)
                return

    async def a_line_is_in_the_store(self, who: int, where: ChatId | None = None) -> None:
        """In that chat, or in all of somebody's: an address that nobody has heard of yet has none."""
        store, order = OutboxStore(self.database, self.shop.account), self.shop.next_order()
        for jid in PEOPLE[who]:
            chat_id = await store.chat_at(jid)
            if chat_id is not None and where in (None, chat_id):
                chat, now = Address(jid=jid), self.shop.time.now()
                self.shop.lines.append(Line(order=order, by=None, chat=chat, at=now, known=order))

    async def hold_the_claims(self) -> None:
        database, shop, judge = self.database, self.shop, self.judge
        await claims.assert_all_is_decided(database, shop.tenant)
        await claims.assert_all_is_recorded(database, shop.tenant, shop.seen)
        await claims.assert_the_faces_show_it(database, shop.tenant, shop.seen)
        await claims.assert_groups_are_left_alone(
            database, shop.tenant, takes_over=shop.policy.takeover_in_groups
        )
        await claims.assert_overlaps_are_told(database, shop.tenant, judge.overlapped())
        claims.assert_statuses_only_move_forward(shop.statuses)
        judge.assert_nothing_is_answered_twice()
        judge.assert_each_pause_ended_once()
        judge.assert_nothing_was_wrong()
        judge.rests(await claims.silent_addresses(database, shop.tenant), is_over=not shop.phones.is_waiting)

    @invariant()
    def no_send_was_wrong(self) -> None:
        self.judge.assert_nothing_was_wrong()


def may_have_left(error: TransportError) -> bool:
    """Whether the phone may have it although the send has failed."""
    return isinstance(error, SendUnconfirmed)


@contextmanager
def playing(runner: asyncio.Runner, dsn: str) -> Iterator[type[Game]]:
    """One loop and one pool for all games; each has a tenant of its own."""
    database = runner.run(Database.open(dsn, max_size=10))
    try:
        yield type("PlayedGame", (Game,), {"runner": runner, "database": database})
    finally:
        runner.run(database.close())


@pytest.fixture
async def dsn(postgres: str, template: str) -> Any:
    async with fresh_database(postgres, template) as dsn:
        async with connected(dsn) as connection:
            await connection.execute(CLOCK)
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
