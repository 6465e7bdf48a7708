"""What the staff's commands do and say, and to whom."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from flows.contract import Exclude, GlobalPause, Pause, Reset, Resume, ResumeAfter
from storage.models import (
    Action,
    ChatId,
    Explanation,
    ExternalId,
    MessageId,
    MessageType,
    OutboxEntry,
    PauseReason,
    Quarantined,
    Role,
    Status,
)
from tests.unit.flow_world import (
    ANA,
    BEN,
    NOW,
    OPTED_OUT,
    OWN,
    TAKEN_OVER,
    MemoryReader,
    chat,
    given,
    given_at_home,
    paused,
    said,
)

TWO_ANAS = MemoryReader(chats=(ANA, chat(3, "Ana Lima"), BEN))


@pytest.mark.parametrize(
    ("text", "action"),
    [("/pause", Action.PAUSED), ("/resume", Action.RESUMED), ("/reset", Action.COMMAND_DONE)],
)
async def test_in_a_customers_chat_the_target_is_that_chat(text: str, action: Action) -> None:
    result = await given(text)
    (effect,) = result.effects
    assert isinstance(effect, Pause | Resume | Reset)
    assert effect.chat_id == ANA.chat_id
    assert result.action is action


async def test_a_name_or_a_number_points_at_another_chat() -> None:
    assert (await given("/pause Ben 2h")).effects == (
        Pause(chat_id=BEN.chat_id, until=NOW + timedelta(hours=2), asked_at=NOW),
    )
    [resume] = (await given("/resume +55 11 99999-0002")).effects
    assert isinstance(resume, Resume)
    assert resume.chat_id == BEN.chat_id


async def test_who_has_written_since_a_resume_is_not_spoken_over() -> None:
    minute, first, last = timedelta(minutes=1), MessageId(1), MessageId(1 << 62)
    asked = NOW - 5 * minute
    # Written before it, though it came after it; at the same moment, before or after it; after it.
    for at, spoke, is_resumed in (
        (asked - minute, last, True),
        (asked, first, True),
        (asked, last, False),
        (asked + minute, first, False),
    ):
        session = replace(TAKEN_OVER.session, last_human_at=at, last_human_id=spoke)
        result = await given("/resume", chat=replace(TAKEN_OVER, session=session), written_at=asked)
        assert bool(result.effects) is is_resumed
        assert result.action is (Action.RESUMED if is_resumed else Action.SUPERSEDED)


@pytest.mark.parametrize("name", ["pause", "resume", "exclude", "include", "reset"])
@pytest.mark.parametrize("role", [Role.OWNER, Role.ADMIN])
async def test_in_ones_own_chat_a_name_is_asked_for(name: str, role: Role) -> None:
    result = await given_at_home(f"/{name}", role)
    assert "Add a name or a number" in result.text
    assert (result.effects, result.action) == ((), Action.COMMAND_REFUSED)


async def test_an_unknown_name_is_told_kindly_and_changes_nothing() -> None:
    result = await given_at_home("/pause Zoe 2h")
    assert "“Zoe”" in result.text
    assert (result.effects, result.action, result.detail) == ((), Action.COMMAND_REFUSED, "not_found")


async def test_an_ambiguous_name_is_asked_back_with_a_list() -> None:
    result = await given_at_home("/pause Ana 2h", reader=TWO_ANAS)
    assert "Ana Souza (+5511999990001)" in result.text
    assert "Ana Lima (+5511999990003)" in result.text
    assert (result.effects, result.action, result.detail) == ((), Action.COMMAND_REFUSED, "ambiguous")


async def test_a_customer_of_two_numbers_is_listed_with_the_number() -> None:
    twice = replace(ANA, chat_id=ChatId(7), account="van")
    result = await given_at_home("/pause +5511999990001", reader=MemoryReader(chats=(ANA, twice, BEN)))
    assert result.text.splitlines()[1:3] == [
        "1. Ana Souza (+5511999990001), who writes to +5511999990000",
        "2. Ana Souza (+5511999990001), who writes to van",
    ]


async def test_a_full_name_is_never_ambiguous() -> None:
    reader = MemoryReader(chats=(chat(3, "Ben Lima"), BEN))
    assert (await given_at_home("/pause ben", reader=reader)).effects == (
        Pause(chat_id=BEN.chat_id, asked_at=NOW),
    )


async def test_ones_own_chat_is_not_meant() -> None:
    reader = MemoryReader(chats=(OWN, chat(4, "Mercedes")))
    (effect,) = (await given_at_home("/pause Me", reader=reader)).effects
    assert effect == Pause(chat_id=chat(4, None).chat_id, asked_at=NOW)


@pytest.mark.parametrize("role", [Role.OWNER, Role.ADMIN])
@pytest.mark.parametrize(
    "text",
    [
        "/help",
        "/status",
        "/pause",
        "/resume",
        "/exclude",
        "/include",
        "/global pause",
        "/reset",
        "/why X",
        "/search cake",
        "/stats",
        "/failed",
        "/pause 2x",
    ],
)
async def test_the_staff_is_answered_by_notice_never_in_the_customers_chat(text: str, role: Role) -> None:
    result = await given(text, role)
    assert [notice.role for notice in result.notices] == [role]
    assert not result.replies


async def test_pause_lasts_as_long_as_told() -> None:
    result = await given("/pause until 18:00")
    assert result.effects == (Pause(chat_id=ANA.chat_id, until=NOW + timedelta(hours=4), asked_at=NOW),)
    assert "until 18:00 UTC (in 4 h)" in result.text
    result = await given("/pause")
    assert result.effects == (Pause(chat_id=ANA.chat_id, until=None, asked_at=NOW),)
    assert "/resume" in result.text


@pytest.mark.parametrize("wrong", ["/pause 2x", "/pause 99z", "/pause Bea until 25:00"])
async def test_a_bad_time_changes_nothing_and_shows_examples(wrong: str) -> None:
    result = await given(wrong)
    assert "/pause 2h30m" in result.text
    assert (result.effects, result.action, result.detail) == ((), Action.COMMAND_REFUSED, "bad_time")


@pytest.mark.parametrize("unclear", ["/global perhaps", "/why", "/search", "/nonsense"])
async def test_what_is_not_understood_is_not_said_to_be_done(unclear: str) -> None:
    assert (await given_at_home(unclear)).action is Action.COMMAND_REFUSED


async def test_resume_tells_what_else_keeps_it_silent() -> None:
    excluded = replace(ANA, session=replace(ANA.session, is_excluded=True))
    assert "/include" in (await given("/resume", chat=excluded)).text
    assert "only they can undo" in (await given("/resume", chat=OPTED_OUT)).text
    assert "/global resume" in (await given("/resume", reader=MemoryReader(is_globally_paused=True))).text


async def test_exclude_and_include_are_each_others_opposite() -> None:
    assert (await given("/exclude")).effects == (Exclude(chat_id=ANA.chat_id, asked_at=NOW),)
    assert (await given("/include")).effects == (Exclude(chat_id=ANA.chat_id, asked_at=NOW, excluded=False),)
    assert "/resume" in (await given("/include", chat=TAKEN_OVER)).text


@pytest.mark.parametrize(("word", "is_paused"), [("pause", True), ("Resume", False)])
async def test_global_is_for_all_chats(word: str, is_paused: bool) -> None:
    assert (await given_at_home(f"/global {word}")).effects == (GlobalPause(paused=is_paused, asked_at=NOW),)


@pytest.mark.parametrize("text", ["/global", "/global stop"])
async def test_global_without_a_known_word_changes_nothing(text: str) -> None:
    result = await given_at_home(text)
    assert "/global pause" in result.text
    assert not result.effects


async def test_status_of_a_chat_that_is_answered() -> None:
    assert (await given("/status")).text == "Ana Souza (+5511999990001):\nI am answering."


async def test_status_tells_since_when_why_and_when_it_returns() -> None:
    text = (await given("/status", chat=TAKEN_OVER)).text
    assert "Paused since 15 min ago, one of you wrote there, until 15:30 UTC (in 1 h 30 min)." in text
    by_hand = paused(ANA, pause_reason=PauseReason.MANUAL_PAUSE)
    assert "by command, until you send /resume" in (await given("/status", chat=by_hand)).text
    timed = paused(ANA, pause_reason=PauseReason.MANUAL_PAUSE, returns_at=NOW + timedelta(minutes=20))
    assert "until 14:20 UTC (in 20 min)" in (await given("/status", chat=timed)).text


async def test_status_tells_exclusion_opt_out_and_the_global_pause() -> None:
    state = replace(ANA.session, is_excluded=True, opted_out_at=NOW - timedelta(days=3))
    text = (
        await given("/status", chat=replace(ANA, session=state), reader=MemoryReader(is_globally_paused=True))
    ).text
    assert "Excluded" in text
    assert "3 days ago" in text
    assert "All chats are paused" in text


async def test_status_in_ones_own_chat_lists_the_paused_chats() -> None:
    reader = MemoryReader(chats=(TAKEN_OVER, BEN))
    text = (await given_at_home("/status", reader=reader)).text
    assert text.startswith("I am answering.\nPaused chats:\n• Ana Souza")
    assert "Ben" not in text
    assert "No single chat is paused." in (await given_at_home("/status")).text
    assert "Ben" in (await given_at_home("/status Ben")).text


def story(action: Action | None, *replies: OutboxEntry) -> Explanation:
    return Explanation(
        message=said("Is it open on Sunday?"),
        chat=ANA,
        event_type="message",
        action=action,
        detail=None,
        decided_at=NOW,
        replies=replies,
    )


ENTRY = OutboxEntry(
    type=MessageType.TEXT,
    id=MessageId(7),
    status=Status.DELIVERED,
    text="No.",
    external_id=None,
    error=None,
    overlapped=True,
    inferred=False,
    queued_at=NOW,
    sent_at=NOW,
    delivered_at=NOW,
    read_at=None,
)


async def test_why_tells_the_decision_and_the_replys_fate() -> None:
    reader = MemoryReader(explanations={"3EB0": [story(Action.AI_REPLIED, ENTRY)]})
    text = (await given("/why 3EB0", reader=reader)).text
    assert "Decided: ai_replied" in text
    assert "Reply: delivered, just now" in text
    assert "already on its way" in text


async def test_why_tells_what_could_not_be_kept_and_no_error_of_the_store() -> None:
    lost = Quarantined(external_id=ExternalId("3EB0"), error="DataError: bytes", received_at=NOW)
    text = (await given("/why 3EB0", reader=MemoryReader(quarantine=[lost]))).text
    assert "Decided: quarantined" in text
    assert "DataError" not in text


async def test_why_takes_a_quoted_message() -> None:
    reader = MemoryReader(explanations={"3EB0": [story(None)]})
    assert "Not decided yet." in (await given("/why", reader=reader, reply_to="3EB0")).text
    assert "Quote it" in (await given("/why")).text
    assert "no record" in (await given("/why NOPE")).text


async def test_help_lists_what_the_role_may_use() -> None:
    staff = (await given("/help")).text
    customers = (await given("/help", Role.CUSTOMER)).text
    assert "/pause [who] [2h | until 18:00] – " in staff
    assert "/stop" not in staff
    assert [line.split()[0] for line in customers.splitlines()[1:]] == ["/help", "/human", "/stop", "/start"]


@pytest.mark.parametrize(
    ("arguments", "silence", "told"),
    [
        ("4h", timedelta(hours=4), "I am back when you have been quiet for 4 h."),
        ("2 hours 30 minutes", timedelta(hours=2, minutes=30), "quiet for 2 h 30 min."),
        ("never", timedelta(), "only when you send /resume."),
        ("default", None, "quiet for 2 h."),
    ],
)
async def test_a_chat_has_a_time_of_its_own_after_which_the_bot_is_back(
    arguments: str, silence: timedelta | None, told: str
) -> None:
    result = await given(f"/resume-after {arguments}")
    assert result.effects == (ResumeAfter(chat_id=ANA.chat_id, silence=silence),)
    assert "Ana Souza" in result.text
    assert told in result.text
    named = await given_at_home(f"/resume-after Ben {arguments}")
    assert named.effects == (ResumeAfter(chat_id=BEN.chat_id, silence=silence),)


@pytest.mark.parametrize("arguments", ["", "soon", "Ana", "4", "never mind", "0h"])
async def test_what_is_no_time_after_which_to_be_back_changes_nothing(arguments: str) -> None:
    result = await given(f"/resume-after {arguments}")
    assert (result.effects, result.action) == ((), Action.COMMAND_REFUSED)
