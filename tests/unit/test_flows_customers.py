"""What a customer's commands do and say."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from flows.contract import OptOut, Pause
from flows.registry import COMMANDS
from flows.texts import Texts
from storage.hours import Hours
from storage.models import Action, ChatSummary, PauseReason, Role
from storage.notify import NoticeKind
from tests.unit.flow_world import ANA, NOW, OPTED_OUT, TAKEN_OVER, TENANT, given, paused


async def test_human_hands_over_and_tells_both() -> None:
    result = await given("/human", Role.CUSTOMER)
    assert result.effects == (Pause(chat_id=ANA.chat_id, reason=PauseReason.CUSTOMER_REQUEST, until=None),)
    assert [reply.unfenced for reply in result.replies] == [True]
    [told] = result.tells
    assert (told.kind, told.chat_id) == (NoticeKind.HANDOFF, ANA.chat_id)
    assert "Ana Souza (+5511999990001)" in told.text
    assert result.action is Action.HANDED_OFF


async def test_human_again_does_not_nag_the_owner() -> None:
    result = await given("/human", Role.CUSTOMER, chat=paused(ANA, pause_reason=PauseReason.CUSTOMER_REQUEST))
    assert (result.effects, result.tells) == ((), ())
    assert len(result.replies) == 1


async def test_human_never_speaks_over_a_person_who_is_there() -> None:
    result = await given("/human", Role.CUSTOMER, chat=TAKEN_OVER)
    assert (result.effects, result.replies) == ((), ())
    assert result.action is Action.HANDED_OFF
    assert len(result.tells) == 1


@pytest.mark.parametrize("name", ["help", "start"])
async def test_chatty_commands_are_silent_while_the_bot_is(name: str) -> None:
    result = await given(f"/{name}", Role.CUSTOMER, chat=TAKEN_OVER)
    assert (result.replies, result.action) == ((), Action.IGNORED_PAUSED)
    everywhere = replace(ANA, session=replace(ANA.session, global_pause=True))
    result = await given(f"/{name}", Role.CUSTOMER, chat=everywhere)
    assert (result.replies, result.action) == ((), Action.IGNORED_GLOBAL_PAUSE)


async def test_stop_says_goodbye_once_and_tells_the_way_back() -> None:
    result = await given("/stop", Role.CUSTOMER)
    assert result.effects == (OptOut(chat_id=ANA.chat_id, asked_at=NOW),)
    assert "/start" in result.text
    assert result.replies[0].unfenced
    again = await given("/stop", Role.CUSTOMER, chat=OPTED_OUT)
    assert (again.replies, again.action) == ((), Action.IGNORED_OPTED_OUT)


async def test_start_brings_a_customer_back() -> None:
    result = await given("/start", Role.CUSTOMER, chat=OPTED_OUT)
    assert result.effects == (OptOut(chat_id=ANA.chat_id, asked_at=NOW, out=False),)
    assert result.replies[0].unfenced
    assert not (await given("/start", Role.CUSTOMER)).effects


async def test_stop_and_start_are_obeyed_without_a_word_while_a_person_is_in_the_chat() -> None:
    stopped = await given("/stop", Role.CUSTOMER, chat=TAKEN_OVER)
    assert stopped.effects == (OptOut(chat_id=ANA.chat_id, asked_at=NOW),)
    assert (stopped.replies, stopped.action, stopped.detail) == ((), Action.COMMAND_DONE, "stop_unanswered")
    gone = replace(
        TAKEN_OVER, session=replace(TAKEN_OVER.session, opted_out_at=OPTED_OUT.session.opted_out_at)
    )
    started = await given("/start", Role.CUSTOMER, chat=gone)
    assert started.effects == (OptOut(chat_id=ANA.chat_id, asked_at=NOW, out=False),)
    assert (started.replies, started.action) == ((), Action.COMMAND_DONE)


@pytest.mark.parametrize("chat", [ANA, OPTED_OUT], ids=["in", "out"])
@pytest.mark.parametrize("name", ["stop", "start"])
async def test_the_wish_that_was_written_last_holds_whichever_comes_last(
    name: str, chat: ChatSummary
) -> None:
    wished = replace(chat, session=replace(chat.session, opted_at=NOW))
    late = await given(f"/{name}", Role.CUSTOMER, chat=wished, written_at=NOW - timedelta(seconds=1))
    assert (late.effects, late.replies, late.action) == ((), (), Action.SUPERSEDED)


OURS = Texts(
    person="Já vem alguém.",
    person_closed="Abrimos {date} às {time}.",
    goodbye="Até logo.",
    welcome="Olá!",
    welcome_back="Que bom!",
    help="Envie /human.",
    help_in_group="Mencione-me.",
)
CLOSED = replace(TENANT, hours=Hours(week=(((9 * 60, 10 * 60),),) * 7, holidays={}))
"""In the tests it is two in the afternoon."""


async def test_all_that_a_customer_s_command_is_answered_with_is_in_the_owner_s_words() -> None:
    group = replace(ANA, is_group=True)
    assert [
        (await given("/human", Role.CUSTOMER, texts=OURS)).replies[0].text,
        (await given("/human", Role.CUSTOMER, texts=OURS, tenant=CLOSED)).replies[0].text,
        (await given("/stop", Role.CUSTOMER, texts=OURS)).text,
        (await given("/start", Role.CUSTOMER, texts=OURS)).text,
        (await given("/start", Role.CUSTOMER, texts=OURS, chat=OPTED_OUT)).text,
        (await given("/help", Role.CUSTOMER, texts=OURS)).text,
        (await given("/help", Role.CUSTOMER, texts=OURS, chat=group)).text,
    ] == [
        "Já vem alguém.",
        "Abrimos 2026-03-11 às 09:00.",
        "Até logo.",
        "Olá!",
        "Que bom!",
        "Envie /human.",
        "Mencione-me.",
    ]


def test_the_help_that_comes_with_us_names_each_command_of_a_customer_s() -> None:
    named = [line.split(" ")[0] for line in Texts().help.splitlines()[1:]]
    assert named == [f"/{name}" for name, command in COMMANDS.items() if Role.CUSTOMER in command.roles]
