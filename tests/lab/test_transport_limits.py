"""What no remedy of ours reaches, as it is, and no worse."""

from collections import Counter
from pathlib import Path

from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from bot.transports.base import ConnectionState
from tests.conftest import connected, until
from tests.lab.soak.gauges import LEFT_BY_A_CLIENT, STORE, kinds_of_descriptors
from tests.lab.transport_bot import TransportBot, make_session_schema

_NEW_CLIENTS = 6


def _descriptors() -> Counter[str]:
    return kinds_of_descriptors(Path("/proc/self"))


async def test_another_client_costs_two_descriptors(
    empty_dsn: str, lab: Lab, owner: Owner, customer: Customer
) -> None:
    await make_session_schema(empty_dsn)
    bot = TransportBot(empty_dsn, lab)
    await bot.pair(owner)

    async def talk(n: int) -> None:
        await customer.says(f"question {n}")
        await bot.message(f"question {n}")
        await bot.says(customer.lid, f"answer {n}")
        await customer.hears(f"answer {n}")

    await talk(0)
    before = _descriptors()
    for n in range(1, _NEW_CLIENTS + 1):
        await bot.transport.suspend()
        await bot.transport.resume()
        await bot.reaches(ConnectionState.CONNECTED)
        await talk(n)
    most = before + Counter({STORE: _NEW_CLIENTS * LEFT_BY_A_CLIENT})

    async def nothing_else_is_open() -> bool:
        # What a client has in use at the moment comes and goes.
        return all(count <= most[kind] for kind, count in _descriptors().items())

    await until(nothing_else_is_open)
    await bot.stop()


async def test_an_answer_whose_key_was_used_is_not_shown_and_the_next_is(
    empty_dsn: str, lab: Lab, owner: Owner, customer: Customer
) -> None:
    await make_session_schema(empty_dsn)
    bot = TransportBot(empty_dsn, lab)
    await bot.pair(owner)
    await customer.says("oi")
    await bot.message("oi")
    await bot.says(customer.lid, "one")
    async with connected(empty_dsn) as store:
        await store.execute("CREATE TABLE earlier AS TABLE whatsmeow.whatsmeow_sessions")
        await bot.says(customer.lid, "two")
        # As by the library, where it opens a message while it seals "two".
        await store.execute(
            "UPDATE whatsmeow.whatsmeow_sessions AS now SET session = earlier.session FROM earlier"
            " WHERE (now.our_jid, now.their_id) = (earlier.our_jid, earlier.their_id)"
        )
    lost = await bot.says(customer.lid, "three")
    await bot.says(customer.lid, "four")
    await customer.hears("four")
    assert [heard.text for heard in customer.heard] == ["one", "two", "four"]
    (repeat,) = customer.phone.repeats
    assert repeat.id == lost.external_id
    assert repeat.opened_at is not None
    assert customer.phone.retries == []  # nothing asks for it again
    await bot.stop()
