"""What `sidestep account` keeps in the books, without WhatsApp: names, tenants, and what it tells to do next."""

from __future__ import annotations

import pytest

from tests.acceptance.conversation import CONFIG, Shop
from tests.conftest import connected

TWO_TENANTS = CONFIG.replace("flows:\n", '  - {instance_name: bakery, owner: "+5511999990002"}\nflows:\n', 1)


@pytest.mark.parametrize("name", ["", "two words", "12", "call-5511999990000", "-x", "é"])
async def test_an_account_is_named_as_in_the_configuration(shop: Shop, name: str) -> None:
    told = await shop.run("account", "add", "--", name, DATABASE_URL=shop.dsn)
    assert (told.code, told.out) == (1, "")
    assert told.err.startswith("the name should")
    assert "Traceback" not in told.err


async def test_an_account_that_is_not_linked_says_how_to_link_it(shop: Shop) -> None:
    added = await shop.run("account", "add", "second", DATABASE_URL=shop.dsn)
    assert (added.code, added.err) == (0, "")
    assert "sidestep pair --account second" in added.out
    assert "once it is started again" in added.out
    again = await shop.run("account", "add", "second", DATABASE_URL=shop.dsn)
    assert (again.code, "another name" in again.err) == (1, True)
    listed = await shop.run("account", "list", DATABASE_URL=shop.dsn)
    assert listed.out.splitlines() == [
        "shop · tenant shop · not linked: link it with `sidestep pair --account shop`",
        "second · tenant shop · not linked: link it with `sidestep pair --account second`",
    ]
    which = await shop.run("pair", DATABASE_URL=shop.dsn)
    assert "several accounts (shop, second)" in which.err


async def test_with_several_tenants_an_account_needs_one_of_them(shop: Shop) -> None:
    shop.configure(TWO_TENANTS)
    unsaid = await shop.run("account", "add", "van", DATABASE_URL=shop.dsn)
    assert unsaid.code == 1
    assert "(shop, bakery)" in unsaid.err
    assert "--tenant" in unsaid.err
    unknown = await shop.run("account", "add", "van", "--tenant", "florist", DATABASE_URL=shop.dsn)
    assert unknown.code == 1
    assert "there is no tenant 'florist'; there is: shop, bakery" in unknown.err
    added = await shop.run("account", "add", "van", "--tenant", "bakery", DATABASE_URL=shop.dsn)
    assert (added.code, "an account of bakery" in added.out) == (0, True)
    taken = await shop.run("account", "add", "van", "--tenant", "shop", DATABASE_URL=shop.dsn)
    assert taken.code == 1
    removed = await shop.run("account", "remove", "van", DATABASE_URL=shop.dsn)
    assert removed.code == 0
    listed = await shop.run("account", "list", DATABASE_URL=shop.dsn)
    assert [line.split(" · ")[:2] for line in listed.out.splitlines()] == [
        ["shop", "tenant shop"],
        ["bakery", "tenant bakery"],
    ]


async def test_without_a_number_one_is_told_how_to_add_one(shop: Shop) -> None:
    assert (await shop.run("account", "remove", "shop", DATABASE_URL=shop.dsn)).code == 0
    listed = await shop.run("account", "list", DATABASE_URL=shop.dsn)
    assert (listed.code, listed.out) == (0, "there is no number: sidestep account add NAME adds one\n")
    refused = await shop.run("run", DATABASE_URL=shop.dsn, SIDESTEP__HTTP__PORT="0")
    assert (refused.code, refused.out) == (2, "")
    assert "sidestep account add NAME" in refused.err


async def now_is(shop: Shop, columns: str) -> None:
    async with connected(shop.dsn) as connection:
        await connection.execute(f"UPDATE sidestep.accounts SET {columns}")  # noqa: S608 - our own words


async def test_a_number_that_has_moved_is_not_linked_twice_unasked(shop: Shop) -> None:
    await shop.run("account", "list", DATABASE_URL=shop.dsn)
    await now_is(shop, "moved_to = 'elsewhere/shop'")
    listed = await shop.run("account", "list", DATABASE_URL=shop.dsn)
    assert listed.out == "shop · tenant shop · moved to elsewhere/shop, which serves it\n"
    for command, code in (("pair", 1), ("run", 2)):
        refused = await shop.run(command, DATABASE_URL=shop.dsn, SIDESTEP__HTTP__PORT="0")
        assert (refused.code, refused.out) == (code, ""), command
        assert "is in elsewhere/shop" in refused.err
        assert "answered twice" in refused.err
        assert "sidestep pair --account shop --again" in refused.err


async def test_a_number_that_was_restored_without_its_link_is_not_said_to_be_logged_out(shop: Shop) -> None:
    await shop.run("account", "list", DATABASE_URL=shop.dsn)
    await now_is(shop, "jid = '5511999990000@s.whatsapp.net', paired_at = now()")
    logged_out = (await shop.run("account", "list", DATABASE_URL=shop.dsn)).out
    assert "logged out: link it with `sidestep pair --account shop`" in logged_out
    assert "since" not in logged_out

    await now_is(shop, "jid = NULL, moved_to = 'over/there'")  # a number that has moved stays as it is
    assert (await shop.run("account", "add", "van", DATABASE_URL=shop.dsn)).code == 0
    async with connected(shop.dsn) as connection:
        await connection.execute(
            "UPDATE sidestep.accounts SET jid = '5511999990002@s.whatsapp.net', paired_at = now() WHERE name = 'van'"
        )
    await shop.run("backup", "it.dump", "--without-links", DATABASE_URL=shop.dsn)
    await shop.run("restore", "it.dump", DATABASE_URL=shop.dsn)
    moved, copied = (await shop.run("account", "list", DATABASE_URL=shop.dsn)).out.splitlines()
    assert "moved to over/there" in moved
    assert "its link is not in this database but in the database that the backup was made of" in copied
    assert "`sidestep account move van`" in copied
    assert "`sidestep pair --account van --again`" in copied
    assert "since" not in copied
    refused = await shop.run("account", "unlink", "van", DATABASE_URL=shop.dsn)
    assert (refused.code, "unlink it there" in refused.err) == (1, True)
    forced = await shop.run("account", "unlink", "van", "--force", DATABASE_URL=shop.dsn)
    assert (forced.code, "WhatsApp does not know" in forced.out) == (0, True)


async def test_a_wrong_target_of_a_move_is_named_and_may_stand_in_the_environment(shop: Shop) -> None:
    typed = await shop.run("account", "move", "shop", "--to", "foo", DATABASE_URL=shop.dsn)
    inherited = await shop.run("account", "move", "shop", DATABASE_URL=shop.dsn, SIDESTEP_MOVE_TO="foo")
    for told in (typed, inherited):
        assert (told.code, told.out) == (1, "")
        assert "the database that --to names cannot be read: it must look like postgresql://" in told.err
        assert "DATABASE_URL" not in told.err
