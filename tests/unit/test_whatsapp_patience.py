"""How the transport's own tries to connect are spread in time, and what is told of the library's."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.transports.whatsapp.patience import Patience, Random, next_try_of_library

PATIENCE = Patience()
LOST = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)


def always(chance: float) -> Random:
    return lambda: chance


@given(failures=st.integers(0, 10_000), chance=st.floats(0, 1))
def test_a_pause_is_never_shorter_than_half_of_the_back_off_nor_longer_than_the_last(
    failures: int, chance: float
) -> None:
    pause = PATIENCE.after_failure(failures, always(chance))
    assert PATIENCE.first_retry / 2 <= pause <= PATIENCE.last_retry
    if failures >= 10:
        assert pause >= PATIENCE.last_retry / 2


def test_numbers_that_were_lost_together_come_back_apart() -> None:
    pauses = {PATIENCE.after_failure(6, always(n / 12)) for n in range(12)}
    assert len(pauses) == 12
    assert max(pauses) - min(pauses) > dt.timedelta(seconds=30)


def test_a_no_is_respected_for_longer_than_a_silence() -> None:
    for failures in range(6):
        rejected = PATIENCE.after_rejection(failures, always(0.0))
        assert rejected > PATIENCE.after_failure(failures, always(1.0))


@pytest.mark.parametrize("ban", [dt.timedelta(0), dt.timedelta(minutes=5), dt.timedelta(days=7)])
def test_a_ban_is_over_before_we_come_back(ban: dt.timedelta) -> None:
    for chance in (0.0, 1.0):
        assert PATIENCE.after_ban(ban, always(chance)) > max(ban, dt.timedelta(minutes=1))


@given(elapsed=st.floats(0, 1e6))
def test_the_librarys_next_try_lies_ahead_and_is_one_of_its_series(elapsed: float) -> None:
    next_try = next_try_of_library(LOST, LOST + dt.timedelta(seconds=elapsed))
    assert next_try > LOST + dt.timedelta(seconds=elapsed - 1e-3)
    seconds = (next_try - LOST).total_seconds()
    assert seconds in {n * (n - 1) for n in range(2, 1100)}
