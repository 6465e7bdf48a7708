"""`sidestep stats`: what it tells of the messages and of the store, for people and for programs."""

from __future__ import annotations

import json

from tests.acceptance.conversation import IDLE, Shop, customer, owner

OTHER = "+5511988880002"


async def test_it_tells_how_much_was_said_and_how_the_store_is(shop: Shop) -> None:
    await shop.chat(
        customer("price", name="Ana"), IDLE, owner("Hi"), customer("picture", type="image"), IDLE,
        customer("hello", chat=OTHER, name="Ben"), IDLE,
    )  # fmt: skip
    told = await shop.run("stats", "--json", "--slow", "--indexes", "--by", "month", DATABASE_URL=shop.dsn)
    assert told.code == 0, told.err
    found = json.loads(told.out)
    [tenant] = found["tenants"]
    keys = ("tenant", "total", "incoming", "outgoing", "with_media", "commands", "failed")
    assert [tenant[key] for key in keys] == ["shop", 6, 3, 3, 1, 0, 0]
    assert tenant["by"]["author"] == {"customer": 3, "bot": 2, "human": 1}
    assert tenant["by"]["context"] == {"private": 6}
    assert [period["total"] for period in tenant["periods"]] == [6]
    tables = {t["name"]: t for t in found["tables"]}
    assert tables["messages"]["months"] >= 1
    assert tables["messages"]["table_bytes"] > 0
    assert any(i["name"] == "messages_words" and i["size_bytes"] > 0 for i in found["indexes"])
    assert all("sidestep." in s["query"].lower() and s["calls"] > 0 for s in found["slow"])
    assert found["slow"]
    assert found["folds_accents"] is True

    told = await shop.run(
        "stats", "--chat", "Ben", "--since", "7d", "--slow", "--indexes", DATABASE_URL=shop.dsn
    )
    assert told.code == 0, told.err
    lines = told.out.splitlines()
    assert lines[0].split() == ["messages", *keys[1:]]
    assert lines[1].split()[-6:] == ["2", "1", "1", "0", "0", "0"]
    assert any(line.startswith("by author: ") for line in lines)
    assert any(line.startswith("messages (") for line in lines)


async def test_what_it_cannot_tell_it_says(shop: Shop) -> None:
    for arguments, words in ((("--chat", "Zoe"), "no chat"), (("--since", "soon"), "--since")):
        told = await shop.run("stats", *arguments, DATABASE_URL=shop.dsn)
        assert (told.code, told.out) == (1, "")
        assert words in told.err
        assert "Traceback" not in told.err
