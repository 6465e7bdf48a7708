"""`sidestep archive`, as its user meets it: what it tells, and that what was said long ago is found as before."""

from __future__ import annotations

import json

from tests.acceptance.conversation import CUSTOMER, IDLE, PRICES, Shop, admin, customer
from tests.acceptance.invariants import assert_all_is_well
from tests.conftest import connected

LINES = "".join(
    json.dumps({"chat": CUSTOMER, "from": "customer", "id": f"OLD-{n}", "text": text, "sent_at": at}) + "\n"
    for n, (text, at) in enumerate(
        [("a marzipan cake", "2024-05-03T10:00:00Z"), ("and a strudel", "2024-06-03T10:00:00Z")]
    )
)


async def test_old_months_move_and_everything_is_found_as_before(shop: Shop) -> None:
    (shop.folder / "old.jsonl").write_text(LINES, encoding="utf-8")
    imported = await shop.run("import", "old.jsonl", DATABASE_URL=shop.dsn)
    assert imported.code == 0, imported.err
    before = await shop.run("export", CUSTOMER, DATABASE_URL=shop.dsn)
    told = await shop.run("archive", "--older-than", "90d", "--json", DATABASE_URL=shop.dsn)
    assert told.code == 0, told.err
    summary = json.loads(told.out)
    assert summary.pop("size_bytes") > 0
    assert summary == {"kind": "archived", "months": ["2024-05", "2024-06"], "messages": 2, "busy": []}
    async with connected(shop.dsn) as connection:
        tables = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'sidestep_archive' AND tablename LIKE 'messages%'"
        )
        assert {r["tablename"] for r in tables} == {"messages_202405", "messages_202406"}

    again = await shop.run("archive", "--older-than", "90d", DATABASE_URL=shop.dsn)
    assert (again.code, again.out) == (0, "Nothing is older than that: all is archived.\n")
    after = await shop.run("export", CUSTOMER, DATABASE_URL=shop.dsn)
    assert after.out.splitlines()[1:] == before.out.splitlines()[1:]
    repeated = await shop.run("import", "old.jsonl", DATABASE_URL=shop.dsn)
    assert repeated.out.startswith("old.jsonl: 0 new, 2 known already")
    heard = await shop.chat(admin("/search marzipan"), customer("price"), IDLE)
    assert heard.said_to() == [PRICES]
    assert any("marzipan" in reply.text for reply in heard.replies)
    await assert_all_is_well(shop.dsn)


async def test_each_month_is_told_and_what_is_no_time_is_refused(shop: Shop) -> None:
    (shop.folder / "old.jsonl").write_text(LINES, encoding="utf-8")
    await shop.run("import", "old.jsonl", DATABASE_URL=shop.dsn)
    told = await shop.run("archive", "--older-than", "90d", DATABASE_URL=shop.dsn)
    assert told.code == 0, told.err
    assert told.out.splitlines()[-1].startswith("2 months with 2 messages are archived, ")
    assert told.err.splitlines() == ["2024-05: 1 message", "2024-06: 1 message"]
    for wrong in ("soon", "0d"):
        refused = await shop.run("archive", "--older-than", wrong, DATABASE_URL=shop.dsn)
        assert (refused.code, refused.out) == (1, "")
        assert refused.err.startswith("--older-than: ")
