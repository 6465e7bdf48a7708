"""`sidestep chat --jsonl`: the bot answers, steps aside for the owner, and comes back; told line by line."""

from __future__ import annotations

import re

import pytest

from storage.models import Action, Status
from tests.acceptance.conversation import (
    CUSTOMER,
    DEFAULT,
    HOURS,
    IDLE,
    OWNER,
    PRICES,
    Decision,
    Line,
    Shop,
    StatusLine,
    admin,
    advance,
    customer,
    owner,
)
from tests.acceptance.invariants import assert_all_is_well, recorded_texts
from tests.acceptance.program import ROOT

OTHER = "+5511988880002"


async def test_a_customers_question_is_answered(shop: Shop) -> None:
    heard = await shop.chat(customer("How much is it?", id="Q"), IDLE)
    [reply] = heard.replies
    assert (reply.chat, reply.to, reply.in_reply_to, reply.text) == (CUSTOMER, CUSTOMER, ("Q",), PRICES)
    assert heard.outputs == (
        Decision(kind="decision", id="Q", chat=CUSTOMER, action=Action.KEYWORD_REPLIED),
        reply,
        StatusLine(kind="status", id=reply.id, status=Status.SENT),
    )
    await assert_all_is_well(shop.dsn)


async def test_an_id_is_the_lines_number_unless_given(shop: Shop) -> None:
    heard = await shop.chat(customer("price"), b"", IDLE, customer("hours"))
    assert [r.in_reply_to for r in heard.replies] == [("line-1",), ("line-4",)]


async def test_help_lists_the_customers_commands_and_no_others(shop: Shop) -> None:
    heard = await shop.chat(customer("/help", id="H"))
    [reply] = heard.replies
    assert all(word in reply.text for word in ("/help", "/human", "/stop"))
    assert not any(word in reply.text for word in ("/pause", "/global", "/why", "/exclude"))
    assert heard.decided("H") == [Action.COMMAND_DONE]


async def test_the_owner_takes_over_and_calls_the_bot_back(shop: Shop) -> None:
    heard = await shop.chat(
        *(customer("How much?", id="before"), IDLE),
        *(owner("Hi, it's me. What would you like?", id="takeover"), IDLE),
        *(customer("How much are two?", id="during"), IDLE),
        *(owner("/resume", id="resume"), IDLE),
        *(customer("And when are you open?", id="after"), IDLE),
    )
    assert [o.in_reply_to for o in heard.replies] == [("before",), ("after",)]
    assert heard.said_to() == [PRICES, HOURS]
    assert heard.decided("takeover") == [Action.PAUSED]
    assert heard.decided("during") == [Action.IGNORED_PAUSED]
    assert heard.decided("resume") == [Action.RESUMED]
    assert len(heard.notices) == 1
    # What was left alone is recorded all the same, and what the owner commanded was taken back, which is recorded, too.
    assert await recorded_texts(shop.dsn, CUSTOMER) == [
        *("How much?", PRICES, "Hi, it's me. What would you like?", "How much are two?"),
        *("/resume", None, "And when are you open?", HOURS),
    ]
    await assert_all_is_well(shop.dsn)


async def test_a_question_that_the_owner_answers_first_is_the_owners(shop: Shop) -> None:
    heard = await shop.chat(customer("How much?", id="Q"), owner("Ten!", id="A"))
    assert heard.replies == []
    assert heard.decided("Q") == [Action.SUPERSEDED]
    assert heard.decided("A") == [Action.PAUSED]


async def test_the_owner_in_one_chat_silences_no_other(shop: Shop) -> None:
    heard = await shop.chat(
        *(owner("Hi!"), customer("price"), customer("price", chat=OTHER, id="other"), IDLE),
    )
    assert heard.said_to(CUSTOMER) == []
    assert heard.said_to(OTHER) == [PRICES]


async def test_five_quick_lines_get_one_answer_and_five_decisions(shop: Shop) -> None:
    lines = ["Hello", "I have a question", "about the cakes", "the big ones", "how much?"]
    heard = await shop.chat(*(customer(text, id=f"L{n}") for n, text in enumerate(lines)), IDLE)
    [reply] = heard.replies
    assert reply.in_reply_to == ("L0", "L1", "L2", "L3", "L4")
    assert [heard.decided(f"L{n}") for n in range(5)] == [[Action.JOINED]] * 4 + [[Action.KEYWORD_REPLIED]]
    await assert_all_is_well(shop.dsn)


async def test_a_burst_ends_when_the_customer_pauses(shop: Shop) -> None:
    heard = await shop.chat(
        *(customer("hello", id="1"), advance("1s"), customer("how much?", id="2"), advance("1.5s")),
        *(customer("price", id="3"), advance("3s"), customer("hours", id="4")),
    )
    assert [r.in_reply_to for r in heard.replies] == [("1", "2", "3"), ("4",)]


@pytest.mark.parametrize("between", [(), (IDLE,)], ids=["at once", "after the answer"])
async def test_the_same_id_twice_is_recorded_and_answered_once(shop: Shop, between: tuple[Line, ...]) -> None:
    heard = await shop.chat(customer("price", id="same"), *between, customer("price", id="same"), IDLE)
    assert heard.said_to() == [PRICES]
    assert sorted(heard.decided("same")) == [Action.DUPLICATE, Action.KEYWORD_REPLIED]
    assert await recorded_texts(shop.dsn, CUSTOMER) == ["price", PRICES]
    await assert_all_is_well(shop.dsn)


async def test_the_same_id_in_two_chats_is_two_messages(shop: Shop) -> None:
    heard = await shop.chat(customer("price", id="X"), customer("hours", id="X", chat=OTHER))
    assert (heard.said_to(CUSTOMER), heard.said_to(OTHER)) == ([PRICES], [HOURS])
    assert heard.decided("X") == [Action.KEYWORD_REPLIED] * 2


async def test_a_takeover_ends_by_clock(shop: Shop) -> None:
    heard = await shop.chat(
        *(owner("I am here", id="takeover"), IDLE, advance("1h59m"), customer("price", id="early"), IDLE),
        *(advance("3h"), customer("price", id="late"), IDLE),
    )
    assert heard.decided("early") == [Action.IGNORED_PAUSED]
    assert heard.decided("takeover") == [Action.PAUSED, Action.RESUMED]
    assert [r.in_reply_to for r in heard.replies] == [("late",)]
    await assert_all_is_well(shop.dsn)


async def test_the_owners_every_line_begins_the_wait_anew(shop: Shop) -> None:
    heard = await shop.chat(
        *(owner("One"), advance("90m"), owner("Two", id="two"), advance("90m")),
        *(customer("price", id="still"), IDLE, advance("31m"), customer("price", id="back"), IDLE),
    )
    assert heard.decided("two") == [Action.HUMAN_SPOKE, Action.RESUMED]
    assert heard.decided("still") == [Action.IGNORED_PAUSED]
    assert heard.decided("back") == [Action.KEYWORD_REPLIED]


async def test_a_pause_by_command_ends_only_by_command_or_at_its_time(shop: Shop) -> None:
    heard = await shop.chat(
        *(customer("hello"), customer("hello", chat=OTHER), IDLE),
        *(owner("/pause"), owner("/pause 4h", chat=OTHER), IDLE, advance("3h")),
        *(customer("price", id="1"), customer("price", chat=OTHER, id="2"), IDLE, advance("2h")),
        *(customer("price", id="3"), customer("price", chat=OTHER, id="4"), IDLE),
    )
    assert [heard.decided(n)[0] for n in "123"] == [Action.IGNORED_PAUSED] * 3
    assert heard.decided("4") == [Action.KEYWORD_REPLIED]


async def test_the_end_of_input_waits_for_answers_but_for_no_return(shop: Shop) -> None:
    heard = await shop.chat(owner("Hi", id="takeover"), customer("price", chat=OTHER))
    assert heard.said_to(OTHER) == [PRICES]
    assert heard.decided("takeover") == [Action.PAUSED]


async def test_a_pause_and_a_conversation_outlive_the_process(shop: Shop) -> None:
    await shop.chat(customer("price", id="1"), IDLE, owner("Hi", id="2"))
    heard = await shop.chat(customer("price", id="3"), customer("price", id="1"), IDLE, owner("/resume"))
    assert heard.decided("3") == [Action.IGNORED_PAUSED]
    assert heard.decided("1") == [Action.DUPLICATE]
    assert heard.replies == []


async def test_a_message_from_long_ago_is_recorded_and_not_answered(shop: Shop) -> None:
    heard = await shop.chat(
        customer("price", id="old", at="2020-01-31T12:00:00Z"),
        customer("price", id="older than WhatsApp", at="0001-01-01T00:00:00Z"),
        *(IDLE, customer("hours", id="new"), IDLE),
    )
    assert heard.decided("old") == heard.decided("older than WhatsApp") == [Action.IGNORED_TOO_OLD]
    assert [r.in_reply_to for r in heard.replies] == [("new",)]


async def test_in_a_group_only_who_names_us_is_answered(shop: Shop) -> None:
    group, ana = "120363000000000001", "+5511977770001"
    heard = await shop.chat(
        customer("price", group=group, sender=ana, id="aside"),
        *(IDLE, customer("price", group=f"{group}@g.us", sender=ana, mention=True, id="mention"), IDLE),
        *(owner("I say something too", group=group, id="owner"), IDLE),
        *(customer("hours", group=group, sender=ana, mention=True, id="again"), IDLE),
    )
    assert heard.decided("aside") == [Action.IGNORED_GROUP]
    assert heard.decided("owner") == [Action.HUMAN_SPOKE]
    assert [(r.chat, r.in_reply_to) for r in heard.replies] == [(group, ("mention",)), (group, ("again",))]


@pytest.mark.parametrize("pause", ["0s", "2.1s"], ids=["in one debounce", "while the answer is typed"])
async def test_in_a_group_each_member_has_an_answer_of_their_own(shop: Shop, pause: str) -> None:
    group, ana, ben = "120363000000000001", "+5511977770001", "+5511977770002"
    heard = await shop.chat(
        customer("price", group=group, sender=ana, mention=True, id="a"),
        *(advance(pause), customer("hours", group=group, sender=ben, mention=True, id="b")),
        *(customer("and until?", group=group, sender=ben, mention=True, id="c"), IDLE),
    )
    assert [(r.in_reply_to, r.text) for r in heard.replies] == [(("a",), PRICES), (("b", "c"), HOURS)]
    assert heard.decided("a") == [Action.KEYWORD_REPLIED]


async def test_help_in_a_group_offers_nothing_that_does_nothing_there(shop: Shop) -> None:
    heard = await shop.chat(customer("/help", group="120363000000000001", sender="+5511977770001"), IDLE)
    [reply] = heard.replies
    assert "/" not in reply.text


async def test_in_a_group_a_quote_of_the_bot_is_answered(shop: Shop) -> None:
    group, ana = "120363000000000001", "+5511977770001"
    async with shop.conversation() as conversation:
        conversation.say(customer("price", group=group, sender=ana, mention=True), IDLE)
        first = await conversation.reply()
        conversation.say(customer("and hours?", group=group, sender=ana, reply_to=first.id))
        heard = await conversation.ended()
    assert [r.text for r in heard.replies] == [PRICES, HOURS]


async def test_receipts_only_move_forward(shop: Shop) -> None:
    async with shop.conversation() as conversation:
        conversation.say(customer("price"), IDLE)
        reply = await conversation.reply()
        conversation.say(*({"receipt": status, "id": reply.id} for status in ("delivered", "delivered")))
        conversation.say(*({"receipt": status, "id": reply.id} for status in ("read", "delivered", "read")))
        conversation.say({"receipt": "read", "id": "nobody knows it"})
        heard = await conversation.ended()
    assert heard.statuses(reply.id) == [Status.SENT, Status.DELIVERED, Status.READ]
    assert [o for o in heard.outputs if isinstance(o, StatusLine) and o.id != reply.id] == []
    assert list(heard.errors) == [8]
    # What an earlier run has sent is known, too.
    assert (await shop.chat({"receipt": "read", "id": reply.id})).errors == {}


async def test_what_says_nothing_in_words_needs_no_text(shop: Shop) -> None:
    heard = await shop.chat(
        {"from": "customer", "type": "image", "id": "picture"},
        *(
            customer("price", id="asked"),
            {"from": "customer", "type": "revoke", "reply_to": "asked", "id": "gone"},
        ),
        IDLE,
    )
    assert heard.errors == {}
    assert heard.decided("picture") != []
    assert heard.decided("asked") == [Action.SUPERSEDED]
    assert heard.decided("gone") == [Action.IGNORED_UNSUPPORTED]


async def test_a_customer_who_is_typing_is_waited_for(shop: Shop) -> None:
    # Without a word of it the answer would be under way after two seconds, and gone after three.
    heard = await shop.chat(
        *(customer("price", id="1"), advance("1s"), {"typing": True}, advance("1.8s")),
        *(customer("and hours", id="2"), IDLE),
        *(customer("price", id="3"), advance("1s"), {"typing": True, "chat": OTHER}, advance("1.8s")),
        *(customer("and hours", id="4"), {"typing": False}, IDLE),
    )
    assert [r.in_reply_to for r in heard.replies] == [("1", "2"), ("3",), ("4",)]


async def test_sixty_chats_at_once_are_each_answered_in_order(shop: Shop) -> None:
    chats = [f"+55119777700{n:02}" for n in range(60)]
    first = [customer("price", chat=chat, id=f"{chat}-1") for chat in chats]
    second = [customer("hours", chat=chat, id=f"{chat}-2") for chat in chats]
    heard = await shop.chat(*first, IDLE, *second, IDLE)
    assert {chat: heard.said_to(chat) for chat in chats} == {chat: [PRICES, HOURS] for chat in chats}
    await assert_all_is_well(shop.dsn)


async def test_what_nobody_can_match_gets_the_default_and_never_an_empty_reply(shop: Shop) -> None:
    texts = ["", "   ", "🎂🎉", "؟", "/nonsense", "привет", "x" * 60_000]
    heard = await shop.chat(*(line for text in texts for line in (customer(text), IDLE)))
    assert set(heard.said_to()) == {DEFAULT}


async def test_an_empty_default_is_silence(shop: Shop) -> None:
    config = (shop.folder / "config.yaml").read_text(encoding="utf-8")
    shop.configure(config.replace(DEFAULT, ""))
    heard = await shop.chat(customer("something else", id="1"), IDLE, customer("price", id="2"), IDLE)
    assert heard.said_to() == [PRICES]
    assert len(heard.decided("1")) == 1


async def test_media_are_answered_by_their_caption_and_a_sticker_is_not(shop: Shop) -> None:
    heard = await shop.chat(
        *(customer("how much is this?", type="image", id="image"), IDLE),
        *(customer("", type="sticker", id="sticker"), customer("", type="reaction", id="reaction"), IDLE),
    )
    assert heard.said_to() == [PRICES]
    assert heard.decided("sticker") == heard.decided("reaction") == [Action.IGNORED_UNSUPPORTED]


async def test_what_is_corrected_or_taken_back_before_the_answer_is_answered_as_it_reads_then(
    shop: Shop,
) -> None:
    heard = await shop.chat(
        *(customer("prize", id="1"), customer("price", id="2", type="edit", reply_to="1"), IDLE),
        *(customer("hours", id="3"), customer("", id="4", type="revoke", reply_to="3"), IDLE),
        *(customer("price", id="5", type="edit", reply_to="1"), IDLE),
    )
    assert heard.said_to() == [PRICES]
    assert heard.decided("1") == [Action.KEYWORD_REPLIED]
    assert heard.decided("3") == [Action.SUPERSEDED]
    assert heard.decided("2") == heard.decided("4") == heard.decided("5") == [Action.IGNORED_UNSUPPORTED]


async def test_message_yourself_is_for_commands_and_pauses_nobody(shop: Shop) -> None:
    heard = await shop.chat(
        *(customer("hello", name="Ana"), IDLE),
        *(owner("buy milk", chat=OWNER, id="note"), owner("/status", chat=OWNER, id="status"), IDLE),
        *(owner("/pause Ana", chat=OWNER), owner("/puase Ana", chat=OWNER, id="typo"), IDLE),
        *(customer("price", id="paused"), IDLE),
    )
    assert heard.decided("note") == [Action.HUMAN_SPOKE]
    assert heard.decided("status") == [Action.COMMAND_DONE]
    assert heard.decided("paused") == [Action.IGNORED_PAUSED]
    assert len(heard.notices) == 3
    assert [r.text for r in heard.replies] == [DEFAULT]


async def test_the_admins_own_words_are_a_customers_words(shop: Shop) -> None:
    heard = await shop.chat(admin("how much?", id="A"), IDLE)
    assert heard.decided("A") == [Action.KEYWORD_REPLIED]


@pytest.mark.parametrize("page", ["README.md", "docs/jsonl.md"])
async def test_what_a_page_shows_is_what_is_printed(shop: Shop, page: str) -> None:
    shop.configure((ROOT / "config.yaml").read_text(encoding="utf-8"))
    [example] = re.findall(r"^```console\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)
    typed = re.findall(r"'(\{.*?\})'", example)
    finished = await shop.run("chat", "--jsonl", "--database", shop.dsn, stdin="\n".join(typed).encode())
    assert (finished.code, finished.err) == (0, "")
    # What the bot sends has other ids in each run; the number at their end counts.
    printed, shown = (re.sub(r"3EB0[0-9A-F]{6}", "3EB0", text) for text in (finished.out, example))
    assert printed.splitlines() == re.findall(r"^\{.*$", shown, re.M)
