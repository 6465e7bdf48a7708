"""What each state means: one table, whole and sane."""

import datetime as dt
from pathlib import Path

import pytest

from bot.transports.base import ConnectionState
from bot.transports.states import MEANINGS, shown

NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)


def test_every_state_is_in_the_table() -> None:
    assert set(MEANINGS) == set(ConnectionState)


@pytest.mark.parametrize("state", [state for state, meaning in MEANINGS.items() if meaning.ends])
def test_who_does_not_come_back_alone_is_told_what_to_do(state: ConnectionState) -> None:
    assert MEANINGS[state].advice
    assert not shown(state, since=NOW).can_send


def test_only_a_live_connection_sends_and_receives() -> None:
    live = {state for state, meaning in MEANINGS.items() if meaning.can_send or meaning.can_receive}
    assert live == {
        ConnectionState.CONNECTED,
        ConnectionState.REACH_OUT_LIMITED,
        ConnectionState.PHONE_OFFLINE,
    }


def test_what_is_told_while_a_lost_connection_comes_back_says_what_to_look_at() -> None:
    assert "network" in (shown(ConnectionState.RECONNECTING, since=NOW).advice or "")


def test_an_advice_of_its_own_takes_the_place_of_the_tables() -> None:
    assert shown(ConnectionState.BANNED, since=NOW, advice="until Monday").advice == "until Monday"
    assert shown(ConnectionState.BANNED, since=NOW).advice == MEANINGS[ConnectionState.BANNED].advice


def test_the_owners_page_has_the_same_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "connection.md").read_text()
    rows = [
        [cell.strip(" `") for cell in line.split("|")[1:4]] for line in page.splitlines() if "| `" in line
    ]
    words = {True: "yes", False: "no"}
    assert rows == [
        [state.value, words[meaning.can_send], words[meaning.can_receive]]
        for state, meaning in MEANINGS.items()
    ]
