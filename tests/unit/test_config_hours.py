"""Business hours, time zones and notices as people write them down, and what they are told when these are wrong."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from bot.config import ConfigError, load, warnings
from storage.hours import Hours, read_spans
from storage.notify import Notify

SHOP = """
tenants:
  - instance_name: shop
    owner: "+5511999990002"
"""
NINE_TO_SIX = read_spans("9:00-18:00")


def configured(folder: Path, yaml: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(SHOP + yaml, encoding="utf-8")
    return path


def hours_of(folder: Path, yaml: str) -> Hours:
    hours = load(configured(folder, f"    hours: {yaml}\n"), environ={}).tenants[0].hours
    assert hours is not None
    return hours.as_hours()


def notify_of(folder: Path, yaml: str) -> Notify:
    return load(configured(folder, f"    notify: {yaml}\n"), environ={}).tenants[0].notify.as_notify()


def refusal(folder: Path, yaml: str) -> str:
    with pytest.raises(ConfigError) as refused:
        load(configured(folder, yaml), environ={})
    return str(refused.value)


def test_without_a_word_it_is_always_open_and_the_clock_shows_utc(tmp_path: Path) -> None:
    [tenant] = load(configured(tmp_path, ""), environ={}).tenants
    assert (tenant.hours, tenant.timezone, tenant.notify.as_notify()) == (None, "UTC", Notify())


def test_days_have_one_span_or_several_and_go_over_the_week_s_end(tmp_path: Path) -> None:
    hours = hours_of(tmp_path, "{open: {sat-mon: 9:00-18:00, wed: [9:00-12:00, '14:00-2:00'], thu: closed}}")
    open_on = [NINE_TO_SIX, (), read_spans(["9:00-12:00", "14:00-2:00"]), (), (), NINE_TO_SIX, NINE_TO_SIX]
    assert list(hours.week) == open_on


def test_holidays_are_days_with_or_without_hours_however_yaml_reads_them(tmp_path: Path) -> None:
    hours = hours_of(
        tmp_path, "{open: {mon: 9:00-18:00}, holidays: [12-25, 2026-12-31, 12-24 9:00-12:00, '01-01 closed']}"
    )
    assert hours.holidays == {
        **{"12-25": (), "2026-12-31": (), "01-01": ()},
        "12-24": read_spans("9:00-12:00"),
    }


@pytest.mark.parametrize(
    ("yaml", "place", "told"),
    [
        ("{open: {}}", "hours.open", "at least one"),
        ("{holidays: [12-25]}", "hours.open", "is missing"),
        ("{open: {mon: 9-18}}", "hours.open.mon", "hours such as 9:00-18:00"),
        ("{open: {mon: 9:00}}", "hours.open.mon", "hours such as 9:00-18:00"),
        ("{open: {mon: [9]}}", "hours.open.mon", "hours such as 9:00-18:00"),
        ("{open: {monday: 9:00-18:00}}", "hours.open", "days such as mon or mon-fri"),
        ("{open: {mon-wed: 9:00-18:00, tue: closed}}", "hours.open", "twice when it is open on tue"),
        ("{open: {mon: 9:00-18:00}, holidays: [Christmas]}", "hours.holidays", "a day such as 2026-12-25"),
        ("{open: {mon: 9:00-18:00}, aways: x}", "hours.aways", "did you mean"),
        ("{open: {mon: 9:00-18:00}, away: ' '}", "hours.away", "should not be empty"),
        (
            "{open: {mon: 9:00-18:00}, away: 'At {hour}'}",
            "hours.away",
            "{hour}, which nothing fills in (known here: {time} and {date})",
        ),
        ("{open: {mon: 9:00-18:00}, away: '{time}, { date }'}", "hours.away", "{ date }"),
    ],
)
def test_hours_that_nobody_can_read_are_refused(tmp_path: Path, yaml: str, place: str, told: str) -> None:
    line = refusal(tmp_path, f"    hours: {yaml}\n")
    assert f"tenants[0].{place}: " in line
    assert told in line


def test_a_time_zone_that_there_is_not_is_refused_with_the_one_that_was_meant(tmp_path: Path) -> None:
    line = refusal(tmp_path, "    timezone: America/Sao_Paolo\n")
    assert line.endswith("is no time zone of the tz database: did you mean America/Sao_Paulo?")
    for name in ("../etc/passwd", "''", "/", "5"):
        assert "is no time zone" in refusal(tmp_path, f"    timezone: {name}\n")


def test_hours_without_a_time_zone_are_asked_about(tmp_path: Path) -> None:
    hours = "    hours: {open: {mon: 9:00-18:00}}\n"
    [problem] = warnings(load(configured(tmp_path, hours), environ={}))
    assert problem.place == "tenants[0].hours"
    for zone in ("UTC", "Europe/Berlin"):
        assert not list(warnings(load(configured(tmp_path, f"{hours}    timezone: {zone}\n"), environ={})))


def test_a_number_that_rings_has_a_night_unless_it_is_to_have_none(tmp_path: Path) -> None:
    assert notify_of(tmp_path, "{to: '+5511999990007'}").quiet == (22 * 60, 31 * 60)
    assert notify_of(tmp_path, "{to: '+5511999990007', quiet: never}").quiet is None
    assert notify_of(tmp_path, "{to: '+5511999990007', quiet: 23:00-6:00}").quiet == (23 * 60, 30 * 60)
    assert notify_of(tmp_path, "{quiet: 13:00-15:00}").quiet == (13 * 60, 15 * 60)


def test_what_is_told_and_when_can_be_chosen(tmp_path: Path) -> None:
    chosen = notify_of(
        tmp_path,
        "{waiting_after: never, before_resume: 10m, resumed: false, trouble_after: never, failed_share: 7.5%}",
    )
    assert chosen == Notify(
        waiting_after=None,
        before_resume=timedelta(minutes=10),
        resumed=False,
        trouble_after=None,
        failed_share=0.075,
    )
    assert notify_of(tmp_path, "{failed_share: never}").failed_share is None


@pytest.mark.parametrize(
    "yaml", ["{failed_share: 0.2}", "{failed_share: 0%}", "{failed_share: 101%}", "{quiet: closed}"]
)
def test_what_is_no_share_and_no_night_is_refused(tmp_path: Path, yaml: str) -> None:
    assert ", or never" in refusal(tmp_path, f"    notify: {yaml}\n")


@pytest.mark.parametrize(
    ("yaml", "place", "told"),
    [
        ("{person: ''}", "person", "should not be empty"),
        ("{help: ' '}", "help", "should not be empty"),
        ("{person: 'Soon, {name}'}", "person", "has {name}, which nothing fills in (nothing is, here)"),
        ("{goodbye: '{time}'}", "goodbye", "has {time}"),
        (
            "{person_closed: 'On {day}'}",
            "person_closed",
            "has {day}, which nothing fills in (known here: {time}",
        ),
        ("{welcom: Olá}", "welcom", "did you mean flows.texts.welcome?"),
    ],
)
def test_words_that_no_customer_should_read_are_refused(
    tmp_path: Path, yaml: str, place: str, told: str
) -> None:
    line = refusal(tmp_path, f"flows: {{texts: {yaml}}}\n")
    assert f"config.yaml:5: flows.texts.{place}: " in line
    assert told in line


def test_braces_that_name_nothing_are_words_like_others(tmp_path: Path) -> None:
    said = "flows: {texts: {welcome: 'Olá :-} {'}}\n"
    assert load(configured(tmp_path, said), environ={}).flows.texts.welcome == "Olá :-} {"
