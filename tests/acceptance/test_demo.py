"""`sidestep demo` in a terminal: a person meets the bot, takes over, calls it back, and leaves nothing running."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.acceptance.conversation import PRICES, Shop
from tests.acceptance.program import runs
from tests.acceptance.terminal import Terminal, terminal
from tests.conftest import until


def entries(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def server_in(folder: Path) -> int:
    """The process of the PostgreSQL that runs in some folder in here."""
    [file] = folder.glob("*/data/postmaster.pid")
    return int(file.read_text(encoding="utf-8").split()[0])


async def until_gone(pid: int) -> None:
    async def is_gone() -> bool:
        return not runs(pid)

    await until(is_gone)


async def assert_left_clean(shown: Terminal, home: Path, server: int) -> None:
    assert await shown.ended() == 0
    assert "Traceback" not in shown.screen
    assert "Error" not in shown.screen
    await until_gone(server)
    assert entries(home) == []


async def test_a_person_meets_the_bot(tmp_path: Path, open_folder: Path) -> None:
    async with terminal("demo", cwd=tmp_path, home=open_folder) as shown:
        await shown.shows("/quit")
        server = server_in(open_folder)
        shown.type(b"How much is a cake?\n")
        await shown.shows("bot: Bread is from 10, cakes are from 50")
        shown.type(b"owner: hi, I will help you\n")
        await shown.shows("the bot steps aside")
        shown.type(b"how much is bread?\n")
        await shown.shows("the bot leaves this to the human")
        shown.type(b"owner: /resume\n")
        await shown.shows("to the owner: I answer")
        shown.type(b"admin: /status\n")
        await shown.shows("to the admin: I am answering")
        shown.type(b"when are you open?\n")
        await shown.shows("bot: We are open Monday to Saturday")
        shown.type(b"/quit\n")
        await assert_left_clean(shown, open_folder, server)


@pytest.mark.parametrize("key", [b"\x04", b"\x03"], ids=["Ctrl-D", "Ctrl-C"])
async def test_a_key_ends_it_cleanly(tmp_path: Path, open_folder: Path, key: bytes) -> None:
    async with terminal("demo", cwd=tmp_path, home=open_folder) as shown:
        await shown.shows("/quit")
        server = server_in(open_folder)
        shown.type(key)
        await assert_left_clean(shown, open_folder, server)


async def test_killed_it_takes_its_database_along(tmp_path: Path, open_folder: Path) -> None:
    async with terminal("demo", cwd=tmp_path, home=open_folder) as shown:
        await shown.shows("/quit")
        server = server_in(open_folder)
        shown.signal(signal.SIGKILL)
        await shown.ended()
        await until_gone(server)


async def test_chat_talks_by_ones_own_configuration_and_bears_odd_input(
    tmp_path: Path, open_folder: Path
) -> None:
    write(tmp_path / "config.yaml", OWN)
    async with terminal("chat", cwd=tmp_path, home=open_folder) as shown:
        await shown.shows("/quit")
        server = server_in(open_folder)
        shown.type(b"\n   \nowner:\nadmin: /status\n\xff\xfe \xf0\x9f\x8e\x82\n")
        await shown.shows("there is no admin")
        await shown.shows("bot: My own words.")
        shown.type(b"/quit\n")
        await assert_left_clean(shown, open_folder, server)


async def test_without_a_terminal_each_talk_is_answered_to_its_end(shop: Shop) -> None:
    for _ in range(2):
        told = await shop.run("chat", "--database", shop.dsn, stdin=b"how much?\n/quit\n")
        assert (told.code, told.err) == (0, "")
        assert told.out.endswith(f"bot: {PRICES}\n")


OWN = """\
tenants: [{instance_name: mine, owner: "+5511999990000"}]
flows: {default: "My own words."}
"""


def write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")
