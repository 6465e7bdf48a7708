"""The other commands: what they print, how they end, and that a mistake is told in a line without a secret."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest

from tests.acceptance.conversation import CONFIG, IDLE, PRICES, Shop, advance, customer, owner
from tests.acceptance.daemon import DAEMON_CONFIG
from tests.acceptance.invariants import assert_all_is_well, recorded_ids
from tests.conftest import connected

COMMANDS = ("run", "demo", "chat", "check", "migrate", "pair", "why", "stats", "import", "backup", "restore")


async def test_help_names_every_command(shop: Shop) -> None:
    told = await shop.run("--help")
    assert told.code == 0
    assert [c for c in COMMANDS if c not in told.out] == []
    assert (await shop.run("no-such-command")).code == 2
    assert (await shop.run("--version")).out == f"sidestep {metadata.version('sidestep')}\n"


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
    said = {"migrate": "is up to date", "check": "is up to date"}
    looked = await shop.run("check", DATABASE_URL=empty_dsn)
    assert (looked.code, "is empty: the first start sets it up" in looked.out) == (0, True)
    async with connected(empty_dsn) as connection:  # it has only looked
        assert await connection.fetchval("SELECT to_regnamespace('sidestep')") is None
    for command in ("migrate", "migrate", "check"):
        told = await shop.run(command, DATABASE_URL=empty_dsn)
        assert told.code == 0, told.err
        assert said[command] in told.out
        assert len([line for line in told.out.splitlines() if not line.startswith("warning: ")]) == 1


async def test_migrate_prints_a_face_as_one_file_and_shows_one_in_public(shop: Shop, empty_dsn: str) -> None:
    told = await shop.run("migrate", "--print", "whaply")
    assert told.code == 0, told.err
    async with connected(empty_dsn) as connection:
        await connection.execute(told.out)
        await connection.execute("SELECT sidestep.hide_public_face()")
    shop.configure(f"{CONFIG}\nstore: {{public_face: whaply}}\n")
    assert (await shop.run("migrate", DATABASE_URL=empty_dsn)).code == 0
    async with connected(empty_dsn) as connection:
        assert await connection.fetch("SELECT * FROM public.messages") == []
    told = await shop.run("migrate", "--print", "no-such-face")
    assert (told.code, told.out) == (1, "")
    assert "whaply" in told.err


async def test_check_warns_of_a_model_without_a_key(shop: Shop) -> None:
    shop.configure(CONFIG.replace("auto_resume_after: 2h", "llm_provider: anthropic"))
    told = await shop.run("check", DATABASE_URL=shop.dsn)
    assert told.code == 0
    assert "ANTHROPIC_API_KEY" in told.out


async def test_why_tells_of_edits_revokes_and_reactions(shop: Shop) -> None:
    async with shop.conversation() as talk:
        talk.say(customer("price", id="Q-1"), IDLE)
        reply = (await talk.reply()).id
        talk.say(customer("prices", id="E-1", type="edit", reply_to="Q-1"))
        talk.say(customer("👍", id="R-1", type="reaction", reply_to=reply))
        talk.say(owner("", id="V-1", type="revoke", reply_to=reply))
        await talk.ended()
    told = (await shop.run("why", "Q-1", DATABASE_URL=shop.dsn)).out
    for event in ("edited by the customer", "reaction 👍 by the customer", "revoked by the human"):
        assert told.count(event) == 1
    assert "edit of Q-1" in (await shop.run("why", "E-1", DATABASE_URL=shop.dsn)).out
    as_json = json.loads((await shop.run("why", "Q-1", "--json", DATABASE_URL=shop.dsn)).out)
    assert [c["type"] for c in as_json["changes"]] == ["edit"]
    assert [(c["type"], c.get("emoji")) for c in as_json["replies"][0]["changes"]] == [
        ("reaction", "👍"),
        ("revoke", None),
    ]


async def test_why_tells_of_what_could_not_be_recorded(shop: Shop) -> None:
    await shop.chat(customer("price", id="Q-1"), IDLE)
    async with connected(shop.dsn) as connection:
        await connection.execute(
            "INSERT INTO sidestep.quarantine (tenant_id, account_id, external_id, event, error, received_at)"
            " SELECT tenant_id, account_id, 'Q-2', '{}', 'DataError: bytes', now() FROM sidestep.accounts"
        )
    told = await shop.run("why", "Q-2", DATABASE_URL=shop.dsn)
    assert (told.code, "quarantined (DataError: bytes)" in told.out) == (0, True)
    as_json = json.loads((await shop.run("why", "Q-2", "--json", DATABASE_URL=shop.dsn)).out)
    of_a_story = json.loads((await shop.run("why", "Q-1", "--json", DATABASE_URL=shop.dsn)).out)
    assert (as_json["external_id"], as_json["action"], as_json["replies"]) == ("Q-2", "quarantined", [])
    assert as_json.keys() == of_a_story.keys()


async def test_why_tells_a_messages_story(shop: Shop) -> None:
    await shop.chat(
        *(customer("price", id="Q-1"), IDLE, owner("Hi", id="Q-2"), customer("price", id="Q-3"), IDLE),
        advance("3h"),
    )
    for reference, words in (
        ("Q-1", ("keyword_replied", "sent")),
        ("Q-2", ("message: paused", "by the clock: resumed")),
        ("Q-3", ("ignored_paused",)),
    ):
        told = await shop.run("why", reference, DATABASE_URL=shop.dsn)
        assert told.code == 0, told.err
        assert [w for w in words if w not in told.out] == []
    as_json = await shop.run("why", "Q-2", "--json", DATABASE_URL=shop.dsn)
    assert '"action":"paused"' in as_json.out


async def test_a_backup_restores_what_was_said(shop: Shop, empty_dsn: str) -> None:
    edited = customer("prices", type="edit", reply_to="Q-1")
    await shop.chat(customer("price", id="Q-1"), IDLE, edited, owner("Hi", id="H-1"))
    file = shop.folder / "shop.backup"
    made = await shop.run("backup", file, DATABASE_URL=shop.dsn)
    assert made.code == 0, made.err
    assert str(file) in made.out
    restored = await shop.run("restore", file, DATABASE_URL=empty_dsn)
    assert restored.code == 0, restored.err
    copy = Shop(folder=shop.folder, dsn=empty_dsn)
    assert "edited by the customer" in (await copy.run("why", "Q-1", DATABASE_URL=copy.dsn)).out
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
    assert len(await recorded_ids(copy.dsn)) == 4
    assert (await shop.run("restore", file, "--replace", DATABASE_URL=copy.dsn)).code == 0
    assert await rows(copy.dsn) == await rows(shop.dsn)


async def test_what_is_no_backup_is_refused(shop: Shop) -> None:
    junk = shop.folder / "junk"
    write(junk, "no backup")
    for file in (junk, shop.folder / "missing"):
        told = await shop.run("restore", file, "--replace", DATABASE_URL=shop.dsn)
        assert told.code == 2
        assert str(file) in told.err
        assert told.err.startswith(f"{file} is no backup of Sidestep's") is (file == junk)
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
            "SELECT sidestep.keep_lease(tenant_id, account_id, 0, false, 'it', '1 h') FROM sidestep.accounts"
        )
        told = await shop.run("restore", "it.dump", "--replace", DATABASE_URL=shop.dsn)
        assert told.code == 2
        assert "stop that one first" in told.err
