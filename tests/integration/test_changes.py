"""Changes: an edit, a revoke or a reaction shows in the message that it is about, whichever of them comes first."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.database import Database
from storage.models import (
    Address,
    Arrival,
    Author,
    ChatId,
    Claim,
    ExternalId,
    Jid,
    MessageId,
    MessageType,
    Outgoing,
    Status,
)
from tests.integration.store_world import (
    ANA,
    ANA_BOTH,
    ANA_LID,
    BEN,
    NOW,
    OWNER,
    TEAM,
    World,
    ids,
    said,
    typed,
)

SECOND = timedelta(seconds=1)


@pytest.fixture
async def world(db: Database) -> World:
    return await World.open(db)


def edit(external_id: str, target: str, text: str | None, seconds: int = 1, **changes: Any) -> Arrival:
    return _change(MessageType.EDIT, external_id, target, text, seconds, **changes)


def revoke(external_id: str, target: str, seconds: int = 1, **changes: Any) -> Arrival:
    return _change(MessageType.REVOKE, external_id, target, None, seconds, **changes)


def reaction(external_id: str, target: str, emoji: str | None, seconds: int = 1, **changes: Any) -> Arrival:
    return _change(MessageType.REACTION, external_id, target, emoji, seconds, **changes)


def _change(
    kind: MessageType, external_id: str, target: str, text: str | None, seconds: int, **changes: Any
) -> Arrival:
    return said(
        external_id, text, type=kind, reply_to=ExternalId(target), at=NOW + seconds * SECOND, **changes
    )


def from_phone(arrival: Arrival) -> Arrival:
    """The same, done by the owner on the phone."""
    event = replace(arrival.event, sender=OWNER, from_me=True, reply_to_me=True)
    return Arrival(event=event, author=Author.HUMAN)


@dataclass(frozen=True)
class Reading:
    """How one message reads."""

    text: str | None
    edited_at: datetime | None
    deleted_at: datetime | None
    versions: tuple[str | None, ...]
    reactions: tuple[str, ...]


async def reading(world: World, external_id: str) -> Reading:
    """By the platform's id, the bot's own messages too."""
    row = await world.db.fetchrow(
        """
        SELECT m.chat_id, m.id, m.text, m.edited_at, m.deleted_at FROM sidestep.messages m
          JOIN sidestep.message_keys k ON (k.tenant_id, k.chat_id, k.id) = (m.tenant_id, m.chat_id, m.id)
         WHERE k.external_id = $1
        """,
        external_id,
    )
    assert row is not None
    versions = await world.db.fetch(
        "SELECT text FROM sidestep.message_versions WHERE chat_id = $1 AND id = $2 ORDER BY written_at, version_id",
        row["chat_id"],
        row["id"],
    )
    reactions = await world.db.fetch(
        "SELECT emoji FROM sidestep.reactions WHERE chat_id = $1 AND id = $2 AND emoji IS NOT NULL ORDER BY emoji",
        row["chat_id"],
        row["id"],
    )
    return Reading(
        text=row["text"],
        edited_at=row["edited_at"],
        deleted_at=row["deleted_at"],
        versions=tuple(v["text"] for v in versions),
        reactions=tuple(r["emoji"] for r in reactions),
    )


async def bot_said(world: World, chat_id: ChatId, external_id: str, text: str = "from 10 to 50") -> MessageId:
    message_id = await world.queue(chat_id, text)
    due = await world.due(chat_id)
    assert await world.outbox.claim(due, NOW, NOW) is Claim.CLAIMED
    await world.outbox.mark_sent(due, ExternalId(external_id), NOW, overlapped=False)
    return message_id


async def test_an_edit_shows_and_what_was_there_before_is_kept(world: World) -> None:
    [message] = await world.record(said("M1", "ten cakes"))
    [change] = await world.record(edit("E1", "M1", "twelve cakes"))
    assert change.changed is not None
    assert change.changed.of(message.message).text == "twelve cakes"
    assert await reading(world, "M1") == Reading(
        "twelve cakes", NOW + SECOND, None, ("ten cakes", "twelve cakes"), ()
    )
    [read] = [m for m in await world.messages.undecided(world.account) if m.external_id == "M1"]
    assert (read.text, read.edited_at) == ("twelve cakes", NOW + SECOND)


async def test_an_edit_that_cannot_be_read_is_known_and_blanks_nothing(world: World) -> None:
    await world.record(said("M1", "ten"), edit("E1", "M1", None))
    assert await reading(world, "M1") == Reading("ten", NOW + SECOND, None, ("ten", None), ())


async def test_a_caption_that_was_taken_away_is_gone(world: World) -> None:
    await world.record(said("M1", "look", type=MessageType.IMAGE), edit("E1", "M1", ""))
    assert (await reading(world, "M1")).text == ""


async def test_an_older_edit_that_comes_late_is_kept_and_does_not_show(world: World) -> None:
    await world.record(said("M1", "one"))
    await world.record(edit("E3", "M1", "three", 3))
    await world.record(edit("E2", "M1", "two", 2))
    assert await reading(world, "M1") == Reading("three", NOW + 3 * SECOND, None, ("one", "two", "three"), ())


async def test_a_revoked_message_is_deleted_and_keeps_its_text(world: World) -> None:
    [message, change] = await world.record(said("M1", "oops"), revoke("R1", "M1"))
    assert await reading(world, "M1") == Reading("oops", None, NOW + SECOND, (), ())
    by = await world.db.fetchval("SELECT deleted_by FROM sidestep.messages WHERE id = $1", message.message.id)
    assert by == change.message.id


async def test_one_reaction_a_person_the_newest_and_none_when_it_is_taken_back(world: World) -> None:
    await world.record(said("M1"), reaction("R1", "M1", "👍", 1), from_phone(reaction("R2", "M1", "❤", 2)))
    assert (await reading(world, "M1")).reactions == ("❤", "👍")
    await world.record(reaction("R3", "M1", "😮", 3))
    assert (await reading(world, "M1")).reactions == ("❤", "😮")
    await world.record(reaction("R4", "M1", "", 5), reaction("R5", "M1", "👍", 4))
    assert (await reading(world, "M1")).reactions == ("❤",)


async def test_a_reaction_that_cannot_be_read_takes_nothing_back(world: World) -> None:
    await world.record(said("M1"), reaction("R1", "M1", "👍", 1), reaction("R2", "M1", None, 2))
    assert (await reading(world, "M1")).reactions == ("👍",)


async def test_what_the_bot_said_is_changed_by_the_owner_s_phone_alone(world: World) -> None:
    chat_id = await world.meet()
    await bot_said(world, chat_id, "3EB01")
    await world.record(edit("E1", "3EB01", "from 1 to 5"), revoke("R1", "3EB01"))
    assert await reading(world, "3EB01") == Reading("from 10 to 50", None, None, (), ())
    await world.record(reaction("R2", "3EB01", "👍"), from_phone(edit("E2", "3EB01", "from 20 to 50")))
    assert await reading(world, "3EB01") == Reading(
        "from 20 to 50", NOW + SECOND, None, ("from 10 to 50", "from 20 to 50"), ("👍",)
    )
    await world.record(from_phone(revoke("R3", "3EB01", 2)))
    assert (await reading(world, "3EB01")).deleted_at == NOW + 2 * SECOND


async def test_what_comes_before_the_id_of_the_bot_s_message_is_known_is_applied_with_it(
    world: World,
) -> None:
    chat_id = await world.meet()
    [early] = await world.record(reaction("R1", "3EB01", "👍"))
    assert early.changed is None
    await bot_said(world, chat_id, "3EB01")
    assert (await reading(world, "3EB01")).reactions == ("👍",)
    assert await world.count("early_changes") == 0


async def test_a_reaction_at_the_moment_of_the_acknowledgement_is_applied_by_one_of_the_two(
    world: World,
) -> None:
    """Both have read before either has committed, were it not for the lock on the id that both take."""
    [question] = await world.record(said("M1"))
    chat_id = question.message.chat_id
    await world.queue(chat_id)
    due = await world.due(chat_id)
    assert await world.outbox.claim(due, NOW, NOW) is Claim.CLAIMED
    async with world.db.transaction() as connection:
        await connection.execute(
            "SELECT sidestep.mark_sent($1, $2, $3, '3EB01', $4, false)",
            world.tenant.tenant_id,
            chat_id,
            due.id,
            NOW,
        )
        recording = asyncio.create_task(world.record(reaction("R1", "3EB01", "👍")))
        # It is now the other's turn; done or held up, it has looked for the key by then.
        while not recording.done() and not await waits_for_a_lock(world):
            pass
    await recording
    assert (await reading(world, "3EB01")).reactions == ("👍",)


async def waits_for_a_lock(world: World) -> bool:
    return bool(
        await world.db.fetchval(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = 'advisory')"
        )
    )


async def test_nobody_edits_or_revokes_what_another_has_written(world: World) -> None:
    await world.record(
        said("M1", "mine"), typed("H1", "ours"), said("G1", "hers", by=ANA, group=TEAM),
        edit("E1", "H1", "x"), revoke("R1", "H1"), from_phone(edit("E2", "M1", "x")),
        from_phone(revoke("R2", "M1")), edit("E3", "G1", "x", by=BEN, group=TEAM),
    )  # fmt: skip
    for external_id, text in (("M1", "mine"), ("H1", "ours"), ("G1", "hers")):
        assert await reading(world, external_id) == Reading(text, None, None, (), ())


async def test_in_a_group_an_admin_revokes_what_another_wrote_and_who_did_is_recorded(world: World) -> None:
    await world.record(said("G1", "spam", by=ANA, group=TEAM))
    [change] = await world.record(revoke("R1", "G1", by=BEN, group=TEAM))
    assert (await reading(world, "G1")).deleted_at == NOW + SECOND
    who = await world.db.fetchval(
        """
        SELECT p.jid FROM sidestep.messages m
          JOIN sidestep.messages r ON (r.tenant_id, r.chat_id, r.id) = (m.tenant_id, m.chat_id, m.deleted_by)
          JOIN sidestep.contacts p ON (p.tenant_id, p.contact_id) = (r.tenant_id, r.sender_id)
         WHERE r.id = $1
        """,
        change.message.id,
    )
    assert who == BEN.jid


async def test_of_two_messages_with_one_id_in_a_group_the_one_that_is_named_is_meant(world: World) -> None:
    await world.record(said("G1", "first", by=ANA, group=TEAM), said("G1", "second", by=BEN, group=TEAM))
    await world.record(
        revoke("R1", "G1", by=Address(jid=Jid("551@s.whatsapp.net")), group=TEAM, reply_to_sender=BEN.jid)
    )
    rows = await world.db.fetch("SELECT text FROM sidestep.messages WHERE deleted_at IS NOT NULL")
    assert [r["text"] for r in rows] == ["second"]


async def test_an_answer_that_is_left_without_a_question_is_not_sent(world: World) -> None:
    one, two = await world.record(said("M1"), said("M2"))
    chat_id = one.message.chat_id
    epoch = await world.outbox.epoch(chat_id)
    queued = await world.outbox.enqueue(
        chat_id, Outgoing(text="both"), NOW, epoch=epoch, answers=ids([one, two])
    )
    await world.record(revoke("R1", "M1"))
    assert await world.status(queued) is Status.QUEUED
    await world.record(revoke("R2", "M2"))
    assert await world.status(queued) is Status.CANCELLED


async def test_the_history_follows(world: World) -> None:
    chat_id = await world.meet()
    await world.record(said("M1", "one"), said("M2", "two"), said("M3", "three"))
    await bot_said(world, chat_id, "3EB01")
    await world.record(
        typed("H1", "hi"), edit("E1", "M1", "ONE"), revoke("R1", "M2"), from_phone(revoke("R2", "3EB01"))
    )
    history = await world.messages.history(world.tenant.tenant_id, chat_id, 10)
    assert [m.text for m in history] == ["ONE", "three", "hi"]


async def test_changes_wait_for_their_target_for_a_time(world: World) -> None:
    await world.record(edit("E1", "M1", "two"))
    await world.messages.forget_changes(world.tenant.tenant_id, NOW)
    assert await world.count("early_changes") == 1
    await world.messages.forget_changes(world.tenant.tenant_id, NOW + SECOND)
    assert await world.count("early_changes") == 0


async def test_two_chats_that_are_one_have_their_changes_in_common(world: World) -> None:
    await world.record(said("M1", "one"), said("SAME", "copy"))
    await world.record(said("SAME", "copy", by=ANA_LID), edit("E2", "SAME", "the copy", by=ANA_LID))
    await world.record(edit("E1", "M1", "two", by=ANA_LID), reaction("R1", "M1", "👍", by=ANA_LID))
    await world.record(said("BOTH", by=ANA_BOTH))
    assert await reading(world, "M1") == Reading("two", NOW + SECOND, None, ("one", "two"), ("👍",))
    assert (await reading(world, "SAME")).text == "the copy"
    assert await world.count("early_changes") == 0


async def test_two_contacts_that_are_one_have_one_reaction_and_change_each_other_s_messages(
    world: World,
) -> None:
    await world.record(said("G1", "one", by=ANA, group=TEAM), said("G2", "two", by=BEN, group=TEAM))
    await world.record(
        edit("E1", "G1", "ONE", by=ANA_LID, group=TEAM),
        reaction("R1", "G2", "👍", 1, by=ANA, group=TEAM),
        reaction("R2", "G2", "❤", 2, by=ANA_LID, group=TEAM),
    )
    assert (await reading(world, "G1")).text == "one"
    assert (await reading(world, "G2")).reactions == ("❤", "👍")
    await world.record(said("G3", by=ANA_BOTH, group=TEAM))
    assert (await reading(world, "G1")).text == "ONE"
    assert (await reading(world, "G2")).reactions == ("❤",)


async def test_a_month_is_dropped_with_what_was_changed_in_it(world: World) -> None:
    await world.record(said("M1"), edit("E1", "M1", "two"), reaction("R1", "M1", "👍"))
    for table in ("messages", "message_payloads", "message_versions", "reactions", "decisions"):
        await world.db.execute(f"DROP TABLE sidestep.{table}_202603")
    [late] = await world.record(edit("E2", "M1", "three"), now=NOW + timedelta(days=30))
    assert late.changed is None


STORY = [
    said("M1", "one"),
    edit("E1", "M1", "two", 1),
    edit("E2", "M1", None, 2),
    edit("E3", "M1", "four", 3),
    reaction("R1", "M1", "👍", 1),
    reaction("R2", "M1", "", 2),
    reaction("R3", "M1", "❤", 3),
    from_phone(reaction("R4", "M1", "😮", 1)),
    revoke("V1", "M1", 4),
    revoke("V2", "M1", 5),
    edit("X1", "M1", "not mine", 9, by=BEN),
]
ENDING = Reading("four", NOW + 3 * SECOND, NOW + 4 * SECOND, ("one", "two", None, "four"), ("❤", "😮"))


@given(st.permutations(STORY), st.lists(st.sampled_from(STORY), max_size=5), st.integers(1, 16))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_the_order_and_the_batches_the_story_ends_alike(
    db: Database, story: Sequence[Arrival], again: Sequence[Arrival], size: int
) -> None:
    await db.execute("DELETE FROM sidestep.message_keys; DELETE FROM sidestep.early_changes")
    world = await World.open(db)
    events = [*story, *again]
    for start in range(0, len(events), size):
        await world.record(*events[start : start + size])
    assert await reading(world, "M1") == ENDING
