"""`sidestep import`, as its user meets it: what it prints, how it ends, and that the bot leaves all of it alone."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import sys

import httpx2

from tests.acceptance.conversation import CUSTOMER, IDLE, PRICES, Shop, customer
from tests.acceptance.daemon import DAEMON_CONFIG, assert_clean, daemon
from tests.acceptance.invariants import assert_all_is_well
from tests.acceptance.program import DEADLINE_SECONDS, environment
from tests.conftest import connected

CHAT = (
    "13/01/2026, 10:00 - Ana: price\n13/01/2026, 10:01 - Dona: 45\n14/01/2026, 10:01 - Ana: how much is it\n"
)


def write(shop: Shop, content: str, name: str = "chat.txt") -> None:
    (shop.folder / name).write_text(content, encoding="utf-8")


async def test_a_chat_is_imported_once_and_the_bot_answers_only_what_comes_after(shop: Shop) -> None:
    write(shop, CHAT)
    arguments = ("import", "chat.txt", "--chat", CUSTOMER, "--me", "Dona")
    for new in (3, 0):
        told = await shop.run(*arguments, DATABASE_URL=shop.dsn)
        assert told.code == 0, told.err
        assert told.out.splitlines() == [
            f"chat.txt: {new} new, {3 - new} known already",
            "chat.txt: dates are day, month, year; times are those of America/Sao_Paulo",
        ]
        assert told.err == ""
    heard = await shop.chat(customer("price", id="Q-1"), IDLE)
    assert heard.said_to() == [PRICES]
    assert [o.kind for o in heard.outputs].count("reply") == 1
    await assert_all_is_well(shop.dsn)


async def test_what_is_not_understood_is_told_and_ends_with_one(shop: Shop) -> None:
    write(shop, f"a preface\n{CHAT}31/02/2026, 10:00 - Ana: never\n")
    write(shop, "hello\n", "other.txt")
    write(
        shop,
        '{"chat": "+5511988880001", "from": "owner", "text": "hi", "sent_at": "2026-01-13T10:00:00Z"}\n',
        "all.jsonl",
    )
    told = await shop.run(
        "import", "chat.txt", "other.txt", "all.jsonl", "missing.zip", "--chat", CUSTOMER, "--me", "Dona",
        DATABASE_URL=shop.dsn,
    )  # fmt: skip
    assert told.code == 1
    assert [line.partition(",")[0] for line in told.out.splitlines()] == [
        "chat.txt: 3 new",
        "chat.txt: dates are day",
        "all.jsonl: 1 new",
    ]
    assert [line.partition(": ")[0] for line in told.err.splitlines()] == [
        "chat.txt", "chat.txt", "other.txt", "missing.zip",
    ]  # fmt: skip
    assert "Traceback" not in told.err
    assert "never" not in told.err


async def test_wrong_options_are_told(shop: Shop) -> None:
    write(shop, CHAT)
    told = await shop.run(
        "import", "chat.txt", "--dry-run", "--time-zone", "Moon/Base", DATABASE_URL=shop.dsn
    )
    assert (told.code, "--time-zone Moon/Base" in told.err, told.out) == (1, True, "")


async def test_another_system_leaves_messages_and_nobody_is_answered(shop: Shop) -> None:
    shop.configure(DAEMON_CONFIG)
    body = {
        "platform": "whatsapp",
        "external_conversation_id": "thread-7",
        "participant_identifier": CUSTOMER,
        "messages": [
            {
                "id": "1",
                "direction": "inbound",
                "type": "text",
                "content": "price",
                "sent_at": "2026-02-01T10:30:00Z",
            }
        ],
    }
    async with (
        daemon(shop.folder, DATABASE_URL=shop.dsn, SIDESTEP__HTTP__TOKEN="a-long-token") as served,
        httpx2.AsyncClient(trust_env=False, timeout=DEADLINE_SECONDS) as client,
    ):
        url = f"http://127.0.0.1:{served.port}/api/messages"
        assert (await client.post(url, json=body)).status_code == 401
        for accepted in (1, 0):
            answer = await client.post(url, json=body, headers={"Authorization": "Bearer a-long-token"})
            assert (answer.status_code, answer.json()["accepted"]) == (200, accepted)
        served.program.signal(signal.SIGTERM)
        assert_clean(await served.program.finished())
    async with connected(shop.dsn) as connection:
        assert await connection.fetchval("SELECT count(*) FROM sidestep.outbox") == 0
    await assert_all_is_well(shop.dsn)


async def test_at_a_terminal_it_asks_and_shows_how_far_it_is(shop: Shop) -> None:
    write(shop, CHAT.replace("13/01", "03/01").replace("14/01", "04/01"))
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bot", "import", "chat.txt"),
        cwd=shop.folder,
        env=environment(shop.folder, DATABASE_URL=shop.dsn, TERM="xterm", COLUMNS="200"),
        stdin=theirs,
        stdout=asyncio.subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    os.write(
        ours, b"1\n2\n+5511988880001\n"
    )  # day first; the second by number of messages; the customer's number
    screen = bytearray()
    loop = asyncio.get_running_loop()

    def read() -> None:
        try:
            screen.extend(os.read(ours, 1 << 16))
        except OSError:  # the other end is closed
            loop.remove_reader(ours)

    loop.add_reader(ours, read)
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            out, _ = await process.communicate()
    finally:
        loop.remove_reader(ours)
        if process.returncode is None:
            process.kill()
        os.close(ours)
    assert process.returncode == 0, screen.decode()
    assert out.decode().startswith("chat.txt: 3 new")
    for words in (
        "reading chat.txt",
        "In which order",
        "Which of these is you",
        "phone number of Ana",
        "recording chat.txt",
    ):
        assert words in screen.decode()
