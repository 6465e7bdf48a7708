"""The outbox: recorded first, claimed last, never over a human, each thing once, and its fate told honestly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest
from structlog.testing import capture_logs

from bot.clock import Clock, SystemClock, VirtualClock
from bot.events import Event, Events, Said, StatusMoved
from bot.marks import HumanMarks, Mark
from bot.outbox import Outbox
from bot.policy import Policy
from bot.transports.base import Content, NotConnected, SendRefused, SendUnconfirmed, Sent, TransportError
from bot.transports.memory import MemoryTransport
from storage.database import Database
from storage.models import (
    Address,
    ChatId,
    Claim,
    Due,
    ExternalId,
    Jid,
    MessageId,
    MessageType,
    Outgoing,
    Status,
    StatusChange,
)
from storage.outbox import OutboxStore
from tests.conftest import until
from tests.integration.path_world import Path
from tests.integration.store_world import ANA, BEN, LONG_AGO, NOW, World, leased, said, typed

SECOND = timedelta(seconds=1)
POLICY = Policy(typing_speed=10.0, max_age=timedelta(hours=6))


class Watched(OutboxStore):
    """The real store; what is to happen right after a claim's commit, or a mark's, happens there."""

    after_claim: Callable[[], Awaitable[None] | None] | None = None
    after_mark: Callable[[Due], None] | None = None
    steps: list[str]

    async def claim(self, due: Due, now: datetime, oldest: datetime) -> Claim:
        self.steps.append("claim")
        claim = await super().claim(due, now, oldest)
        if self.after_claim is not None and (more := self.after_claim()) is not None:
            await more
        return claim

    async def mark_sent(
        self, due: Due, external_id: ExternalId, at: datetime, *, overlapped: bool
    ) -> Status | None:
        status = await super().mark_sent(due, external_id, at, overlapped=overlapped)
        if self.after_mark is not None:
            self.after_mark(due)
        return status


class Phone(MemoryTransport):
    """The memory transport; it tells what is asked of it, and can break in a way that nobody has foreseen."""

    steps: list[str]
    breaks: str = ""

    async def prepare(self, content: Content) -> Content:
        self.steps.append("prepare")
        if self.breaks == "prepare":
            raise RuntimeError("unforeseen")
        if self.breaks == "upload":
            raise NotConnected("the media server does not answer")
        return await super().prepare(content)

    async def set_typing(self, to: Jid, typing: bool) -> None:
        if self.breaks == "typing" and typing:
            raise RuntimeError("unforeseen")
        self.steps.append("typing" if typing else "not typing")
        await super().set_typing(to, typing)

    async def send(self, to: Jid, prepared: object) -> Sent:
        self.steps.append("send")
        if self.breaks == "send":
            raise RuntimeError("unforeseen")
        return await super().send(to, prepared)


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """An outbox with everything around it."""

    world: World
    clock: Clock
    store: Watched
    transport: Phone
    marks: HumanMarks
    outbox: Outbox
    told: list[Event]
    emptied: list[ChatId]
    steps: list[str]

    @classmethod
    async def open(cls, db: Database, clock: Clock) -> Post:
        world = await World.open(db)
        await world.record(said("M1"), said("B1", by=BEN))
        told, emptied, steps, events = list[Event](), list[ChatId](), list[str](), Events()
        events.listen(told.append)
        store, transport, marks = Watched(db, world.account, world.lease), Phone(clock.now), HumanMarks()
        store.steps = transport.steps = steps
        outbox = Outbox(store, transport, marks, clock, POLICY, events, emptied.append)
        return cls(
            world=world, clock=clock, store=store, transport=transport, marks=marks, outbox=outbox,
            told=told, emptied=emptied, steps=steps,
        )  # fmt: skip

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.transport.run(lambda event: None))
        await until(self.can_send)
        try:
            yield
        finally:
            await self.outbox.close()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def can_send(self) -> bool:
        return self.transport.connection.can_send

    async def send(self, text: str = "from 10 to 50", to: Address = ANA, **changes: object) -> MessageId:
        outgoing = replace(Outgoing(text=text), **changes)  # type: ignore[arg-type]  # the caller names fields
        return await self.outbox.send_and_log(await self.world.meet(to), outgoing)

    async def settle(self) -> None:
        assert isinstance(self.clock, VirtualClock)
        await self.clock.settle()

    def statuses(self, message_id: MessageId) -> list[Status]:
        return [e.status for e in self.told if isinstance(e, StatusMoved) and e.id == message_id]

    @property
    def texts(self) -> list[str]:
        return [m.content.text for m in self.transport.sent]


@pytest.fixture
async def post(db: Database) -> AsyncIterator[Post]:
    post = await Post.open(db, VirtualClock(NOW))
    async with post.connected():
        yield post


async def test_the_steps_come_in_this_order(post: Post) -> None:
    message_id = await post.send()
    assert (await post.world.status(message_id)) is Status.QUEUED
    await post.settle()
    assert post.steps == ["prepare", "typing", "claim", "send"]
    assert post.clock.now() == NOW + 1.3 * SECOND
    assert post.texts == ["from 10 to 50"]
    row = await post.world.row(message_id)
    assert (row["status"], row["external_id"]) == ("sent", post.transport.sent[0].external_id)
    assert post.statuses(message_id) == [Status.SENT]
    assert [type(e) for e in post.told] == [Said, StatusMoved]
    assert post.emptied == [await post.world.meet()]


async def test_a_human_seen_between_the_claim_and_the_send_is_not_spoken_over(post: Post) -> None:
    """Nothing of it is stored yet: the mark alone stops the send."""
    message_id, mark, going_on = await seen_after_the_claim(post)
    assert post.transport.started == []
    assert post.steps == ["prepare", "typing", "claim", "not typing"]
    await post.world.record(typed("H1"))
    post.marks.settle(mark)
    await going_on
    assert post.transport.started == []
    row = await post.world.row(message_id)
    assert (row["status"], row["error"]) == ("cancelled", "a human took over")


async def test_what_was_seen_after_the_claim_and_turns_out_to_be_no_human_only_delays_the_send(
    post: Post,
) -> None:
    message_id, mark, going_on = await seen_after_the_claim(post)
    assert post.transport.started == []
    post.marks.withdraw(mark)
    await going_on
    assert len(post.transport.sent) == 1
    row = await post.world.row(message_id)
    assert (row["status"], row["overlapped"]) == ("sent", False)


async def test_a_claim_that_a_frozen_daemon_hears_of_after_it_was_replaced_sends_nothing(post: Post) -> None:
    """Its successor may have seen the owner step in, of whom this one's marks know nothing."""

    async def freeze() -> None:
        stop(post, 6 * SECOND)
        await leased(post.world.db, post.world.account)
        await post.world.outbox.abandon(post.clock.now() + timedelta(days=1))
        await post.world.record(typed("H1"))

    post.store.after_claim = freeze
    message_id = await post.send()
    await post.settle()
    assert post.transport.started == []
    assert await post.world.status(message_id) is Status.UNKNOWN


async def test_a_delivery_that_is_ended_before_its_first_step_is_no_longer_at_work(post: Post) -> None:
    chat_id = await post.world.meet()
    post.outbox.wake(chat_id)
    post.outbox.hasten(chat_id, MessageId(1))
    await post.outbox.close()
    assert post.clock.work.is_idle


async def test_one_that_was_frozen_and_not_replaced_claims_anew(post: Post) -> None:
    async def freeze() -> None:
        post.store.after_claim = None
        stop(post, 6 * SECOND)

    post.store.after_claim = freeze
    message_id = await post.send()
    await post.settle()
    assert post.steps.count("claim") == 2
    assert await post.world.status(message_id) is Status.SENT


def stop(post: Post, duration: timedelta) -> None:
    """As by SIGSTOP, until SIGCONT."""
    assert isinstance(post.clock, VirtualClock)
    post.clock.jump(duration)


async def seen_after_the_claim(post: Post) -> tuple[MessageId, Mark, asyncio.Task[None]]:
    """Send, and see what may be a human once it is claimed; returns when the send has been put off, and goes on."""
    marks: list[Mark] = []

    def see() -> None:
        if not marks:
            marks.append(post.marks.put((ANA.jid,)))

    post.store.after_claim = see
    message_id = await post.send()
    going_on = asyncio.create_task(post.settle())

    async def is_put_off() -> bool:
        row = await post.world.row(message_id)
        return (row["status"], row["error"]) == ("queued", "a human is writing")

    await until(is_put_off, 60)
    return message_id, marks[0], going_on


async def test_a_human_seen_before_the_claim_and_not_stored_yet_is_not_spoken_over(post: Post) -> None:
    mark = post.marks.put((ANA.jid,))
    message_id = await post.send()
    await post.world.record(typed("H1"))
    post.marks.settle(mark)
    await post.settle()
    assert post.transport.started == []
    assert "typing" not in post.steps
    assert await post.world.status(message_id) is Status.CANCELLED


async def test_a_receipt_that_is_heard_of_before_the_send_s_commit_is_told_after_it(post: Post) -> None:
    def receive(due: Due) -> None:
        received = StatusChange(chat_id=due.chat_id, id=due.id, external_id=None, status=Status.DELIVERED)
        post.outbox.moved([received])

    post.store.after_mark = receive
    message_id = await post.send()
    await post.settle()
    assert post.statuses(message_id) == [Status.SENT, Status.DELIVERED]


async def test_a_claim_that_is_heard_of_after_the_human_s_commit_sends_nothing(post: Post) -> None:
    """Granted before that commit, told after it: neither the epoch nor a line that is not stored yet says a word."""
    message_id = await post.send()
    assert isinstance(post.clock, VirtualClock)
    await post.clock.advance(SECOND)
    mark = post.marks.put((ANA.jid,))

    async def commit() -> None:
        post.store.after_claim = None
        await post.world.record(typed("H1"))
        post.marks.settle(mark)

    post.store.after_claim = commit
    await post.settle()
    assert post.transport.started == []
    assert await post.world.status(message_id) is Status.CANCELLED


async def test_a_human_stored_while_the_bot_types_is_not_spoken_over(post: Post) -> None:
    message_id = await post.send()
    assert isinstance(post.clock, VirtualClock)
    await post.clock.advance(SECOND)
    assert post.transport.typing == {ANA.jid}
    await post.world.record(typed("H1"))
    await post.settle()
    assert post.transport.started == []
    assert post.transport.typing == set()
    assert await post.world.status(message_id) is Status.CANCELLED


async def test_what_is_not_fenced_goes_out_beside_a_human(post: Post) -> None:
    await post.world.record(typed("H1"))
    post.marks.put((ANA.jid,))
    message_id = await post.send("for the owner", fenced=False)
    await post.settle()
    assert post.texts == ["for the owner"]
    assert "typing" not in post.steps
    assert not (await post.world.row(message_id))["overlapped"]


async def test_a_fenced_message_to_a_paused_chat_is_dropped(post: Post) -> None:
    await post.world.pause(await post.world.meet())
    message_id = await post.send()
    await post.settle()
    assert post.transport.started == []
    assert await post.world.status(message_id) is Status.CANCELLED


async def test_a_send_that_had_started_when_the_human_spoke_is_recorded_as_overlapped(post: Post) -> None:
    post.transport.block()
    message_id = await post.send()
    settling = asyncio.create_task(post.settle())
    await until(lambda: started(post, 1))
    post.marks.settle(post.marks.put((ANA.jid,)))
    await post.world.record(typed("H1"))
    post.transport.unblock()
    await settling
    row = await post.world.row(message_id)
    assert (row["status"], row["overlapped"]) == ("sent", True)


async def test_what_was_sent_before_the_human_spoke_did_not_overlap(post: Post) -> None:
    message_id = await post.send()
    await post.settle()
    post.marks.put((ANA.jid,))
    assert not (await post.world.row(message_id))["overlapped"]


async def started(post: Post, number: int) -> bool:
    return len(post.transport.started) == number


async def test_without_a_connection_it_waits_untyped_and_unclaimed_and_goes_out_once_later(
    post: Post,
) -> None:
    await post.transport.suspend()
    message_id = await post.send()
    await post.settle()
    assert post.steps == []
    row = await post.world.row(message_id)
    assert (row["status"], row["attempts"], row["due_at"]) == ("queued", 0, NOW + 2 * SECOND)
    await post.transport.resume()
    post.outbox.wake(await post.world.meet())
    await post.settle()
    assert post.texts == []
    await later(post, 2 * SECOND)
    assert post.texts == ["from 10 to 50"]
    assert await post.world.status(message_id) is Status.SENT


async def later(post: Post, duration: timedelta) -> None:
    """Time passes, and the outbox looks."""
    assert isinstance(post.clock, VirtualClock)
    await post.clock.advance(duration)
    post.outbox.wake(await post.world.meet())
    await post.settle()


async def test_a_connection_that_is_lost_again_and_again_is_asked_less_and_less_often(post: Post) -> None:
    message_id = await post.send()
    post.transport.refuse = NotConnected("gone")
    await post.settle()
    waits = []
    for _ in range(8):
        row = await post.world.row(message_id)
        assert row["status"] == "queued"
        waits.append((row["due_at"] - post.clock.now()).total_seconds())
        post.transport.refuse = NotConnected("gone")
        await later(post, row["due_at"] - post.clock.now())
    assert waits == [2, 4, 8, 16, 32, 64, 120, 120]
    post.transport.refuse = None
    await later(post, timedelta(minutes=2))
    assert post.texts == ["from 10 to 50"]
    assert await post.world.status(message_id) is Status.SENT


@pytest.mark.parametrize(
    ("error", "status"),
    [(SendRefused("no", code=463), Status.FAILED), (SendUnconfirmed("no answer"), Status.UNKNOWN)],
)
async def test_a_refused_send_has_failed_and_an_unconfirmed_one_is_unknown_and_neither_is_repeated(
    post: Post, error: TransportError, status: Status
) -> None:
    post.transport.refuse = error
    message_id = await post.send()
    await post.settle()
    row = await post.world.row(message_id)
    assert (row["status"], row["error"], row["due_at"]) == (status, str(error), None)
    assert post.statuses(message_id) == [status]
    await later(post, timedelta(hours=1))
    assert len(post.transport.started) == 1
    await post.send("next")
    await post.settle()
    assert post.texts == ["next"]


@pytest.mark.parametrize(("breaks", "status"), [("prepare", Status.FAILED), ("send", Status.UNKNOWN)])
async def test_what_nobody_has_foreseen_does_not_hold_up_the_chat(
    post: Post, breaks: str, status: Status
) -> None:
    post.transport.breaks = breaks
    with capture_logs() as logs:
        message_id = await post.send()
        await post.settle()
    assert f"{breaks}_failed" in [e["event"] for e in logs]
    assert await post.world.status(message_id) is status
    post.transport.breaks = ""
    await post.send("next")
    await post.settle()
    assert post.texts == ["next"]


async def test_a_medium_that_cannot_be_prepared_has_failed_before_any_claim(post: Post) -> None:
    message_id = await post.send(media_url="file:///etc/passwd")
    await post.settle()
    row = await post.world.row(message_id)
    assert (row["status"], row["attempts"]) == ("failed", 0)
    assert post.steps == ["prepare"]


async def test_what_has_become_too_old_is_not_sent(post: Post) -> None:
    await post.transport.suspend()
    message_id = await post.send()
    await post.settle()
    await post.transport.resume()
    await later(post, timedelta(hours=7))
    assert post.transport.started == []
    assert (await post.world.row(message_id))["error"] == "too old to be of use"


async def test_fifty_replies_of_a_chat_go_out_in_order(post: Post) -> None:
    wanted = [f"{n}" for n in range(50)]
    for text in wanted:
        await post.send(text)
    await post.settle()
    assert post.texts == wanted
    assert post.emptied == [await post.world.meet()]


async def test_of_two_chats_one_does_not_wait_while_the_other_is_typed_to(post: Post) -> None:
    await post.send("x" * 50)
    await post.send("short", BEN)
    await post.settle()
    assert post.texts == ["short", "x" * 50]
    assert post.clock.now() == NOW + 5 * SECOND


async def test_the_account_sends_one_at_a_time_and_who_waits_is_not_claimed_yet(post: Post) -> None:
    post.transport.block()
    await post.send("short")
    waiting = await post.send("a little longer", BEN)
    settling = asyncio.create_task(post.settle())
    await until(lambda: started(post, 1))
    await until(lambda: typing(post, BEN))
    assert await post.world.status(waiting) is Status.QUEUED
    await post.world.record(typed("H1", to=BEN))
    post.transport.unblock()
    await settling
    assert post.texts == ["short"]
    assert await post.world.status(waiting) is Status.CANCELLED


async def test_what_is_held_back_is_typed_and_not_claimed_and_goes_out_when_it_is_let_go(post: Post) -> None:
    chat_id = await post.world.meet()
    message_id = await post.send()
    assert post.outbox.holds.hold_back(chat_id, [message_id])
    await post.settle()  # a reply that is held back is not work
    await later(post, timedelta(minutes=1))
    assert "claim" not in post.steps
    assert await post.world.status(message_id) is Status.QUEUED
    await post.send("to somebody else", BEN)
    await post.settle()
    assert post.texts == ["to somebody else"]
    post.outbox.holds.let_go(chat_id)
    await post.settle()
    assert post.texts == ["to somebody else", "from 10 to 50"]


async def test_a_hold_reaches_a_reply_until_its_claim_has_begun(post: Post) -> None:
    chat_id = await post.world.meet()
    message_id = await post.send()
    assert isinstance(post.clock, VirtualClock)
    await post.clock.advance(SECOND)
    assert post.transport.typing
    assert post.outbox.holds.hold_back(chat_id, [message_id])
    await post.settle()
    assert post.steps == ["prepare", "typing", "not typing"]
    held: list[bool] = []
    post.store.after_claim = lambda: held.append(post.outbox.holds.hold_back(chat_id, [message_id]))
    post.outbox.holds.let_go(chat_id)
    await post.settle()
    assert held == [False]
    assert post.texts == ["from 10 to 50"]


async def test_replies_of_which_one_has_left_are_not_held_back(post: Post) -> None:
    chat_id = await post.world.meet()
    replies = [await post.send(text) for text in ("one", "two")]
    assert isinstance(post.clock, VirtualClock)
    await post.clock.advance(SECOND / 2)
    assert post.texts == ["one"]
    assert not post.outbox.holds.hold_back(chat_id, replies)
    await post.settle()
    assert post.texts == ["one", "two"]


async def typing(post: Post, to: Address) -> bool:
    return to.jid in post.transport.typing


async def test_a_job_s_message_keeps_its_text_medium_metadata_and_what_it_answers(post: Post) -> None:
    chat_id = await post.world.meet()
    [answered, *_] = await post.world.messages.undecided(post.world.account)
    outgoing = Outgoing(
        text="the menu",
        type=MessageType.DOCUMENT,
        media_url="https://example.com/menu.pdf",
        metadata={"job": 7},
    )
    message_id = await post.outbox.send_and_log(chat_id, outgoing, answers=[answered.id])
    await post.settle()
    [sent] = post.transport.sent
    assert sent.content == Content(
        text="the menu", media_url="https://example.com/menu.pdf", media_type=MessageType.DOCUMENT
    )
    assert sent.to == ANA.jid
    [*_, stored] = await post.world.messages.history(post.world.tenant.tenant_id, chat_id, 5)
    assert (stored.id, stored.metadata, stored.type) == (message_id, {"job": 7}, MessageType.DOCUMENT)
    assert (await post.world.row(message_id))["answers"] == [answered.id]


async def test_a_voice_note_is_asked_for_as_one(post: Post) -> None:
    await post.send("", media_url="https://example.com/hello.ogg", metadata={"voice": True})
    await post.settle()
    assert post.transport.sent[0].content == Content(media_url="https://example.com/hello.ogg", voice=True)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://example.com/hello.ogg?x=1", "audio"),
        ("https://example.com/a.JPG", "image"),
        ("https://example.com/menu", "document"),
    ],
)
async def test_a_medium_of_ours_is_known_by_its_address_and_stays_there(
    post: Post, url: str, kind: str
) -> None:
    post.transport.breaks = "send"
    message_id = await post.send("", media_url=url)
    await post.settle()
    row = await post.world.db.fetchrow("SELECT * FROM sidestep.media_files")
    assert row is not None
    assert (row["message_id"], row["type"], row["status"]) == (message_id, kind, "stored")
    assert (row["url"], row["moved_url"], row["sha256"]) == (url, None, None)


async def test_a_medium_that_cannot_be_uploaded_is_tried_less_often_and_in_the_end_given_up(
    post: Post,
) -> None:
    """The connection is there all the while, so that nothing else would ever give it up."""
    post.transport.breaks = "upload"
    message_id = await post.send("", media_url="https://example.com/hello.ogg")
    await post.settle()
    waits = []
    while (row := await post.world.row(message_id))["status"] == "queued":
        waits.append((row["due_at"] - post.clock.now()).total_seconds())
        await later(post, row["due_at"] - post.clock.now())
    assert waits[:9] == [2, 2, 4, 8, 16, 32, 64, 120, 120]
    assert sum(waits) == pytest.approx(POLICY.max_age.total_seconds(), abs=120)
    assert (row["status"], row["error"]) == ("failed", "the media server does not answer")
    assert post.transport.started == []


async def test_a_message_to_a_chat_that_is_not_there_is_a_lookup_error_and_leaves_nothing(post: Post) -> None:
    for fenced in (True, False):
        with pytest.raises(LookupError):
            await post.outbox.send_and_log(ChatId(999), Outgoing(text="x", fenced=fenced))
    assert await post.world.count("outbox") == 0


async def test_what_was_being_sent_when_the_daemon_ended_is_unknown_and_not_sent_again(post: Post) -> None:
    chat_id = await post.world.meet()
    message_id = await post.world.queue(chat_id)
    await post.world.outbox.claim(await post.world.due(chat_id), NOW, LONG_AGO)
    await post.outbox.recover()
    assert await post.world.status(message_id) is Status.UNKNOWN
    assert post.statuses(message_id) == [Status.UNKNOWN]
    post.outbox.wake(chat_id)
    await post.settle()
    assert post.transport.started == []


async def test_a_send_cut_off_by_the_end_of_the_daemon_is_unknown_at_the_next_start(post: Post) -> None:
    post.transport.block()
    message_id = await post.send()
    settling = asyncio.create_task(post.settle())
    await until(lambda: started(post, 1))
    await post.outbox.close()
    await settling
    assert await post.world.status(message_id) is Status.SENDING
    await post.outbox.recover()
    assert await post.world.status(message_id) is Status.UNKNOWN
    assert post.clock.work.is_idle


async def test_what_another_process_has_queued_goes_out_within_about_a_second(db: Database) -> None:
    post = await Post.open(db, SystemClock())
    async with post.connected():
        task = asyncio.create_task(post.outbox.run())
        await asyncio.sleep(0)
        begun = asyncio.get_running_loop().time()
        await post.world.queue(await post.world.meet(), "x", now=post.clock.now())
        await until(lambda: sent(post, 1))
        assert asyncio.get_running_loop().time() - begun < 3
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def sent(post: Post, number: int) -> bool:
    return len(post.transport.sent) == number


MOMENTS: list[Callable[[Path, int], bool]] = [
    lambda path, before: True,
    lambda path, before: bool(path.transport.typing),
    lambda path, before: len(path.transport.started) > before,
]


async def test_in_three_hundred_races_no_send_starts_after_the_human_was_seen(db: Database) -> None:
    """The whole path: the owner's line is seen at every possible moment of an answer's way out."""
    world = await World.open(db)
    path = Path.build(db, world)
    too_late = 0
    async with path.running():
        for n in range(300):
            chat = Address(jid=Jid(f"55112{n:08}@s.whatsapp.net"))
            before = len(path.transport.started)
            path.see(said(f"M{n}", "price?", by=chat))
            settling = asyncio.create_task(path.settle())
            await reached(MOMENTS[n % 3], path, before)
            for _ in range(n):
                await asyncio.sleep(0)
            path.see(typed(f"H{n}", to=chat))
            started = len(path.transport.started)
            await settling
            await path.settle()
            assert len(path.transport.started) == started
            too_late += started - before
    # The human was sometimes first and sometimes not: it was a race.
    assert 100 <= too_late < 300


async def reached(moment: Callable[[Path, int], bool], path: Path, before: int) -> None:
    """Look at every turn of the loop: a virtual clock makes typing as short as a claim."""
    async with asyncio.timeout(60):
        while not moment(path, before):  # noqa: ASYNC110  a moment between two steps of the loop has no event
            await asyncio.sleep(0)


async def test_what_cannot_be_handled_at_all_has_failed_after_three_tries(post: Post) -> None:
    async with post.connected():
        post.transport.breaks = "typing"
        poison = await post.send("poison")
        await post.settle()
        for _ in range(2):
            assert await post.world.status(poison) is Status.QUEUED
            await post.outbox.take_up()
            await post.settle()
        row = await post.world.row(poison)
        assert (row["status"], row["error"]) == ("failed", "could not be handled: RuntimeError")
        post.transport.breaks = ""
        assert await post.world.status(await post.send("next")) is Status.QUEUED
        await post.settle()
        assert [m.content.text for m in post.transport.sent] == ["next"]
