"""A number goes to another database without a new pairing, with what was said or without; its link lives once."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from tests.conftest import connected, fresh_database, until
from tests.lab.machine import Machine

pytestmark = pytest.mark.lab

# The rows and tables that a move writes to, one after the other.
ACCOUNT = "SELECT FROM sidestep.accounts FOR NO KEY UPDATE"
SESSION = "LOCK TABLE whatsmeow.whatsmeow_sessions IN ACCESS EXCLUSIVE MODE"
WAITS = """
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')
"""
OTHERS = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
LINKS = "SELECT count(*) FROM whatsmeow.whatsmeow_device"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Not pytest's own, which is closed to the account that PostgreSQL runs as where we are root."""
    folder = Path(tempfile.mkdtemp(prefix="sidestep-lab-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def small(lab: Lab, open_folder: Path) -> AsyncIterator[Machine]:
    """Its store is the embedded one."""
    machine = Machine(lab, open_folder / "small", None)
    yield machine
    await machine.close()


@pytest.fixture
async def here(lab: Lab, dsn: str, tmp_path: Path) -> AsyncIterator[Machine]:
    machine = Machine(lab, tmp_path / "here", dsn)
    yield machine
    await machine.close()


@pytest.fixture
async def there(lab: Lab, postgres: str, tmp_path: Path) -> AsyncIterator[Machine]:
    """Its database is empty: not even migrated."""
    async with fresh_database(postgres) as dsn:
        machine = Machine(lab, tmp_path / "there", dsn)
        yield machine
        await machine.close()


def database_of(machine: Machine) -> str:
    assert machine.dsn is not None
    return machine.dsn


async def test_messages_and_link_go_up_from_the_embedded_store_by_the_steps_of_the_readme(
    small: Machine, there: Machine, owner: Owner, customer: Customer
) -> None:
    await small.scan(owner)
    async with small.running():
        said = await customer.says("oi")
        await customer.hears("Hello!")
        served = await small.do("backup", "move.dump", "--without-links")
        assert served.code == 2
        assert "stop that one first" in served.err

    url = database_of(there)
    made = await small.do("backup", "move.dump", "--without-links")
    assert made.code == 0, made.err
    restored = await small.do("restore", "move.dump", DATABASE_URL=url)
    assert (restored.code, "Links" in restored.out) == (0, False), restored.err
    listed = (await there.do("account", "list")).out
    assert "its link is not in this database" in listed
    assert "logged out" not in listed
    moved = await small.do("account", "move", "shop", "--to", url)
    assert moved.code == 0, moved.err

    refused = await small.do("run")
    assert refused.code == 2
    assert "moved" in refused.err
    assert "DATABASE_URL" in refused.err
    async with there.running():
        await customer.says("still there?")
        await customer.hears("Hello!")
    told = await there.do("why", said)
    assert "keyword_replied" in told.out, told.out + told.err
    assert len(owner.linked) == 1
    assert customer.phone.retries == []
    # With a database elsewhere, all that happened on this disk is nothing.
    assert [str(path) for path in there.home.rglob("*")] == []


async def test_a_whole_backup_brings_its_link_and_says_that_it_lives_once(
    here: Machine, there: Machine, owner: Owner, customer: Customer
) -> None:
    await here.scan(owner)
    assert (await here.do("backup", "all.dump")).code == 0
    restored = await here.do("restore", "all.dump", DATABASE_URL=database_of(there))
    assert restored.code == 0
    assert "Links to WhatsApp in it: 1" in restored.out
    assert "never again start" in restored.out
    refused = await here.do("account", "move", "shop", "--to", database_of(there))
    assert refused.code == 1
    assert "has a session of this number already" in refused.err
    async with there.running():
        await customer.says("oi")
        await customer.hears("Hello!")
    assert len(owner.linked) == 1


@asynccontextmanager
async def held(dsn: str, lock: str) -> AsyncIterator[None]:
    """Whoever needs these rows or tables waits until the end of the block."""
    async with connected(dsn) as connection, connection.transaction():
        await connection.execute(lock)
        yield


async def is_waiting(dsn: str) -> bool:
    async with connected(dsn) as connection:
        return bool(await connection.fetchval(WAITS))


async def links(*machines: Machine) -> list[int]:
    found = []
    for machine in machines:
        async with connected(database_of(machine)) as connection:
            found.append(await connection.fetchval(LINKS))
    return found


async def left_alone(*machines: Machine) -> None:
    """What a killed process had begun is over when its sessions are."""

    async def alone() -> bool:
        counts = []
        for machine in machines:
            async with connected(database_of(machine)) as connection:
                counts.append(await connection.fetchval(OTHERS))
        return not any(counts)

    await until(alone)


async def killed(here: Machine, there: Machine, *, at: Machine, lock: str) -> None:
    """A move that dies when it comes to this lock."""
    async with held(database_of(at), lock):
        process = await here.start("account", "move", "shop", "--to", database_of(there))
        await until(lambda: is_waiting(database_of(at)))
        process.kill()
        await process.wait()
    await left_alone(here, there)


async def killed_between_arrival_and_farewell(here: Machine, there: Machine) -> None:
    async with AsyncExitStack() as source:
        async with held(database_of(there), ACCOUNT):
            process = await here.start("account", "move", "shop", "--to", database_of(there))
            await until(lambda: is_waiting(database_of(there)))
            await source.enter_async_context(held(database_of(here), ACCOUNT))
        await until(lambda: is_waiting(database_of(here)))
        process.kill()
        await process.wait()
    await left_alone(here, there)


async def test_a_move_that_is_killed_anywhere_loses_nothing_and_is_repeated(
    here: Machine, there: Machine, owner: Owner, customer: Customer
) -> None:
    await here.scan(owner)
    assert (await there.do("account", "list")).code == 0
    left_database = ("account", "move", "shop", "--to", database_of(there))

    await killed(here, there, at=here, lock=ACCOUNT)
    assert await links(here) == [1]  # it has not begun
    await killed(here, there, at=there, lock=ACCOUNT)
    assert await links(here, there) == [0, 0]  # it has left, and not arrived
    await killed(here, there, at=there, lock=SESSION)
    assert await links(here, there) == [0, 0]  # half of it had been written
    refused = await here.do("run")
    assert refused.code == 2
    assert "repeating sidestep account move shop" in refused.err
    await killed_between_arrival_and_farewell(here, there)
    assert await links(here, there) == [0, 1]
    refused = await here.do("run")
    assert refused.code == 2
    assert "repeating sidestep account move shop" in refused.err

    async with there.running():
        await customer.says("oi")
        await customer.hears("Hello!")
    assert (await here.do(*left_database)).code == 0
    assert await links(here, there) == [0, 1]
    again = await here.do(*left_database)
    assert again.code == 1
    assert "has moved to" in again.err
    assert len(owner.linked) == 1
    assert customer.phone.retries == []


async def test_what_is_on_its_way_to_one_database_goes_to_no_other(
    here: Machine, there: Machine, postgres: str, owner: Owner
) -> None:
    await here.scan(owner)
    assert (await there.do("account", "list")).code == 0
    await killed(here, there, at=there, lock=ACCOUNT)
    async with fresh_database(postgres) as third:
        refused = await here.do("account", "move", "shop", "--to", third)
    assert refused.code == 1
    assert "is on its way to" in refused.err
    unsaid = await here.do("account", "unlink", "shop")
    assert unsaid.code == 2
    forced = await here.do("account", "unlink", "shop", "--force")
    assert forced.code == 0
    assert "remove the device" in forced.out
    owner.unlinks()
    assert (await here.scan(owner)).code == 0
