"""How long codes are shown that nobody uses: quickly at first, then once an hour, or to an end if somebody waits."""

from datetime import UTC, datetime, timedelta

import pytest

from bot.transports.base import PairingFailed
from bot.transports.whatsapp.invitation import Invitation

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def invitation(*, attended: bool) -> Invitation:
    return Invitation(None, lambda _: None, lambda: NOW, attended=attended)


def test_a_daemon_that_nobody_links_shows_a_code_once_an_hour_from_the_tenth_round_on() -> None:
    shown = invitation(attended=False)
    assert [shown.after_expiry() for _ in range(9)] == [None] * 9
    assert shown.after_expiry() == shown.after_expiry() == timedelta(hours=1)
    shown.begin_anew()
    assert shown.after_expiry() is None


def test_whoever_waits_for_the_link_is_told_after_ten_rounds_that_nobody_has_scanned() -> None:
    shown = invitation(attended=True)
    assert [shown.after_expiry() for _ in range(9)] == [None] * 9
    with pytest.raises(PairingFailed, match="nobody has scanned"):
        shown.after_expiry()
