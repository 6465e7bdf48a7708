"""Waiting for what happens, line by line."""

import asyncio

import pytest

from bot.lab.errors import Unheard
from bot.lab.timeline import Timeline


async def test_what_came_before_the_wait_counts() -> None:
    line: Timeline[str] = Timeline()
    line.note("oi")
    assert await line.expect(within=1) == "oi"


async def test_what_comes_during_the_wait_ends_it() -> None:
    line: Timeline[int] = Timeline()
    waiting = asyncio.ensure_future(line.expect(lambda n: n == 2, within=5))
    for n in (1, 2, 3):
        await asyncio.sleep(0)
        line.note(n)
    assert await waiting == 2


async def test_each_item_is_handed_out_once_and_the_list_keeps_all() -> None:
    line: Timeline[str] = Timeline()
    for item in ("oi", "oi", "tchau"):
        line.note(item)
    assert await line.expect(lambda item: item == "tchau", within=1) == "tchau"
    assert [await line.expect(within=1), await line.expect(within=1)] == ["oi", "oi"]
    with pytest.raises(
        Unheard, match=r"this did not come within 0\.01 s; what came: \['oi', 'oi', 'tchau'\]"
    ):
        await line.expect(within=0.01)
    assert line == ["oi", "oi", "tchau"]


async def test_silence_can_be_asserted() -> None:
    line: Timeline[str] = Timeline()
    await line.expect_none(during=0.01)
    line.note("oi")
    with pytest.raises(AssertionError, match="'oi'"):
        await line.expect_none(during=0.01)
