"""Gates: why a customer's message is not answered, the most lasting reason first."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bot.gates import refusal
from bot.policy import Policy
from storage.models import (
    AccountId,
    Action,
    Author,
    ChatId,
    Direction,
    Jid,
    Message,
    MessageId,
    MessageType,
    Session,
    TenantId,
    ThreadId,
)

NOW = datetime(2026, 3, 10, 14, 0, tzinfo=UTC)
SESSION = Session(chat_id=ChatId(1), epoch=0)
POLICY = Policy(max_age=timedelta(hours=6))
MESSAGE = Message(
    tenant_id=TenantId(1),
    account_id=AccountId(1),
    chat_id=ChatId(1),
    chat_jid=Jid("5511988880001@s.whatsapp.net"),
    id=MessageId(1),
    thread_id=ThreadId(1),
    direction=Direction.INBOUND,
    author=Author.CUSTOMER,
    type=MessageType.TEXT,
    sent_at=NOW,
)
GROUP = replace(MESSAGE, is_group=True, addressed=False)


def test_a_message_in_a_chat_that_nothing_speaks_against_is_answered() -> None:
    assert refusal(MESSAGE, SESSION, POLICY, NOW) is None


@pytest.mark.parametrize(
    ("session", "reason"),
    [
        (replace(SESSION, is_excluded=True), Action.IGNORED_EXCLUDED),
        (replace(SESSION, opted_out_at=NOW), Action.IGNORED_OPTED_OUT),
        (replace(SESSION, global_pause=True), Action.IGNORED_GLOBAL_PAUSE),
        (replace(SESSION, is_paused=True), Action.IGNORED_PAUSED),
    ],
)
def test_each_state_of_the_chat_has_its_reason(session: Session, reason: Action) -> None:
    assert refusal(MESSAGE, session, POLICY, NOW) is reason


REASONS: list[tuple[dict[str, Any], dict[str, Any], Action]] = [
    ({"deleted_at": NOW}, {}, Action.SUPERSEDED),
    ({"is_group": True, "addressed": False}, {}, Action.IGNORED_GROUP),
    ({}, {"is_excluded": True}, Action.IGNORED_EXCLUDED),
    ({}, {"opted_out_at": NOW}, Action.IGNORED_OPTED_OUT),
    ({}, {"global_pause": True}, Action.IGNORED_GLOBAL_PAUSE),
    ({}, {"is_paused": True}, Action.IGNORED_PAUSED),
    ({"sent_at": NOW - timedelta(days=1)}, {}, Action.IGNORED_TOO_OLD),
    ({"type": MessageType.REACTION}, {}, Action.IGNORED_UNSUPPORTED),
]


@pytest.mark.parametrize("first", range(len(REASONS)))
def test_of_several_reasons_the_most_lasting_is_told(first: int) -> None:
    message, session = MESSAGE, SESSION
    for of_message, of_session, _ in REASONS[first:]:
        message, session = replace(message, **of_message), replace(session, **of_session)
    assert refusal(message, session, POLICY, NOW) is REASONS[first][2]


@pytest.mark.parametrize(("addressed", "groups"), [*itertools.product([True, False], repeat=2)])
def test_in_a_group_only_what_is_meant_for_us_is_answered_and_only_where_groups_are_on(
    addressed: bool, groups: bool
) -> None:
    message = replace(GROUP, addressed=addressed)
    reason = refusal(message, SESSION, replace(POLICY, groups=groups), NOW)
    assert reason is (None if addressed and groups else Action.IGNORED_GROUP)


@pytest.mark.parametrize(
    ("age", "reason"),
    [
        (timedelta(hours=6), None),
        (timedelta(hours=6, microseconds=1), Action.IGNORED_TOO_OLD),
        (timedelta(days=-1), None),
        (timedelta(days=3650), Action.IGNORED_TOO_OLD),
    ],
)
def test_a_message_is_too_old_beyond_the_age_and_never_too_young(
    age: timedelta, reason: Action | None
) -> None:
    assert refusal(replace(MESSAGE, sent_at=NOW - age), SESSION, POLICY, NOW) is reason


ANSWERABLE = {
    MessageType.TEXT, MessageType.IMAGE, MessageType.VIDEO, MessageType.AUDIO, MessageType.DOCUMENT,
    MessageType.LOCATION, MessageType.CONTACT,
}  # fmt: skip


@pytest.mark.parametrize("message_type", MessageType)
def test_only_what_people_say_is_answered(message_type: MessageType) -> None:
    reason = refusal(replace(MESSAGE, type=message_type), SESSION, POLICY, NOW)
    assert reason is (None if message_type in ANSWERABLE else Action.IGNORED_UNSUPPORTED)


@pytest.mark.parametrize(
    ("speed", "text", "seconds"),
    [(25.0, "x" * 50, 2.0), (25.0, "", 0.0), (25.0, "x" * 100_000, 8.0), (None, "x" * 50, 0.0)],
)
def test_typing_takes_as_long_as_a_person_would_within_bounds(
    speed: float | None, text: str, seconds: float
) -> None:
    policy = Policy(typing_speed=speed, longest_typing=timedelta(seconds=8))
    assert policy.typing_time(text) == timedelta(seconds=seconds)


def test_what_was_written_before_a_human_spoke_and_comes_after_is_the_humans() -> None:
    spoke = replace(SESSION, last_human_at=NOW)
    earlier = replace(MESSAGE, sent_at=NOW - timedelta(seconds=1))
    assert refusal(earlier, spoke, POLICY, NOW) is Action.SUPERSEDED
    assert refusal(MESSAGE, spoke, POLICY, NOW) is None
