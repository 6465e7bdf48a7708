"""First contacts on the whole path: nobody is written to first, and a refusal stops no conversation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from bot.breaker import FIRST_PAUSE
from bot.transports.base import ReachOutLimited, SendPostponed
from storage.database import Database
from storage.models import Address, ChatId, Jid, MessageId, Outgoing, Status
from tests.integration.path_world import Path
from tests.integration.store_world import AFTER, ANA, BEN, OWNER, World, said, typed

LIMITED = ReachOutLimited("WhatsApp lets this number write to nobody new for now (error 463)", code=463)
CARLA = Address(jid=Jid("5511988880003@s.whatsapp.net"))


@pytest.fixture
async def path(db: Database) -> AsyncIterator[Path]:
    path = Path.build(db, await World.open(db))
    async with path.running():
        yield path


async def greeted(path: Path, whom: Address) -> ChatId:
    """The owner has written to somebody who has never written to us."""
    path.see(typed(f"GREETING-{whom.jid}", "bom dia", to=whom, at=path.clock.now()))
    await path.settle()
    await path.clock.advance(AFTER)
    await path.pipeline.resume_due()
    return await path.world.meet(whom)


async def write(path: Path, chat_id: ChatId, text: str = "your cake is ready") -> MessageId:
    """What a script would do."""
    message_id = await path.pipeline.outbox.send_and_log(chat_id, Outgoing(text=text))
    await path.settle()
    return message_id


async def test_whom_only_the_owner_wrote_to_never_hears_from_the_bot_by_itself(path: Path) -> None:
    await greeted(path, ANA)
    await path.clock.advance(timedelta(days=2))
    await path.settle()
    assert path.said == []


async def test_a_message_knows_whether_it_is_a_first_contact(path: Path) -> None:
    world = path.world
    await world.record(said("M1"))
    met = await world.meet(ANA)
    stranger = await world.meet(CARLA)
    await world.record_past(said("OLD", by=BEN))
    known_of_old = await world.meet(BEN)
    for chat_id, first in ((met, False), (stranger, True), (known_of_old, False)):
        await world.queue(chat_id, fenced=False)
        assert (await world.due(chat_id)).is_first_contact is first


async def test_after_a_refusal_first_contacts_fail_at_once_and_chats_go_on(path: Path) -> None:
    ben, carla = await greeted(path, BEN), await greeted(path, CARLA)
    path.transport.refuse = LIMITED
    refused = await write(path, ben)
    untried = await write(path, carla)
    path.see(said("M1", "what is the price?", at=path.clock.now()))
    await path.settle()

    assert "From 10 to 50." in path.said
    assert "your cake is ready" not in path.said
    assert (
        len([m for m in path.transport.started if m.to != OWNER.jid]) == 2
    )  # the refused one, and the answer
    for message_id, reason in ((refused, "error 463"), (untried, "not tried")):
        row = await path.world.row(message_id)
        assert row["status"] == Status.FAILED
        assert reason in row["error"]


async def test_the_owner_is_told_once(path: Path) -> None:
    ben = await greeted(path, BEN)
    for _ in range(3):
        path.transport.refuse = LIMITED
        await write(path, ben)
        await path.clock.advance(10 * FIRST_PAUSE)
    path.transport.refuse = None
    notices = [message.content.text for message in path.transport.sent if message.to == OWNER.jid]
    assert len(notices) == 1
    assert "nobody new" in notices[0]


async def test_after_the_pause_one_try_ends_it(path: Path) -> None:
    ben, carla = await greeted(path, BEN), await greeted(path, CARLA)
    path.transport.refuse = LIMITED
    await write(path, ben)
    assert path.pipeline.breaker.limit is not None
    await path.clock.advance(FIRST_PAUSE)
    await write(path, ben, "are you there?")
    await write(path, carla, "good morning")
    assert path.said[-2:] == ["are you there?", "good morning"]


async def test_what_the_platform_postpones_is_tried_again_and_given_up_in_the_end(path: Path) -> None:
    await path.world.record(said("M1"))
    chat_id = await path.world.meet(ANA)

    path.transport.refuse = SendPostponed("WhatsApp has trouble of its own (error 503)")
    message_id = await path.pipeline.outbox.send_and_log(chat_id, Outgoing(text="from 10"))
    await path.settle()
    row = await path.world.row(message_id)
    assert (row["status"], row["error"]) == (Status.QUEUED, "WhatsApp has trouble of its own (error 503)")
    await path.clock.advance(timedelta(minutes=5))
    await path.pipeline.outbox.take_up()
    await path.settle()
    assert path.said == ["from 10"]
    assert await path.world.status(message_id) is Status.SENT

    message_id = await path.pipeline.outbox.send_and_log(chat_id, Outgoing(text="and more"))
    for _ in range(10):
        path.transport.refuse = SendPostponed("WhatsApp has trouble of its own (error 503)")
        await path.pipeline.outbox.take_up()
        await path.settle()
        await path.clock.advance(timedelta(minutes=5))
    assert await path.world.status(message_id) is Status.FAILED
