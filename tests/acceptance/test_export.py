"""`sidestep export`, as its user meets it."""

from __future__ import annotations

import json

from tests.acceptance.conversation import CUSTOMER, IDLE, Shop, customer


async def test_what_is_exported_comes_back_after_it_was_erased(shop: Shop) -> None:
    await shop.chat(customer("price", name="Ana"), IDLE)
    nobody = await shop.run("export", DATABASE_URL=shop.dsn)
    assert (nobody.code, nobody.out) == (1, "")
    told = await shop.run("export", "Ana", "-o", "ana.jsonl", DATABASE_URL=shop.dsn)
    assert (told.code, told.out, told.err) == (0, "", "")
    file = shop.folder / "ana.jsonl"
    nowhere = await shop.run("export", "Ana", "-o", "ana.jsonl/ana.jsonl", DATABASE_URL=shop.dsn)
    assert (nowhere.code, nowhere.err) == (1, "ana.jsonl/ana.jsonl cannot be written: Not a directory\n")
    assert file.stat().st_mode & 0o777 == 0o600
    assert [json.loads(line).get("kind") for line in file.read_text().splitlines()] == [
        "export", "contact", "chat", None, None,
    ]  # fmt: skip
    assert (await shop.run("erase", CUSTOMER, "--yes", DATABASE_URL=shop.dsn)).code == 0
    back = await shop.run("import", "ana.jsonl", DATABASE_URL=shop.dsn)
    assert (back.code, back.out.splitlines()[0]) == (0, "ana.jsonl: 2 new, 0 known already")
