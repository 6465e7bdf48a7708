"""What a customer's commands do and say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.contract import OptOut, Pause
from storage.models import Action, PauseReason, Role
from storage.notify import NoticeKind
from tests.unit.flow_world import ANA, OPTED_OUT, TAKEN_OVER, given, paused


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
    assert result.effects == (OptOut(chat_id=ANA.chat_id, out=True),)
    assert "/start" in result.text
    assert result.replies[0].unfenced
    again = await given("/stop", Role.CUSTOMER, chat=OPTED_OUT)
    assert (again.replies, again.effects, again.action) == ((), (), Action.IGNORED_OPTED_OUT)


async def test_start_brings_a_customer_back() -> None:
    result = await given("/start", Role.CUSTOMER, chat=OPTED_OUT)
    assert result.effects == (OptOut(chat_id=ANA.chat_id, out=False),)
    assert result.replies[0].unfenced
    assert not (await given("/start", Role.CUSTOMER)).effects


async def test_stop_and_start_are_obeyed_without_a_word_while_a_person_is_in_the_chat() -> None:
    stopped = await given("/stop", Role.CUSTOMER, chat=TAKEN_OVER)
    assert stopped.effects == (OptOut(chat_id=ANA.chat_id),)
    assert (stopped.replies, stopped.action, stopped.detail) == ((), Action.COMMAND_DONE, "stop_unanswered")
    gone = replace(
        TAKEN_OVER, session=replace(TAKEN_OVER.session, opted_out_at=OPTED_OUT.session.opted_out_at)
    )
    started = await given("/start", Role.CUSTOMER, chat=gone)
    assert started.effects == (OptOut(chat_id=ANA.chat_id, out=False),)
    assert (started.replies, started.action) == ((), Action.COMMAND_DONE)
