"""What the owner's phone tells a new linked device of the past, as the real neonize gets it."""

import datetime as dt
from typing import Any

import pytest
from neonize.aioze.events import HistorySyncEv

from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from tests.lab.bot_client import BotClient
from tests.lab.conftest import Link

pytestmark = pytest.mark.lab


async def part(client: BotClient, kind: str) -> Any:
    """The next part of this kind."""
    event = await client.events.expect(
        lambda event: (
            isinstance(event, HistorySyncEv) and event.Data.HistorySyncType.Name(event.Data.syncType) == kind
        ),
        what=f"history of kind {kind}",
    )
    return event.Data


def told(data: Any) -> list[Any]:
    return [entry.message for conversation in data.conversations for entry in conversation.messages]


async def test_a_new_device_is_told_the_newest_at_once_then_the_rest_then_the_names(
    link: Link, lab: Lab, owner: Owner, customer: Customer
) -> None:
    for n in range(30):
        owner.remembers(f"{n}", chat=customer)
    client = await link(owner)
    first = await part(client, "INITIAL_BOOTSTRAP")
    assert [m.message.conversation for m in told(first)] == [*(f"{n}" for n in range(29, 9, -1)), ""]
    rest = await part(client, "RECENT")
    assert next(m.message.conversation for m in told(rest)) == "9"
    assert (rest.chunkOrder, rest.progress) == (1, 100)
    names = await part(client, "PUSH_NAME")
    assert [(n.ID, n.pushname) for n in names.pushnames] == [(customer.phone_jid, "Ana")]
    await part(client, "NON_BLOCKING_DATA")
    assert lab.unanswered == []
    assert lab.refused == []


async def test_what_people_wrote_before_there_was_a_bot_is_told_as_the_phone_keeps_it(
    link: Link, owner: Owner, customer: Customer
) -> None:
    await customer.says("price?")
    heard = await owner.hears("price?", chat=customer)
    mine = await owner.says("10", to=customer)
    await owner.edits(mine, "from 10 to 50", to=customer)
    gone = await owner.says("oops", to=customer)
    await owner.revokes(gone, to=customer)
    await owner.reacts(heard, "👍", to=customer)
    await customer.sends_image(b"\x89PNG", caption="this one")
    data = await part(await link(owner), "INITIAL_BOOTSTRAP")
    image, revoked, answer, question, stub = told(data)
    assert image.message.imageMessage.caption == "this one"
    assert (revoked.messageStubType, revoked.HasField("message")) == (1, False)
    assert (answer.message.conversation, answer.key.fromMe, answer.key.ID) == ("from 10 to 50", True, mine)
    assert (question.pushName, question.key.fromMe) == ("Ana", False)
    assert [(r.text, r.key.fromMe) for r in question.reactions] == [("👍", True)]
    assert stub.messageStubType == 39
    [mapping] = [m for m in data.phoneNumberToLidMappings if m.pnJID == customer.phone_jid]
    assert mapping.lidJID == customer.lid


async def test_later_parts_come_newest_first_as_files_that_the_client_deletes(
    link: Link, lab: Lab, owner: Owner, customer: Customer
) -> None:
    client = await link(owner)
    for n in range(25):
        owner.remembers(f"{n}", chat=customer)
    assert await owner.syncs_history(per_part=10) == 3
    parts = [await part(client, "RECENT") for _ in range(3)]
    assert [(p.chunkOrder, p.progress) for p in parts] == [(1, 33), (2, 66), (3, 100)]
    assert [next(m.message.conversation for m in told(p)) for p in parts] == ["24", "14", "4"]
    await lab.files.deleted.expect(lambda path: path.startswith("/v/history/"))


async def test_a_device_is_told_of_the_years_before_only_if_it_asks(
    link: Link, owner: Owner, customer: Customer
) -> None:
    long_ago = dt.datetime.now(dt.UTC) - dt.timedelta(days=200)
    for n in range(25):
        owner.remembers(f"{n}", chat=customer, at=long_ago)
    client = await link(owner)
    await part(client, "NON_BLOCKING_DATA")
    kinds = [e.Data.syncType for e in client.events if isinstance(e, HistorySyncEv)]
    assert kinds == [0, 4, 5]


async def test_five_thousand_messages_are_there_in_time_and_whole(
    link: Link, owner: Owner, customer: Customer
) -> None:
    client = await link(owner)
    for n in range(5000):
        owner.remembers(f"message number {n}", chat=customer)
    assert await owner.syncs_history() == 5
    parts = [await part(client, "RECENT") for _ in range(5)]
    texts = {m.message.conversation for p in parts for m in told(p)} - {""}
    assert texts == {f"message number {n}" for n in range(5000)}
