"""Bad lines, other databases and other configurations: each is named, and harms nothing else."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from storage.models import Action
from tests.acceptance.conversation import (
    CONFIG,
    CUSTOMER,
    IDLE,
    PRICES,
    Line,
    Shop,
    customer,
    encode,
    read_transcript,
)
from tests.acceptance.invariants import assert_all_is_well, recorded_ids
from tests.acceptance.program import DEADLINE_SECONDS, environment, started
from tests.conftest import connected

# Each bad line with a word that its error must have.
BAD_LINES: tuple[tuple[Line, str], ...] = (
    (b"nonsense", "JSON"),
    (b'{"from": "customer", "text": "cut off', "JSON"),
    (b'{"from": "customer", "text": "\xff\xfe"}', "UTF-8"),
    (b'{"from": "customer", "text": "\\ud800"}', "JSON"),
    (b"[" * 2000, "JSON"),
    (b"[]", "object"),
    (b'"text"', "object"),
    (b"{}", "from"),
    ({"say": "x"}, "from"),
    (customer("x" * (2 << 20)), "longer"),
    ({"from": "boss", "text": "x"}, "from"),
    ({"from": "customer"}, "text"),
    ({"from": "customer", "text": 5}, "text"),
    (customer("no \0 message"), "text"),
    (customer("x", id=""), "id"),
    (customer("x", id="a\0b"), "id"),
    (customer("x", name="a\0b"), "name"),
    (customer("x", chat="12"), "chat"),
    (customer("x", chat="my friend"), "chat"),
    (customer("x", at="yesterday"), "at"),
    (customer("x", at="2026-01-31T12:00:00"), "at"),
    (customer("x", at=1769860800), "at"),
    (customer("x", type="song"), "type"),
    (customer("x", group="my friends", sender=CUSTOMER), "group: should be a group's id"),
    (customer("x", group="g1", sender=CUSTOMER), "such as 120363000000000001"),
    (customer("x", txet="y"), "txet: is no key of such a line (did you mean text?)"),
    ({"from": "customer", "txet": "y"}, "did you mean text?"),
    (customer("x", form="owner"), "did you mean from?"),
    ({"from": "customer", "type": "edit", "reply_to": "x"}, "text: is missing"),
    ({"receipt": "read", "id": "nobody knows it"}, "no message with this id"),
    (customer("x", group="120363000000000001"), "sender"),
    (customer("x", colour="red"), "colour"),
    (customer("x", who="owner"), "who"),
    (customer("x", wait="idle"), "wait"),
    ({"wait": "busy"}, "wait"),
    ({"advance": "soon"}, "advance"),
    ({"advance": "-2h"}, "advance"),
    ({"advance": "999999999d"}, "advance"),
    ({"advance": "9999999999999999999d"}, "advance"),
    ({"receipt": "sent", "id": "x"}, "receipt"),
    ({"receipt": "read"}, "id"),
    ({"typing": "yes"}, "typing"),
    ({"typing": True, "chat": "x"}, "chat"),
)


async def test_a_bad_line_is_named_and_the_rest_is_unharmed(shop: Shop) -> None:
    before, after = [customer("price", id="before"), IDLE], [customer("price", id="after"), IDLE]
    heard = await shop.chat(*before, *(line for line, _ in BAD_LINES), *after)
    assert list(heard.errors) == list(range(3, 3 + len(BAD_LINES)))
    for (line, word), error in zip(BAD_LINES, heard.errors.values(), strict=True):
        assert word in error, (line[:80] if isinstance(line, bytes) else line, error[:200])
        assert len(error) < 400
    assert heard.decided("before") == heard.decided("after") == [Action.KEYWORD_REPLIED]
    assert await recorded_ids(shop.dsn) == ["before", "after"]
    await assert_all_is_well(shop.dsn)


async def test_no_input_is_no_mistake(shop: Shop) -> None:
    assert (await shop.chat()).outputs == (await shop.chat(b"", b"\r", b"   ")).outputs == ()


async def test_the_last_line_needs_no_end(shop: Shop) -> None:
    stdin = encode([customer("price")]).removesuffix(b"\n")
    assert PRICES in (await shop.run("chat", "--jsonl", "--database", shop.dsn, stdin=stdin)).out


async def test_a_number_is_the_same_however_it_is_written(shop: Shop) -> None:
    forms = ("+5511988880009", "5511988880009", "+55 11 98888-0009", "+55 (11) 98888.0009")
    heard = await shop.chat(*(customer("price", chat=form) for form in forms), IDLE)
    [reply] = heard.replies
    assert reply.chat == "+5511988880009"
    assert len(reply.in_reply_to) == len(forms)


async def test_another_configuration_answers_with_its_own_words(shop: Shop) -> None:
    bakery = shop.folder / "bakery.yaml"
    words = CONFIG.replace("price,", "preço,").replace(PRICES, "Onze reais, ó! 🍞")
    bakery.write_text(words, encoding="utf-8")
    heard = await shop.chat(customer("PRECO?"), options=("--config", bakery))
    assert heard.said_to() == ["Onze reais, ó! 🍞"]


def entries(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_its_own_database_is_new_each_time_and_leaves_nothing(shop: Shop, open_folder: Path) -> None:
    for _ in range(2):
        stdin = encode([customer("price", id="same")])
        heard = read_transcript(await shop.run("chat", "--jsonl", stdin=stdin, TMPDIR=str(open_folder)))
        assert (heard.code, heard.err) == (0, "")
        assert heard.decided("same") == [Action.KEYWORD_REPLIED]
    assert entries(open_folder) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_at_once_and_leaves_nothing(
    shop: Shop, open_folder: Path, number: signal.Signals
) -> None:
    async with started("chat", "--jsonl", cwd=shop.folder, variables={"TMPDIR": str(open_folder)}) as program:
        program.write(encode([customer("price"), IDLE]))
        while "sent" not in await program.read_line():
            pass
        # It waits for the next line, which does not come.
        program.signal(number)
        finished = await program.finished(10)
    assert (finished.code, finished.err) == (128 + number, "")
    assert entries(open_folder) == []


async def test_it_ends_quietly_when_nobody_reads_its_results(shop: Shop) -> None:
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", '"$@" | head -n 1', "sh", sys.executable, "-m", "bot"),
        *("chat", "--jsonl", "--database", shop.dsn),
        cwd=shop.folder,
        env=environment(shop.folder),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    questions = [line for n in range(50) for line in (customer("price", id=str(n)), IDLE)]
    async with asyncio.timeout(DEADLINE_SECONDS):
        out, err = await process.communicate(encode(questions))
    assert (len(out.splitlines()), err) == (1, b"")


async def test_a_store_with_linked_numbers_is_left_alone(shop: Shop) -> None:
    await shop.chat(customer("price"), IDLE)
    async with connected(shop.dsn) as connection:
        await connection.execute(
            "CREATE TABLE whatsmeow.whatsmeow_device AS SELECT jid FROM sidestep.accounts;"
            "UPDATE sidestep.accounts SET jid = '5511999990000@s.whatsapp.net';"
            "INSERT INTO whatsmeow.whatsmeow_device VALUES ('5511999990000:3@s.whatsapp.net')"
        )
    finished = await shop.run("chat", "--jsonl", "--database", shop.dsn, stdin=b"{}\n")
    assert (finished.code, finished.out) == (2, "")
    assert "numbers that are linked" in finished.err


@pytest.mark.parametrize(
    "url",
    ["postgresql://ana:hidden-word@127.0.0.1:9/shop", "mysql://ana:hidden-word@127.0.0.1/shop"],
    ids=["nobody there", "not PostgreSQL"],
)
async def test_a_database_out_of_reach_is_told_without_its_password(shop: Shop, url: str) -> None:
    finished = await shop.run("chat", "--jsonl", "--database", url, stdin=b"{}\n")
    assert (finished.code, finished.out) == (2, "")
    assert 0 < len(finished.err.splitlines()) <= 3
    assert "Traceback" not in finished.err
    assert "hidden-word" not in finished.err
