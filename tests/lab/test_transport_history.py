"""The past as the transport delivers it, and as the daemon keeps it: known, in order, and never answered."""

import datetime as dt
import time
from collections.abc import AsyncIterator

import pytest

from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from bot.transports.base import History
from bot.transports.whatsapp.clients import HistoryDepth
from storage.messages import MessageStore
from storage.models import Action, Author, Jid, Message, MessageType, Status
from tests.lab.lab_bot import LabBot
from tests.lab.transport_bot import TransportBot, make_session_schema

pytestmark = pytest.mark.lab

YESTERDAY = dt.datetime.now(dt.UTC).replace(microsecond=0) - dt.timedelta(days=1)


@pytest.fixture
async def bot(dsn: str, lab: Lab) -> AsyncIterator[TransportBot]:
    """Not linked yet: the past comes first."""
    await make_session_schema(dsn)
    bot = TransportBot(dsn, lab)
    yield bot
    await bot.stop()


@pytest.fixture
async def shop(dsn: str, lab: Lab) -> AsyncIterator[LabBot]:
    """The whole daemon, started and not linked yet."""
    bot = LabBot(dsn, lab)
    await bot.start()
    yield bot
    await bot.stop()


async def test_both_sides_come_in_order_each_at_its_own_time(
    bot: TransportBot, owner: Owner, customer: Customer
) -> None:
    owner.remembers("price?", chat=customer, at=YESTERDAY)
    mine = owner.remembers("10", chat=customer, sender=owner, at=YESTERDAY)
    owner.remembers("thank you", chat=customer, at=YESTERDAY + dt.timedelta(minutes=1))
    await bot.pair(owner)
    await bot.remembered("thank you")
    assert [m.text for m in bot.past] == ["price?", "10", "thank you"]
    question, answer, _ = bot.past
    assert all(m.is_history for m in bot.past)
    assert (question.sent_at, question.from_me, question.push_name) == (YESTERDAY, False, "Ana")
    assert (answer.external_id, answer.from_me, answer.push_name) == (mine, True, None)
    assert set(question.chat.jids) == {customer.lid, customer.phone_jid}
    assert answer.chat == question.chat == question.sender
    assert question.raw is not None
    assert '"messageTimestamp"' in question.raw
    assert list(bot.messages) == []


async def test_a_chat_by_number_and_one_by_lid_have_both_forms(
    bot: TransportBot, owner: Owner, customer: Customer
) -> None:
    owner.history.addressed = "phone"
    owner.remembers("by number", chat=customer)
    await bot.pair(owner)
    told = await bot.remembered("by number")
    assert (told.chat.jid, told.chat.alt) == (customer.phone_jid, customer.lid)
    # What the phone has told of people helps whoever writes next.
    await customer.says("now by LID", addressed="lid", with_alt=False)
    assert (await bot.message("now by LID")).chat.alt == customer.phone_jid
    assert bot.names[Jid(customer.phone_jid)] == "Ana"


async def test_kinds_edits_reactions_and_what_is_gone_come_as_the_phone_keeps_them(
    bot: TransportBot, owner: Owner, customer: Customer
) -> None:
    asked = await customer.says("price?")
    question = await owner.hears("price?", chat=customer)
    mine = await owner.says("10", to=customer)
    await owner.edits(mine, "from 10 to 50", to=customer)
    await owner.revokes(await owner.says("oops", to=customer), to=customer)
    await owner.reacts(question, "👍", to=customer)
    await customer.sends_image(b"\x89PNG", caption="this one")
    await customer.says("and this?", quoted=question)
    await bot.pair(owner)
    await bot.remembered("and this?")
    assert [(m.type, m.text) for m in bot.past] == [
        (MessageType.TEXT, "price?"),
        (MessageType.REACTION, "👍"),
        (MessageType.TEXT, "from 10 to 50"),
        (MessageType.IMAGE, "this one"),
        (MessageType.TEXT, "and this?"),
    ]
    reaction, quoting = bot.past[1], bot.past[4]
    assert (reaction.reply_to, reaction.from_me) == (asked, True)
    assert quoting.reply_to == asked


async def test_in_a_group_each_message_has_who_wrote_it(
    bot: TransportBot, lab: Lab, owner: Owner, customer: Customer
) -> None:
    group = lab.group("Team", owner, customer)
    owner.remembers("who comes?", chat=group, sender=customer, at=YESTERDAY)
    owner.remembers("me", chat=group, sender=owner, at=YESTERDAY)
    await bot.pair(owner)
    mine = await bot.remembered("me")
    hers = bot.past[0]
    assert (hers.chat.jid, hers.is_group, hers.from_me) == (str(group.jid), True, False)
    assert customer.lid in hers.sender.jids
    assert (mine.is_group, mine.from_me) == (True, True)


# The full past first: what one client asks for stays in Go, for all that come later and do not say otherwise.
@pytest.mark.parametrize(
    ("wanted", "last", "came"), [("full", "0", 45), ("recent", "friend 4", 25), ("none", None, 0)]
)
async def test_how_much_of_the_past_comes_is_the_owner_s_choice(
    dsn: str, lab: Lab, owner: Owner, customer: Customer, wanted: HistoryDepth, last: str | None, came: int
) -> None:
    long_ago = YESTERDAY - dt.timedelta(days=200)
    friend = lab.customer("+5511888880002")
    for n in range(40):
        owner.remembers(f"{n}", chat=customer, at=long_ago if n < 20 else YESTERDAY)
    for n in range(5):
        owner.remembers(f"friend {n}", chat=friend)
    await make_session_schema(dsn)
    bot = TransportBot(dsn, lab, history=wanted)
    await bot.pair(owner)
    if last is not None:
        await bot.remembered(last)
    await customer.says("live")
    await bot.message("live")
    assert len(bot.past) == came
    await bot.stop()


# -- the whole daemon --


async def history_of(bot: LabBot, external_id: str) -> list[Message]:
    """What the model would read of the chat in which this was said."""
    [told] = await bot.why(external_id)
    return await MessageStore(bot.database).history(told.message.tenant_id, told.message.chat_id, 50)


async def recorded(bot: LabBot) -> None:
    """Waits until all that has arrived of the past is recorded."""
    await bot.daemon.lines[0].pipeline.past.recorded()


async def test_a_number_with_a_past_answers_nothing_of_it_and_knows_it_at_the_first_question(
    shop: LabBot, owner: Owner, customer: Customer
) -> None:
    asked = owner.remembers("price?", chat=customer, at=YESTERDAY)
    owner.remembers("/stop", chat=customer, at=YESTERDAY)
    owner.remembers("10, for you 9", chat=customer, sender=owner)
    await shop.pair(owner)
    await shop.heard["shop"].expect(lambda event: isinstance(event, History) and bool(event.names))
    await recorded(shop)
    live = await customer.says("and the price of two?")
    await customer.hears("From 10 to 50.")
    assert [m.text for m in await history_of(shop, live)][:4] == [
        "price?",
        "/stop",
        "10, for you 9",
        "and the price of two?",
    ]
    assert [m.author for m in await history_of(shop, live)][2] is Author.HUMAN
    [told] = await shop.why(asked)
    assert (told.action, told.replies) == (Action.IMPORTED, ())
    assert [heard.text for heard in customer.heard] == ["From 10 to 50."]


async def test_linked_anew_the_bot_knows_its_own_words_again(
    shop: LabBot, owner: Owner, customer: Customer
) -> None:
    await shop.pair(owner)
    await customer.says("price?")
    await owner.hears("From 10 to 50.", chat=customer)
    live = await customer.says("thank you")
    last = await owner.hears("Hello!", chat=customer)
    await shop.moves(Status.SENT, external_id=last.id)
    before = [(m.id, m.author) for m in await history_of(shop, live)]
    await owner.syncs_history()
    await shop.heard["shop"].expect(lambda event: isinstance(event, History))
    await recorded(shop)
    assert [(m.id, m.author) for m in await history_of(shop, live)] == before
    assert [m.text for m in await history_of(shop, live)] == [
        "price?",
        "From 10 to 50.",
        "thank you",
        "Hello!",
    ]


async def told_again(bot: LabBot, owner: Owner) -> None:
    """Waits until the phone has told all of the past once more, and it is recorded."""
    await owner.syncs_history()
    await bot.heard["shop"].expect(lambda event: isinstance(event, History))
    await recorded(bot)


async def test_a_question_whose_event_is_late_is_answered_though_history_told_it_first(
    shop: LabBot, owner: Owner, customer: Customer
) -> None:
    await shop.pair(owner)
    asked = owner.remembers("price?", chat=customer)
    await told_again(shop, owner)
    # As after a retry: what could not be read comes once more, under its id.
    assert await customer.says("price?", id=asked, damaged=True) == asked
    await customer.hears("From 10 to 50.")
    assert (await shop.decided(asked)).action is Action.KEYWORD_REPLIED
    assert [(e.event_type, e.action) for e in await shop.why(asked)] == [
        ("message", Action.IMPORTED),
        ("live", Action.KEYWORD_REPLIED),
    ]
    assert [heard.text for heard in customer.heard] == ["From 10 to 50."]


async def test_the_owners_line_whose_event_is_late_takes_over_though_history_told_it_first(
    shop: LabBot, owner: Owner, customer: Customer
) -> None:
    await shop.pair(owner)
    spoke = owner.remembers("I am here", chat=customer, sender=owner)
    await told_again(shop, owner)
    assert await owner.says("I am here", to=customer, id=spoke) == spoke
    assert (await shop.decided(spoke)).action is Action.PAUSED
    asked = await customer.says("price?")
    assert (await shop.decided(asked)).action is Action.IGNORED_PAUSED


async def test_while_thousands_are_recorded_who_writes_is_answered_at_once(
    shop: LabBot, lab: Lab, owner: Owner, customer: Customer
) -> None:
    await shop.pair(owner)
    friends = [lab.customer(f"+55118888810{n:02}", name=f"Friend {n}") for n in range(20)]
    for n in range(5000):
        owner.remembers(f"message {n}", chat=friends[n % 20], at=YESTERDAY + dt.timedelta(seconds=n))
    began = time.monotonic()
    await owner.syncs_history()
    await shop.heard["shop"].expect(lambda event: isinstance(event, History))
    waits = []
    for _ in range(10):
        asked_at = time.monotonic()
        await customer.says("price?")
        await customer.hears("From 10 to 50.")
        waits.append(time.monotonic() - asked_at)
    still = await shop.database.fetchval("SELECT count(*) FROM sidestep.messages")
    for _ in range(4):
        await shop.heard["shop"].expect(lambda event: isinstance(event, History))
    await recorded(shop)
    took = time.monotonic() - began
    stored = await shop.database.fetchval("SELECT count(*) FROM sidestep.messages")
    print(f"answered in {[round(w * 1000) for w in waits]} ms, {still} of {stored} recorded by then")
    print(f"all recorded in {took:.1f} s")
    assert stored == 5000 + 20
    assert still < stored, "the past was over before the answers: this has shown nothing"
