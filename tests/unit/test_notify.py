"""When an owner is not to be disturbed, by the clocks on the wall; and how all of it is kept."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from storage.notify import NoticeKind, Notify

BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = Notify(quiet=(22 * 60, 31 * 60))


@pytest.mark.parametrize(
    ("now", "ends"),
    [
        ("2026-03-10T21:59+01:00", None),
        ("2026-03-10T22:00+01:00", "2026-03-11T07:00+01:00"),
        ("2026-03-11T06:59+01:00", "2026-03-11T07:00+01:00"),
        ("2026-03-11T07:00+01:00", None),
        ("2026-03-28T23:00+01:00", "2026-03-29T07:00+02:00"),
        ("2026-10-24T23:00+02:00", "2026-10-25T07:00+01:00"),
    ],
)
def test_the_night_ends_by_the_clock_on_the_wall(now: str, ends: str | None) -> None:
    at = NIGHT.quiet_until(datetime.fromisoformat(now), BERLIN)
    assert at == (ends and datetime.fromisoformat(ends))


def test_a_quiet_time_may_be_by_day_and_there_need_be_none() -> None:
    nap = Notify(quiet=(13 * 60, 15 * 60))
    noon = datetime(2026, 3, 10, 12, tzinfo=BERLIN)
    assert nap.quiet_until(noon, BERLIN) is None
    assert nap.quiet_until(noon + timedelta(hours=2), BERLIN) == noon + timedelta(hours=3)
    assert Notify().quiet_until(noon, BERLIN) is None


@pytest.mark.parametrize(
    "notify",
    [
        Notify(),
        NIGHT,
        Notify(
            to="+5511999990007", waiting_after=None, before_resume=timedelta(minutes=10), resumed=False,
            trouble_after=None, failed_share=None,
        ),
    ],
)  # fmt: skip
def test_it_is_read_back_as_it_was_kept(notify: Notify) -> None:
    assert Notify.read(notify.as_json()) == notify


def test_what_sql_leaves_out_is_the_default_and_what_it_garbles_is_refused() -> None:
    assert Notify.read({"resumed": False}) == Notify(resumed=False)
    for key, garbled in (("quiet", "night"), ("waiting_after", "soon"), ("failed_share", []), ("quiet", 5)):
        with pytest.raises(ValueError, match=r"should be|not what|could not"):
            Notify.read({key: garbled})


def test_the_page_has_a_row_for_each_kind_and_says_which_waits_for_the_morning() -> None:
    page = (Path(__file__).parents[2] / "docs" / "notices.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .* \| (waits|is told) \|$", page, re.M)
    assert sorted(rows) == sorted("is told" if kind.is_urgent else "waits" for kind in NoticeKind)
