"""Lists of messages and chats: what stands on them, in which order, and how they are paged."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest

from storage.database import Database
from storage.models import (
    Author,
    ChatId,
    ContactId,
    ExternalId,
    MessageId,
    MessageType,
    PauseReason,
    Status,
    ThreadId,
)
from storage.reading.models import Entry, Page
from storage.reading.reads import Reads
from tests.integration.store_world import AFTER, ANA, BEN, LONG_AGO, NOW, TEAM, World, said, typed

MINUTE = timedelta(minutes=1)


@pytest.fixture
async def world(rollback_db: Database) -> World:
    return await World.open(rollback_db)


def reads(world: World) -> Reads:
    return Reads.of(world.db, world.tenant.tenant_id)


def texts(entries: Sequence[Entry] | Page[Entry]) -> list[str | None]:
    return [e.message.text for e in (entries.items if isinstance(entries, Page) else entries)]


async def tell(world: World, *words: str, **more: object) -> None:
    """Each a minute after the other."""
    for n, text in enumerate(words):
        await world.record(said(f"M-{text}", text, **more), now=NOW + n * MINUTE)  # type: ignore[arg-type]  # names of said's


async def test_a_conversation_is_read_by_key_newest_first(world: World) -> None:
    await tell(world, *"abcde")
    chat, found = await world.meet(), reads(world).messages
    first = await found.conversation_history(chat, 2)
    second = await found.conversation_history(chat, 2, first.next)
    third = await found.conversation_history(chat, 2, second.next)
    assert [texts(p) for p in (first, second, third)] == [["e", "d"], ["c", "b"], ["a"]]
    assert third.next is None
    assert texts(await found.last_messages(chat, 3)) == ["c", "d", "e"]
    since = await found.conversation_history(chat, since=NOW + MINUTE, until=NOW + 3 * MINUTE)
    assert texts(since) == ["c", "b"]
    with pytest.raises(ValueError, match="at least one"):
        await found.conversation_history(chat, 0)


async def test_edits_show_and_what_was_deleted_or_never_said_does_not(world: World) -> None:
    await tell(world, "old", "gone", "kept")
    await world.record(
        said("E", "new", type=MessageType.EDIT, reply_to="M-old"),
        said("R", None, type=MessageType.REVOKE, reply_to="M-gone"),
        said("X", "👍", type=MessageType.REACTION, reply_to="M-kept"),
    )
    chat = await world.meet()
    await world.queue(chat, "too late")
    await world.pause(chat)
    found = reads(world).messages
    assert texts(await found.last_messages(chat)) == ["new", "kept"]
    assert texts(await found.conversation_history(chat, deleted=True)) == ["kept", "gone", "new"]
    assert texts(await found.recent_activity()) == ["kept", "new"]


async def test_what_the_bot_said_tells_what_became_of_it(world: World) -> None:
    await tell(world, "hello", push_name="Ana")
    chat = await world.meet()
    await world.queue(chat, "good morning")
    due = await world.due(chat)
    await world.outbox.claim(due, NOW, LONG_AGO)
    await world.outbox.mark_sent(due, ExternalId("3EB0"), NOW, overlapped=False)
    answer, question = (await reads(world).messages.conversation_history(chat)).items
    assert (answer.message.external_id, answer.status, answer.message.author) == (
        "3EB0",
        Status.SENT,
        Author.BOT,
    )
    assert (question.sender_name, question.chat_name, question.status) == ("Ana", "Ana", None)
    assert question.chat_phone == "5511988880001"


async def fail(world: World, chat: ChatId, text: str) -> MessageId:
    message = await world.queue(chat, text, fenced=False)
    due = await world.due(chat)
    await world.outbox.claim(due, NOW, LONG_AGO)
    await world.outbox.settle(due, Status.FAILED, "no such number", NOW)
    return message


async def test_what_could_not_be_sent_is_listed_with_its_reason(world: World) -> None:
    await tell(world, "hello")
    await tell(world, "hi", by=BEN)
    chat, other = await world.meet(), await world.meet(BEN)
    await fail(world, chat, "first")
    await fail(world, other, "second")
    await world.queue(chat, "waits")
    found = reads(world).messages
    all_of_them = await found.failed_messages()
    assert [(e.message.text, e.error) for e in all_of_them.items] == [
        ("second", "no such number"),
        ("first", "no such number"),
    ]
    assert texts(await found.failed_messages(chat)) == ["first"]
    assert texts(await found.failed_messages(limit=1, before=all_of_them.items[0].message.id)) == ["first"]


async def test_a_gallery_holds_what_has_a_file(world: World) -> None:
    await tell(world, "words")
    await world.record(said("P", "a cake", type=MessageType.IMAGE), said("V", None, type=MessageType.AUDIO))
    await world.record(said("B", "Ben's", type=MessageType.IMAGE, by=BEN))
    chat, found = await world.meet(), reads(world).messages
    first = await found.media_messages(chat, 1)
    assert [m.entry.message.type for m in first.items] == [MessageType.AUDIO]
    second = await found.media_messages(chat, 5, first.next)
    assert [(m.entry.message.text, m.url) for m in second.items] == [("a cake", None)]
    await world.db.execute(
        "INSERT INTO sidestep.media (tenant_id, account_id, chat_id, message_id, type, status, url, created_at)"
        " SELECT tenant_id, $2, chat_id, id, type, 'stored', 'https://files.example/cake.jpg', $1"
        "   FROM sidestep.messages WHERE text = 'a cake'",
        NOW,
        world.account.account_id,
    )
    assert (await found.media_messages(chat)).items[1].url == "https://files.example/cake.jpg"


async def test_a_persons_messages_are_found_alone_and_in_groups(world: World) -> None:
    await tell(world, "a", "b")
    await tell(world, "c", "d", group=TEAM)
    await tell(world, "from Ben", by=BEN, group=TEAM)
    await world.record(typed("O", "from the owner"))
    found = reads(world).messages
    user = await found.find_user("+55 11 98888-0001")
    assert user is not None
    assert user == await found.find_user(ANA.jid)
    first = await found.user_messages(user, 3)
    assert len(first.items) == 3
    rest = await found.user_messages(user, 3, first.next)
    assert sorted(texts(first) + texts(rest)) == ["a", "b", "c", "d"]  # type: ignore[type-var]  # all have a text
    assert await found.find_user("+1 555 0100") is None
    assert (await found.user_messages(ContactId(0))).items == ()


async def test_replies_are_what_quotes_a_message_and_what_the_bot_answered(world: World) -> None:
    await tell(world, "question", "something else")
    await world.record(
        said("Q", "me too", reply_to="M-question"),
        said("X", "👍", type=MessageType.REACTION, reply_to="M-question"),
    )
    chat, found = await world.meet(), reads(world).messages
    question = await found.exists(chat, ExternalId("M-question"))
    assert question is not None
    await world.queue(chat, "not an answer")
    await world.db.execute(
        "UPDATE sidestep.outbox SET answers = ARRAY[$1::bigint] WHERE id = $2",
        question,
        await world.queue(chat, "the answer"),
    )
    first = await found.replies_to(question, 1)
    assert texts(first) == ["me too"]
    assert texts(await found.replies_to(question, 5, first.next)) == ["the answer"]
    assert await found.exists(chat, ExternalId("M-nothing")) is None


async def test_a_thread_is_read_from_its_beginning(world: World) -> None:
    await tell(world, "a", "b", "c")
    chat = await world.meet()
    thread = ThreadId(
        await world.db.fetchval("SELECT thread_id FROM sidestep.threads WHERE status = 'active'")
    )
    async with world.db.transaction() as connection:
        await world.sessions.reset(connection, chat, NOW + timedelta(hours=1))
    await world.record(said("N", "anew"), now=NOW + timedelta(hours=1))
    found = reads(world).messages
    first = await found.thread_messages(thread, 2)
    assert texts(first) == ["a", "b"]
    assert texts(await found.thread_messages(thread, 2, first.next)) == ["c"]


async def test_chats_are_listed_by_their_newest_message(world: World) -> None:
    await world.record(said("1", "yesterday"), now=NOW - timedelta(days=1))
    await world.record(said("2", "today" * 50, by=BEN))
    await world.record(said("3", "us", group=TEAM), now=NOW + MINUTE)
    await world.record(
        said("X", "👍", type=MessageType.REACTION, reply_to="1"), now=NOW - timedelta(hours=20)
    )
    found = reads(world).chats
    listed = (await found.chat_list()).items
    assert [c.chat.phone for c in listed] == [None, "5511988880002", "5511988880001"]
    assert [c.preview for c in listed] == ["us", ("today" * 50)[:100], "yesterday"]
    assert [c.chat.is_group for c in (await found.chat_list(groups=False)).items] == [False, False]
    first = await found.chat_list(2)
    assert [c.preview for c in (await found.chat_list(2, first.next)).items] == ["yesterday"]


async def test_paused_chats_tell_when_they_end(world: World) -> None:
    await world.record(said("1"), typed("2"))
    await world.record(said("3", by=BEN))
    await world.pause(await world.meet(BEN), PauseReason.MANUAL_PAUSE)
    found = reads(world).chats
    taken_over, by_hand = await found.paused_and_due()
    assert taken_over.session.returns_at == NOW + AFTER
    assert (by_hand.session.returns_at, by_hand.phone) == (None, "5511988880002")
    assert await found.paused_and_due(NOW + AFTER - MINUTE) == []
    due = await found.paused_and_due(NOW + AFTER)
    assert [chat.chat_id for chat in due] == [
        r.chat.chat_id for r in await world.sessions.resume_due(NOW + AFTER)
    ]
    assert len(due) == 1


async def test_another_tenants_messages_are_on_no_list(world: World) -> None:
    await tell(world, "ours")
    chat = await world.meet()
    theirs = Reads.of(world.db, type(world.tenant.tenant_id)(world.tenant.tenant_id + 1))
    assert (await theirs.messages.conversation_history(chat)).items == ()
    assert (await theirs.messages.recent_activity()).items == ()
    assert (await theirs.chats.chat_list()).items == ()
