"""The other commands: what they print, how they end, and that a mistake is told in a line without a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.conversation import CONFIG, IDLE, PRICES, Shop, customer, owner
from tests.acceptance.daemon import DAEMON_CONFIG
from tests.acceptance.invariants import assert_all_is_well, recorded_ids
from tests.conftest import connected

COMMANDS = ("run", "demo", "chat", "check", "migrate", "pair", "why", "backup", "restore")


async def test_help_names_every_command(shop: Shop) -> None:
    told = await shop.run("--help")
    assert told.code == 0
    assert [c for c in COMMANDS if c not in told.out] == []
    assert (await shop.run("no-such-command")).code == 2


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        (CONFIG.replace('"+5511999990000"', '"my number"'), "tenants[0].owner"),
        (CONFIG.replace("auto_resume_after: 2h", "auto_resume_after: soon"), "tenants[0].auto_resume_after"),
        (f"{CONFIG}\npacing: {{}}\n", "pacing"),
        ("tenants: [", "config.yaml"),
        ("", "tenants"),
    ],
    ids=["number", "duration", "unknown key", "no YAML", "empty"],
)
async def test_a_wrong_configuration_is_named_by_its_place(shop: Shop, wrong: str, place: str) -> None:
    shop.configure(wrong)
    told = await shop.run("run", DATABASE_URL=shop.dsn)
    assert (told.code, told.out) == (2, "")
    assert place in told.err
    assert "Traceback" not in told.err


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ana:hidden-word@127.0.0.1:9/shop",
        "postgresql://ana:hidden-word@127.0.0.1:notaport/shop",
        "mysql://ana:hidden-word@127.0.0.1/shop",
        "hidden-word",
    ],
)
async def test_a_wrong_database_is_told_without_its_password(shop: Shop, url: str) -> None:
    shop.configure(DAEMON_CONFIG)
    told = await shop.run("run", DATABASE_URL=url)
    assert (told.code, told.out) == (2, "")
    assert told.err
    assert "Traceback" not in told.err
    assert "hidden-word" not in told.err


async def test_check_and_migrate_say_that_all_is_well(shop: Shop, empty_dsn: str) -> None:
    for command in ("migrate", "migrate", "check"):
        told = await shop.run(command, DATABASE_URL=empty_dsn)
        assert told.code == 0, told.err
        assert len([line for line in told.out.splitlines() if not line.startswith("warning: ")]) == 1


async def test_check_warns_of_a_model_without_a_key(shop: Shop) -> None:
    shop.configure(CONFIG.replace("auto_resume_after: 2h", "llm_provider: anthropic"))
    told = await shop.run("check", DATABASE_URL=shop.dsn)
    assert told.code == 0
    assert "ANTHROPIC_API_KEY" in told.out


async def test_why_tells_a_messages_story(shop: Shop) -> None:
    await shop.chat(
        customer("price", id="Q-1"), IDLE, owner("Hi", id="Q-2"), customer("price", id="Q-3"), IDLE
    )
    for reference, words in (("Q-1", ("keyword_replied", "sent")), ("Q-3", ("ignored_paused",))):
        told = await shop.run("why", reference, DATABASE_URL=shop.dsn)
        assert told.code == 0, told.err
        assert [w for w in words if w not in told.out] == []
    as_json = await shop.run("why", "Q-2", "--json", DATABASE_URL=shop.dsn)
    assert '"action":"paused"' in as_json.out


async def test_a_backup_restores_what_was_said(shop: Shop, empty_dsn: str) -> None:
    await shop.chat(customer("price", id="Q-1"), IDLE, owner("Hi"))
    file = shop.folder / "shop.backup"
    made = await shop.run("backup", file, DATABASE_URL=shop.dsn)
    assert made.code == 0, made.err
    assert str(file) in made.out
    restored = await shop.run("restore", file, DATABASE_URL=empty_dsn)
    assert restored.code == 0, restored.err
    copy = Shop(folder=shop.folder, dsn=empty_dsn)
    assert await rows(copy.dsn) == await rows(shop.dsn)
    # It goes on where the original stopped: still paused, and the same message is still a repeat.
    heard = await copy.chat(customer("price", id="Q-1"), customer("price", id="Q-4"), IDLE, owner("/resume"))
    assert (heard.replies, len(heard.notices)) == ([], 1)
    assert (await copy.chat(customer("price"), IDLE)).said_to() == [PRICES]
    await assert_all_is_well(copy.dsn)
    # A store with messages is not replaced unasked.
    refused = await shop.run("restore", file, DATABASE_URL=copy.dsn)
    assert refused.code == 2
    assert "--replace" in refused.err
    assert len(await recorded_ids(copy.dsn)) == 3
    assert (await shop.run("restore", file, "--replace", DATABASE_URL=copy.dsn)).code == 0
    assert await rows(copy.dsn) == await rows(shop.dsn)


async def test_what_is_no_backup_is_refused(shop: Shop) -> None:
    junk = shop.folder / "junk"
    write(junk, "no backup")
    for file in (junk, shop.folder / "missing"):
        told = await shop.run("restore", file, "--replace", DATABASE_URL=shop.dsn)
        assert told.code == 2
        assert str(file) in told.err
        assert "Traceback" not in told.err


def write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")


async def rows(dsn: str) -> list[str]:
    """Every message, decision and reply, as text."""
    async with connected(dsn) as connection:
        found = [
            await connection.fetch(f"SELECT t::text AS row FROM {table} t ORDER BY 1")  # noqa: S608 - our own names
            for table in ("sidestep.messages", "sidestep.decisions", "sidestep.outbox", "sidestep.chat_state")
        ]
    return [row["row"] for table in found for row in table]


async def test_a_backup_goes_where_it_was_asked_to_go_also_by_a_relative_path(
    shop: Shop, empty_dsn: str
) -> None:
    assert (await shop.run("migrate", DATABASE_URL=empty_dsn)).code == 0
    told = await shop.run("backup", "shop.dump", DATABASE_URL=empty_dsn)
    assert told.code == 0, told.err
    written = shop.folder / "shop.dump"
    assert written.stat().st_size > 1000
    told = await shop.run("restore", "shop.dump", DATABASE_URL=empty_dsn)
    assert told.code == 0, told.err
    told = await shop.run("restore", "no.dump", DATABASE_URL=empty_dsn)
    assert told.code == 2
    assert "there is no file" in told.err


async def test_a_store_that_is_served_is_not_restored_over(shop: Shop) -> None:
    await shop.chat(customer("hello"), IDLE)
    assert (await shop.run("backup", "it.dump", DATABASE_URL=shop.dsn)).code == 0
    async with connected(shop.dsn) as daemon:
        await daemon.execute(
            "SELECT pg_advisory_lock(hashtextextended('sidestep.account', account_id)) FROM sidestep.accounts"
        )
        told = await shop.run("restore", "it.dump", "--replace", DATABASE_URL=shop.dsn)
        assert told.code == 2
        assert "stop that one first" in told.err
