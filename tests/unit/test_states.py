"""States: the table is whole, its drawing is the table, and the most lasting reason is the one that is named."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import pytest

from storage.models import ChatId, PauseReason, Session
from storage.states import PAUSING, TRANSITIONS, Cause, State, after, pause_of, state_of

ARROW = re.compile(r"^ +(\w+) --> (\w+) : (\w+)$", re.MULTILINE)
DIAGRAM = Path(__file__).parents[2] / "docs" / "takeover.md"
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


def test_the_diagram_in_the_docs_is_the_table() -> None:
    drawn = ARROW.findall(DIAGRAM.read_text(encoding="utf-8"))
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == {(before, then, cause) for (before, cause), then in TRANSITIONS.items()}


def test_every_transition_changes_something_and_every_state_can_be_left() -> None:
    assert all(before is not then for (before, _), then in TRANSITIONS.items())
    assert {before for before, _ in TRANSITIONS} == set(State) == set(TRANSITIONS.values())
    assert {cause for _, cause in TRANSITIONS} == set(Cause)


def test_from_every_state_one_cause_leads_back() -> None:
    for state in set(State) - {State.ACTIVE}:
        assert State.ACTIVE in {after(state, cause) for cause in Cause}


def test_what_the_table_does_not_have_changes_nothing() -> None:
    for state, cause in product(State, Cause):
        if (state, cause) not in TRANSITIONS:
            assert after(state, cause) is state


@pytest.mark.parametrize("reason", PauseReason)
def test_each_reason_for_a_pause_is_reached_by_its_cause(reason: PauseReason) -> None:
    state = State(reason)
    assert after(State.ACTIVE, PAUSING[reason]) is state
    session = Session(chat_id=ChatId(1), epoch=0, is_paused=True, pause_reason=reason)
    assert pause_of(session) is state_of(session) is state


def test_the_most_lasting_reason_is_named() -> None:
    session = Session(
        chat_id=ChatId(1), epoch=0, is_paused=True, pause_reason=PauseReason.HUMAN_TAKEOVER,
        is_excluded=True, opted_out_at=NOW, global_pause=True,
    )  # fmt: skip
    assert state_of(session) is State.EXCLUDED
    assert state_of(session := replace(session, is_excluded=False)) is State.OPTED_OUT
    assert state_of(session := replace(session, opted_out_at=None)) is State.GLOBAL_PAUSE
    assert state_of(session := replace(session, global_pause=False)) is State.HUMAN_TAKEOVER
    assert state_of(replace(session, is_paused=False, pause_reason=None)) is State.ACTIVE
