"""`sidestep erase`, as its user meets it: what it asks, prints and leaves."""

from __future__ import annotations

import json

from tests.acceptance.conversation import CONFIG, CUSTOMER, IDLE, PRICES, Shop, customer
from tests.acceptance.invariants import assert_all_is_well
from tests.acceptance.terminal import terminal

OTHER = "+5511988880002"


async def test_a_person_is_erased_and_nobody_else(shop: Shop) -> None:
    await shop.chat(customer("price"), customer("hello", chat=OTHER), IDLE)
    asked = await shop.run("erase", CUSTOMER, DATABASE_URL=shop.dsn)
    assert (asked.code, asked.out) == (1, "")
    assert "--yes" in asked.err
    told = await shop.run("erase", CUSTOMER, "--yes", "--json", DATABASE_URL=shop.dsn)
    assert told.code == 0, told.err
    receipt = json.loads(told.out)
    assert (receipt["kind"], receipt["tenant"], receipt["files"]) == ("erased", "shop", 0)
    assert (receipt["went"]["messages"], receipt["went"]["contacts"]) == (2, 1)
    assert CUSTOMER[1:] not in told.out
    again = await shop.run("erase", CUSTOMER, "--yes", DATABASE_URL=shop.dsn)
    assert (again.code, again.err) == (0, "")
    assert again.out.splitlines()[1:] == ["files: 0"]
    heard = await shop.chat(customer("price", id="again"), IDLE)
    assert heard.said_to() == [PRICES]
    await assert_all_is_well(shop.dsn)


async def test_whoever_sits_at_the_terminal_is_asked(shop: Shop) -> None:
    await shop.chat(customer("price", name="Ana"), IDLE)
    shop.configure(f'{CONFIG}database:\n  url: "{shop.dsn}"\n')
    for said, code in ((b"n\n", 1), (b"y\n", 0)):
        async with terminal("erase", "ana", cwd=shop.folder, home=shop.folder) as screen:
            await screen.shows("for ever? [y/N]")
            assert f"Ana ({CUSTOMER}): 2 messages" in screen.screen
            screen.type(said)
            assert await screen.ended() == code
