"""Commands in the chat: each does what it says, tells only whom it concerns, and obeys only whose it is."""

from __future__ import annotations

from storage.models import Action
from tests.acceptance.conversation import (
    ADMIN,
    CONFIG,
    CUSTOMER,
    DEFAULT,
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
from tests.acceptance.invariants import assert_all_is_well
from tests.conftest import connected

OTHER = "+5511988880002"


def each_answered(*lines: Line) -> list[Line]:
    """The lines, each with a wait after it."""
    return [step for line in lines for step in (line, IDLE)]


async def test_a_customer_may_stop_the_bot_and_start_it_again(shop: Shop) -> None:
    heard = await shop.chat(
        *each_answered(
            customer("/stop", id="stop"),
            customer("price", id="silence"),
            customer("/stop", id="stop again"),
            customer("/help", id="help"),
            customer("/start", id="start"),
            customer("price", id="back"),
        )
    )
    assert heard.decided("silence") == [Action.IGNORED_OPTED_OUT]
    assert heard.decided("stop again") == [Action.IGNORED_OPTED_OUT]
    assert [r.in_reply_to[0] for r in heard.replies] == ["stop", "help", "start", "back"]
    assert heard.notices == []


async def test_no_human_and_no_admin_brings_the_bot_back_to_who_has_stopped_it(shop: Shop) -> None:
    heard = await shop.chat(
        *each_answered(customer("/stop"), owner("/resume"), customer("price", id="silence")),
        *each_answered(owner("Hi"), advance("3h"), customer("price", id="later")),
    )
    assert heard.decided("silence") == heard.decided("later") == [Action.IGNORED_OPTED_OUT]


async def test_who_asks_for_a_person_is_left_to_one(shop: Shop) -> None:
    heard = await shop.chat(
        *each_answered(
            customer("/human", id="human", name="Ana"),
            customer("price", id="waiting"),
            customer("/human", id="again"),
        ),
        *each_answered(advance("3h"), customer("price", id="by clock")),
    )
    assert heard.decided("human") == heard.decided("again") == [Action.HANDED_OFF]
    assert heard.decided("waiting") == [Action.IGNORED_PAUSED]
    assert heard.decided("by clock") == [Action.KEYWORD_REPLIED]
    asked, back = heard.notices
    assert asked.startswith(f"Ana ({CUSTOMER}) asks for a person.")
    assert back == f"I answer Ana ({CUSTOMER}) again."


async def test_a_customers_staff_command_is_refused_and_tells_nothing(shop: Shop) -> None:
    commands = (
        "status",
        "pause",
        "resume",
        "exclude",
        "include",
        "global pause",
        "reset",
        "why line-1",
        "search price",
        "stats",
        "failed",
    )
    heard = await shop.chat(*each_answered(*(customer(f"/{c}", id=c) for c in commands)))
    assert {c: heard.decided(c) for c in commands} == {c: [Action.COMMAND_REFUSED] for c in commands}
    assert heard.replies == []
    assert heard.notices == []
    assert (await shop.chat(customer("price"))).said_to() == [PRICES]


async def test_an_admin_commands_from_their_own_chat_and_is_answered_there(shop: Shop) -> None:
    ana, ben = customer("hello", name="Ana"), customer("hello", name="Ben", chat=OTHER)
    heard = await shop.chat(
        *each_answered(ana, ben, admin("/pause Ana", id="pause"), customer("price", id="Ana")),
        *each_answered(customer("price", chat=OTHER, id="Ben"), admin("/status", id="status")),
        *each_answered(admin(f"/resume {CUSTOMER}"), customer("price", id="Ana again")),
    )
    assert heard.decided("pause") == [Action.PAUSED]
    assert heard.decided("Ana") == [Action.IGNORED_PAUSED]
    assert heard.decided("Ben") == heard.decided("Ana again") == [Action.KEYWORD_REPLIED]
    to_admin = heard.said_to(ADMIN)
    assert len(to_admin) == 3
    assert CUSTOMER in to_admin[1]
    assert OTHER not in to_admin[1]
    assert heard.notices == []
    assert heard.said_to(CUSTOMER) == [DEFAULT, PRICES]
    await assert_all_is_well(shop.dsn)


async def test_an_excluded_chat_is_never_answered_until_included(shop: Shop) -> None:
    heard = await shop.chat(
        *each_answered(customer("hello"), admin(f"/exclude {CUSTOMER}"), customer("price", id="1")),
        *each_answered(advance("30d"), customer("price", id="2"), customer("/human", id="3")),
        *each_answered(owner("/include"), customer("price", id="4")),
    )
    assert heard.decided("1") == heard.decided("2") == heard.decided("3") == [Action.IGNORED_EXCLUDED]
    assert heard.decided("4") == [Action.KEYWORD_REPLIED]


async def test_no_answer_to_a_command_starts_after_a_global_pause(shop: Shop) -> None:
    async with shop.conversation() as conversation:
        # The list is being typed, for some seconds.
        conversation.say(customer("/help", id="help"), owner("/global pause", chat=OWNER), IDLE)
        conversation.say(customer("/stop", chat=OTHER, id="stop"), IDLE, owner("/global resume", chat=OWNER))
        conversation.say(IDLE, customer("price", chat=OTHER, id="price"), IDLE)
        heard = await conversation.ended()
    assert heard.replies == []
    assert heard.decided("help") == heard.decided("stop") == [Action.COMMAND_DONE]
    assert heard.decided("price") == [Action.IGNORED_OPTED_OUT]
    assert "all chats were paused" in "\n".join(await shop.why("help"))
    await assert_all_is_well(shop.dsn)


async def test_a_global_pause_silences_every_chat_and_ends_no_other_pause(shop: Shop) -> None:
    heard = await shop.chat(
        *each_answered(owner("Hi"), owner("/global pause", chat=OWNER), customer("price", id="1")),
        *each_answered(customer("price", chat=OTHER, id="2"), admin("/global resume")),
        *each_answered(customer("price", id="3"), customer("price", chat=OTHER, id="4")),
    )
    assert heard.decided("2") == [Action.IGNORED_GLOBAL_PAUSE]
    assert heard.decided("1")[0] in (Action.IGNORED_GLOBAL_PAUSE, Action.IGNORED_PAUSED)
    assert heard.decided("3") == [Action.IGNORED_PAUSED]
    assert heard.decided("4") == [Action.KEYWORD_REPLIED]


async def test_why_and_reset_tell_the_admin(shop: Shop) -> None:
    heard = await shop.chat(
        *each_answered(customer("price", id="Q-1"), admin("/why Q-1"), admin("/why nothing")),
        *each_answered(admin(f"/reset {CUSTOMER}"), admin("/help")),
    )
    because, unknown, fresh, commands = heard.said_to(ADMIN)
    assert "keyword_replied" in because
    assert "sent" in because
    assert "no record" in unknown
    assert CUSTOMER in fresh
    assert all(word in commands for word in ("/status", "/pause", "/global", "/why", "/reset"))


BREAK = "ALTER FUNCTION sidestep.exclude RENAME TO gone; ALTER FUNCTION sidestep.opt_out RENAME TO gone_too"


async def test_a_command_that_fails_tells_who_gave_it_and_of_a_customer_s_the_owner(shop: Shop) -> None:
    async with connected(shop.dsn) as connection:
        await connection.execute(BREAK)
    async with shop.conversation() as conversation:
        conversation.say(*each_answered(customer("hello"), owner("/exclude", id="owner")))
        conversation.say(*each_answered(admin(f"/exclude {CUSTOMER}", id="admin")))
        conversation.say(*each_answered(customer("/stop", id="stop"), customer("price")))
        heard = await conversation.ended()
    assert [heard.decided(i) for i in ("owner", "admin", "stop")] == [[Action.FAILED]] * 3
    assert heard.revoked == ["owner"]
    assert [text.partition(":")[0] for text in heard.notices] == [
        "I could not carry out “/exclude”",
        f"I could not carry out “/stop” of {CUSTOMER}",
    ]
    assert f"“/exclude {CUSTOMER}”" in heard.said_to(ADMIN)[0]
    assert heard.said_to(CUSTOMER) == [DEFAULT, PRICES]
    assert heard.err.count('"command_failed"') == 3


async def test_a_command_is_no_takeover_and_waits_for_no_pause(shop: Shop) -> None:
    heard = await shop.chat(customer("price", id="Q"), owner("/status", id="status"), IDLE)
    assert heard.decided("status") == [Action.COMMAND_DONE]
    assert heard.decided("Q") == [Action.KEYWORD_REPLIED]
    assert len(heard.notices) == 1


async def test_without_an_admin_in_the_configuration_there_is_none_to_speak(shop: Shop) -> None:
    shop.configure(CONFIG.replace('admins: ["+5511999990001"]', "admins: []"))
    heard = await shop.chat(admin("/status"), IDLE, customer("price", id="Q"))
    assert list(heard.errors) == [1]
    assert "admin" in heard.errors[1]
    assert heard.decided("Q") == [Action.KEYWORD_REPLIED]


async def test_the_staff_looks_up_what_was_said_and_how_much(shop: Shop) -> None:
    heard = await shop.chat(
        *each_answered(
            customer("how much is the açaí?", name="Ana"), customer("bread", name="Ben", chat=OTHER)
        ),
        *each_answered(admin("/search acai"), admin("/search acai"), admin(f"/search {OTHER}: açaí")),
        *each_answered(owner("/search much", id="in her chat"), owner("/search bread", chat=OWNER)),
        *each_answered(admin("/stats"), admin("/stats Ben 2h"), owner("/failed"), admin("/help")),
    )
    found, again, elsewhere, everything, ben, commands = heard.said_to(ADMIN)
    assert f"Ana ({CUSTOMER})" in found
    assert "*açaí*" in found
    assert found.count("•") == again.count("•") == 1
    assert elsewhere.startswith("Nothing")
    here, own, failed = heard.notices
    assert "how *much* is" in here
    assert f"Ben ({OTHER})" in own
    assert own.count("•") == 1
    assert "I could send everything" in failed
    assert "in, " in everything
    assert "Ben" in ben
    assert "2 messages: 1 in, 1 out (1 by me, 0 by one of you)" in ben
    assert all(word in commands for word in ("/search", "/stats", "/failed"))
    assert heard.decided("in her chat") == [Action.COMMAND_DONE]
    assert heard.said_to(CUSTOMER) == [PRICES]
