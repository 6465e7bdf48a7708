"""PostgreSQL's disk is full: the number goes away, what was received is held, and with room all goes on by itself."""

from __future__ import annotations

import secrets
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from storage.embedded import EmbeddedPostgres
from storage.models import Action
from tests.acceptance.conversation import Shop
from tests.acceptance.invariants import actions, assert_all_is_well
from tests.acceptance.platform import (
    QUICK,
    Process,
    all_is_answered,
    all_is_recorded,
    customer,
    number,
    owner,
    process,
)
from tests.acceptance.small_disk import SmallDisk, small_disk
from tests.conftest import connected, until

BEFORE, AT_ONCE, MEANWHILE = range(5), range(5, 25), range(25, 30)
EVERYBODY, TAKEN = range(30), AT_ONCE[0]

REFUSE_ROWS = """
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = TG_ARGV[0]; END $$;
CREATE FUNCTION public.refuse_rows(code text) RETURNS void LANGUAGE plpgsql AS $$ DECLARE t regclass; BEGIN
  FOR t IN SELECT oid FROM pg_class
            WHERE relnamespace = 'sidestep'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition LOOP
    EXECUTE format('CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON %s EXECUTE FUNCTION public.refuse(%L)', t, code);
  END LOOP;
END $$
"""
REFUSE_ANSWERS = """
CREATE TRIGGER refuse BEFORE INSERT ON sidestep.outbox EXECUTE FUNCTION public.refuse('53100')
"""
TAKE_ROWS = "DROP FUNCTION public.refuse CASCADE"


@pytest.fixture
def disk(open_folder: Path) -> Iterator[SmallDisk]:
    with small_disk(open_folder / "disk") as disk:
        yield disk


@asynccontextmanager
async def server_on(disk: SmallDisk) -> AsyncIterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(disk.folder)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


def a_shop(folder: Path, dsn: str) -> Shop:
    made = Shop(folder=folder, dsn=dsn)
    made.configure(QUICK)
    return made


def ask(daemon: Process, *customers: int) -> None:
    """Each asks for the price, at such a length that it takes rooms of its own."""
    daemon.hear(*(customer(number(n), f"M{n}", f"price? {secrets.token_hex(700)}") for n in customers))


async def the_day_before(daemon: Process, shop: Shop) -> None:
    await daemon.connects()
    ask(daemon, *BEFORE)
    await all_is_recorded(shop, [f"M{n}" for n in BEFORE])
    await all_is_answered(shop)


async def the_disk_fills(daemon: Process, error: str) -> None:
    """Some write when there is no room, some when the number has gone; in one chat it is the owner."""
    ask(daemon, *AT_ONCE)
    daemon.hear(owner(number(TAKEN), "takeover"))
    await daemon.disconnects()
    ask(daemon, *MEANWHILE)
    told = (await daemon.readiness())["database"]
    assert (told["ok"], told["error"]) == (False, error)
    assert (await daemon.page("/livez")).status_code == 200
    assert (
        'sidestep_connection_state{account="shop",state="suspended"} 1.0'
        in (await daemon.page("/metrics")).text
    )


async def assert_nothing_was_lost(daemon: Process, shop: Shop) -> None:
    await daemon.connects()
    await all_is_recorded(shop, [f"M{n}" for n in EVERYBODY])
    await all_is_answered(shop)
    await until(daemon.is_ready)
    finished = await daemon.ends(signal.SIGTERM)
    assert finished.code == 0, finished.err
    await assert_all_is_well(shop.dsn)
    decided = await actions(shop.dsn)
    assert decided.pop("takeover") == [Action.PAUSED]
    # Where it is recorded just before the owner's line its answer is made, and may not leave.
    assert decided.pop(f"M{TAKEN}") in ([Action.SUPERSEDED], [Action.KEYWORD_REPLIED])
    assert decided == {f"M{n}": [Action.KEYWORD_REPLIED] for n in EVERYBODY if n != TAKEN}
    assert sorted(daemon.sent) == [number(n) for n in EVERYBODY if n != TAKEN]


async def test_what_comes_when_the_disk_is_full_is_kept_until_there_is_room(
    disk: SmallDisk, tmp_path: Path
) -> None:
    async with server_on(disk) as server:
        shop = a_shop(tmp_path, server.dsn)
        async with process(shop) as daemon:
            await the_day_before(daemon, shop)
            disk.fill()
            await the_disk_fills(daemon, "DiskFullError")
            told = (await daemon.readiness())["database"]["advice"]
            assert told == "its disk is full: make room there"
            disk.make_room()
            await assert_nothing_was_lost(daemon, shop)


async def test_where_only_answers_find_no_room_messages_are_taken_and_it_says_so(
    dsn: str, tmp_path: Path
) -> None:
    shop = a_shop(tmp_path, dsn)
    async with process(shop) as daemon, connected(dsn) as server:
        await the_day_before(daemon, shop)
        await server.execute(REFUSE_ROWS)
        await server.execute(REFUSE_ANSWERS)
        ask(daemon, *AT_ONCE)
        daemon.hear(owner(number(TAKEN), "takeover"))

        async def says_so() -> bool:
            told = (await daemon.readiness())["database"]
            return (told["ok"], told["error"]) == (False, "DiskFullError")

        await until(says_so)
        ask(daemon, *MEANWHILE)
        await all_is_recorded(shop, [f"M{n}" for n in EVERYBODY])
        assert daemon.is_connected
        assert len(daemon.said) == len(BEFORE)
        await server.execute(TAKE_ROWS)
        await assert_nothing_was_lost(daemon, shop)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        pytest.param("53100", "DiskFullError", id="full"),
        # These two have no code of their own: one is that of any mistake of the server, one that of any missing right.
        pytest.param("XX000", "InternalServerError", id="over_its_quota"),
        pytest.param("42501", "InsufficientPrivilegeError", id="read_only"),
    ],
)
async def test_whatever_a_server_calls_it_that_can_write_nothing_it_is_waited_for(
    dsn: str, tmp_path: Path, code: str, error: str
) -> None:
    shop = a_shop(tmp_path, dsn)
    async with process(shop) as daemon, connected(dsn) as server:
        await the_day_before(daemon, shop)
        await server.execute(REFUSE_ROWS)
        await server.execute("SELECT public.refuse_rows($1)", code)
        await the_disk_fills(daemon, error)
        await server.execute(TAKE_ROWS)
        await assert_nothing_was_lost(daemon, shop)
