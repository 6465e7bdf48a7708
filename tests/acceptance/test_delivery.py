"""Pacing, and what becomes of what could not be sent, as a script of `sidestep chat --jsonl` meets them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import pytest

from bot.clock import VirtualClock
from bot.config import load
from bot.events import Event, Events, Said
from bot.roles import phone_jid
from bot.simulation import Line as Spoken
from bot.simulation import simulated
from bot.transports.base import Paired
from storage.database import Database
from storage.models import Action, ExternalId
from tests.acceptance.conversation import (
    CONFIG,
    CUSTOMER,
    DEFAULT,
    HOURS,
    IDLE,
    OWNER,
    PRICES,
    Line,
    Shop,
    admin,
    advance,
    customer,
    owner,
)
from tests.acceptance.invariants import outbox_by_status
from tests.conftest import connected, until

OTHER = "+5511988880002"
LINK = "UPDATE sidestep.accounts SET paired_at = now() - make_interval(days => $1)"


def paced(shop: Shop, **keys: object) -> None:
    pace = {"debounce": "0s", "typing": False, **keys}
    shop.configure(f"{CONFIG}\npace: {json.dumps(pace)}\n")


async def fate(shop: Shop, message_id: str) -> dict[str, object]:
    """What `why` tells of the only reply to a message."""
    told = await shop.run("why", message_id, "--json", DATABASE_URL=shop.dsn)
    [reply] = json.loads(told.out)["replies"]
    return dict(reply)


async def test_twenty_questions_in_no_time_get_twenty_answers(shop: Shop) -> None:
    paced(shop)
    said = await shop.chat(*(customer("price", id=f"M{n}") for n in range(20)), IDLE)
    assert [r.in_reply_to for r in said.replies] == [(f"M{n}",) for n in range(20)]


async def test_a_chat_that_asks_too_much_waits_for_its_turn_and_why_says_so(shop: Shop) -> None:
    paced(shop, per_chat={"burst": 2, "every": "10s"})
    said = await shop.chat(
        *(customer("price", id=f"M{n}") for n in range(4)), customer("price", id="other", chat=OTHER), IDLE
    )
    assert said.said_to(CUSTOMER) == [PRICES] * 4
    # The other chat is not held up.
    assert [r.in_reply_to for r in said.replies][-2:] == [("M2",), ("M3",)]
    assert (await fate(shop, "M1"))["waited"] is None
    assert (await fate(shop, "M3"))["waited"] == "waited 10 s for its turn (pace.per_chat)"


async def test_a_number_that_says_too_much_waits_in_all_its_chats(shop: Shop) -> None:
    paced(shop, per_account={"burst": 1, "every": "5s"})
    said = await shop.chat(customer("price", id="M1"), IDLE, customer("price", id="M2", chat=OTHER), IDLE)
    assert len(said.replies) == 2
    assert (await fate(shop, "M2"))["waited"] == "waited 5 s for its turn (pace.per_account)"


async def test_what_is_over_the_cap_is_told_listed_and_sent_when_somebody_says_so(shop: Shop) -> None:
    paced(shop, daily=2)
    first = await shop.chat(*(customer("price", id=f"M{n}") for n in range(4)), IDLE)
    assert first.said_to() == [PRICES] * 2
    assert [text for text in first.notices if "2 messages within 24 hours" in text] == first.notices
    assert len(first.notices) == 1
    assert (await fate(shop, "M2"))["error"] == "not tried: 2 messages in 24 hours are the most (pace.daily)"
    # A daemon that starts anew knows what has left.
    again = await shop.chat(
        *(customer("price", id="M4"), IDLE, owner("/failed", chat=OWNER, id="list"), IDLE),
        *(owner("/failed drop nothing", chat=OWNER, id="none"), IDLE, advance("25h")),
        *(owner("/failed retry all", chat=OWNER, id="retry"), IDLE),
    )
    listed = next(text for text in again.notices if text.startswith("What I could not send"))
    assert listed.count("pace.daily") == 3
    assert again.decided("retry") == [Action.COMMAND_DONE]
    assert any(text.startswith("I try again to send 3 messages, ") for text in again.notices)
    assert again.said_to() == [PRICES] * 2  # of the three: that is the cap
    assert (await outbox_by_status(shop.dsn))["failed"] == 1


async def test_what_has_failed_can_be_given_up(shop: Shop) -> None:
    paced(shop, daily=1)
    said = await shop.chat(
        *(customer("price", id="M1"), IDLE, customer("price", id="M2"), IDLE),
        *(owner("/failed drop all", chat=OWNER, id="drop"), IDLE, owner("/failed", chat=OWNER), IDLE),
    )
    assert said.notices[-2:] == ["I have given up one message.", "I could send everything."]
    assert (await fate(shop, "M2"))["status"] == "cancelled"
    assert "dropped; it had failed: not tried" in str((await fate(shop, "M2"))["error"])


async def test_a_failed_answer_is_not_sent_over_a_human(shop: Shop) -> None:
    paced(shop, daily=1)
    said = await shop.chat(
        *(customer("price", id="M1"), IDLE, customer("price", id="M2"), IDLE, advance("25h")),
        *(owner("I am here"), owner("/failed retry all", chat=OWNER), IDLE),
    )
    assert [r.in_reply_to for r in said.replies] == [("M1",)]
    assert (await fate(shop, "M2"))["status"] == "cancelled"


async def test_the_cap_is_for_answers_and_for_nothing_else(shop: Shop) -> None:
    paced(shop, daily=1)
    said = await shop.chat(
        *(customer("price"), IDLE, owner("/status", id="command"), IDLE, customer("price", id="over"), IDLE),
        *(admin("/status", id="asked"), IDLE),
    )
    # The command is taken back, and both who asked have heard.
    assert said.revoked == ["command"]
    assert len([text for text in said.notices if "+5511988880001" in text]) >= 1
    assert said.decided("asked") == [Action.COMMAND_DONE]
    assert said.said_to(CUSTOMER) == [PRICES]
    # Nor does any of it count for the day that a new daemon takes up.
    paced(shop, daily=2)
    again = await shop.chat(customer("price"), IDLE, customer("price"), IDLE)
    assert again.said_to(CUSTOMER) == [PRICES]


@pytest.mark.parametrize(
    "silence",
    [
        (owner("I am here", chat=OTHER), advance("3h")),
        (owner("I am here", chat=OTHER),),
        (owner("/exclude", chat=OTHER),),
        (customer("/stop", chat=OTHER),),
        (owner("/global pause", chat=OWNER),),
    ],
    ids=["a human spoke", "a human speaks", "excluded", "opted out", "global pause"],
)
async def test_what_is_sent_again_is_not_said_where_the_bot_is_silent_or_a_human_has_spoken_since(
    shop: Shop, silence: Sequence[Line]
) -> None:
    paced(shop, daily=1)
    await shop.chat(customer("price", id="M1"), IDLE, customer("/human", id="M2", chat=OTHER), IDLE)
    paced(shop)
    said = await shop.chat(*silence, IDLE, owner("/failed retry all", chat=OWNER, id="retry"), IDLE)
    assert said.decided("retry") == [Action.COMMAND_DONE]
    assert [r for r in said.replies if "M2" in r.in_reply_to] == []
    assert (await fate(shop, "M2"))["status"] == "cancelled"


@pytest.mark.parametrize(("days", "answers"), [(0, 1), (1, 2), (2, 3), (40, 3)])
async def test_a_number_that_was_linked_not_long_ago_says_less(shop: Shop, days: int, answers: int) -> None:
    paced(shop, daily=3, first_day=1)
    assert (await shop.chat()).outputs == ()
    async with connected(shop.dsn) as connection:
        await connection.execute(LINK, days)
    said = await shop.chat(*(customer("price", id=f"M{n}") for n in range(5)), IDLE)
    assert said.said_to() == [PRICES] * answers


async def test_a_number_warms_up_in_the_very_run_that_links_it(shop: Shop) -> None:
    paced(shop, daily=10, first_day=1)
    config = load(shop.folder / "config.yaml", environ={}, dotenv=shop.folder / "none")
    events, heard = Events(), list[Event]()
    events.listen(heard.append)
    clock = VirtualClock()
    database = await Database.open(shop.dsn)
    async with simulated(config, database, clock, events) as simulation:
        simulation.transport.arrive(Paired(jid=phone_jid(OWNER), lid=None))
        await until(lambda: database.fetchval("SELECT paired_at IS NOT NULL FROM sidestep.accounts"))
        for n in range(3):
            await simulation.say(Spoken(who="customer", text="price", external_id=ExternalId(f"M{n}")))
            await clock.settle()
    await database.close()
    assert [e.due.outgoing.text for e in heard if isinstance(e, Said) and e.due.answers] == [PRICES]


def bot(rounds: int, words: str = "", *, wait: str = "1s") -> list[Line]:
    """Another bot answers each answer after a second."""
    lines: list[Line] = []
    for n in range(rounds):
        lines += [customer(words or f"price, dear customer {n}", id=f"B{n}"), IDLE, advance(wait)]
    return lines


async def test_another_bot_is_left_alone_for_an_hour_and_the_owner_told_once(shop: Shop) -> None:
    said = await shop.chat(*bot(12), advance("1h"), customer("price", id="back"), IDLE)
    # The first was no answer to anything.
    assert [said.decided(f"B{n}") for n in range(8)] == [[Action.KEYWORD_REPLIED]] * 8
    # The message carries the end of the pause, as well, which the clock brings.
    assert said.decided("B8")[0] is Action.IGNORED_LOOP
    assert [said.decided(f"B{n}")[0] for n in range(9, 12)] == [Action.IGNORED_PAUSED] * 3
    assert said.decided("back") == [Action.KEYWORD_REPLIED]
    assert len([text for text in said.notices if "another bot" in text]) == 1
    told = json.loads((await shop.run("why", "B8", "--json", DATABASE_URL=shop.dsn)).out.splitlines()[0])
    assert told["detail"] == "8 answers in a row within 4 s of ours"
    paused = json.loads((await shop.run("why", "B9", "--json", DATABASE_URL=shop.dsn)).out.splitlines()[0])
    assert paused["detail"].startswith("bot_loop, since")


async def test_the_owner_calls_the_bot_back_from_a_loop(shop: Shop) -> None:
    shop.configure(
        CONFIG.replace("auto_resume_after: 2h", "auto_resume_after: 2h\n    timezone: America/Sao_Paulo")
    )
    said = await shop.chat(
        *(*bot(9), owner("/resume", id="resume"), IDLE, customer("price", id="after"), IDLE),
    )
    assert said.decided("B8") == [Action.IGNORED_LOOP]
    assert said.decided("after") == [Action.KEYWORD_REPLIED]
    # The day is named only where it is another one.
    assert re.search(r" until ([^ ]+ [^ ]+ )?\d\d:\d\d \(in 1 h\); /resume", said.notices[0])


async def test_one_that_repeats_itself_is_a_bot_though_it_takes_its_time(shop: Shop) -> None:
    shop.configure(f"{CONFIG}\nanswer: {{same_answer: never}}\n")
    said = await shop.chat(*bot(7, "We are away. What is the price?", wait="20s"))
    assert [len(said.decided(f"B{n}")) for n in range(7)] == [1] * 7
    assert [o for n in range(7) for o in said.decided(f"B{n}")] == [
        *[Action.KEYWORD_REPLIED] * 5,
        Action.IGNORED_LOOP,
        Action.IGNORED_PAUSED,
    ]


@pytest.mark.parametrize("kind", ["audio", "image", "location"])
async def test_what_has_no_words_is_never_the_same_again(shop: Shop, kind: str) -> None:
    said = await shop.chat(
        *(
            line
            for n in range(8)
            for line in ({"from": "customer", "type": kind, "id": f"M{n}"}, IDLE, advance("30s"))
        )
    )
    assert said.said_to() == [DEFAULT] * 8


async def test_who_taps_the_numbers_of_a_menu_is_no_bot(shop: Shop) -> None:
    said = await shop.chat(
        *(line for n in range(16) for line in (customer(str(n % 3), id=f"M{n}"), IDLE, advance("2s")))
    )
    assert said.said_to() == [DEFAULT] * 16


async def test_people_in_a_hurry_are_no_loop(shop: Shop) -> None:
    in_no_time = [line for n in range(20) for line in (customer("price", id=f"M{n}"), IDLE)]
    at_ease = [
        line
        for n in range(20)
        for line in (customer(f"price {n}", id=f"A{n}", chat=OTHER), IDLE, advance("6s"))
    ]
    said = await shop.chat(*in_no_time, *at_ease)
    assert said.said_to(CUSTOMER) == [PRICES] * 20
    assert said.said_to(OTHER) == [PRICES] * 20


async def test_the_same_answer_to_the_same_question_is_not_given_a_third_time(shop: Shop) -> None:
    ask = [line for n in range(4) for line in (customer("Price?", id=f"M{n}"), IDLE, advance("6s"))]
    said = await shop.chat(
        *ask, customer("open?", id="other"), IDLE, advance("2m"), customer("price?", id="later"), IDLE
    )
    assert [said.decided(f"M{n}") for n in range(4)] == [
        *[[Action.KEYWORD_REPLIED]] * 2,
        *[[Action.IGNORED_REPEAT]] * 2,
    ]
    assert said.said_to(CUSTOMER) == [PRICES, PRICES, HOURS, PRICES]
