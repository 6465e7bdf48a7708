"""The small rooms of the WhatsApp transport: addresses, the session store's URL, error texts, threads."""

import asyncio
import logging
import subprocess
import sys
import threading

import pytest
from structlog.testing import capture_logs

from bot.transports.base import (
    NotConnected,
    ReachOutLimited,
    SendPostponed,
    SendRefused,
    SendUnconfirmed,
    TransportError,
)
from bot.transports.whatsapp import library, outcome
from bot.transports.whatsapp.ids import People, parse_jid
from bot.transports.whatsapp.session import device_of, session_store_url
from bot.transports.whatsapp.threads import DaemonThreads
from storage.models import Jid

PHONE, LID = Jid("5511999990000@s.whatsapp.net"), Jid("100000000000001@lid")


@pytest.mark.parametrize(
    ("text", "jid"),
    [
        ("5511999990000@s.whatsapp.net", PHONE),
        ("5511999990000:3@s.whatsapp.net", PHONE),
        ("5511999990000.1:3@s.whatsapp.net", PHONE),
        ("5511999990000@c.us", PHONE),
        ("100000000000001:3@lid", LID),
        ("100000000000001@hosted.lid", LID),
        ("s.whatsapp.net", None),
        ("@lid", None),
        ("", None),
    ],
)
def test_a_jid_loses_its_device(text: str, jid: Jid | None) -> None:
    assert parse_jid(text) == jid


def test_own_addresses_are_phone_then_lid() -> None:
    people = People([PHONE])
    people.be(PHONE, LID)
    people.be(PHONE, None)
    people.be(None, None)
    assert people.own == (PHONE, LID)
    assert people.is_me(LID)
    assert not people.is_me(None)


def test_an_account_that_was_linked_to_another_number_forgets_the_first() -> None:
    people = People([PHONE, LID])
    other = Jid("5511999990002@s.whatsapp.net")
    people.be(other, None)
    assert people.own == (other,)


def test_a_phone_number_is_written_to_by_its_lid_where_that_is_known() -> None:
    people = People([PHONE, LID])
    ana_phone, ana_lid = Jid("5511888880001@s.whatsapp.net"), Jid("200000000000001@lid")
    assert people.as_sent_to(ana_phone) == ana_phone
    people.pair(ana_lid, ana_phone)
    assert people.as_sent_to(ana_phone) == people.as_sent_to(ana_lid) == ana_lid
    assert people.as_sent_to(PHONE) == LID
    assert people.as_sent_to(Jid("120363000000000001@g.us")) == "120363000000000001@g.us"


def test_a_session_is_found_by_its_number() -> None:
    assert device_of(["5511999990009:1@s.whatsapp.net", "5511999990000:3@s.whatsapp.net"], PHONE) == (
        "5511999990000:3@s.whatsapp.net"
    )
    assert device_of([], PHONE) is None


@pytest.mark.parametrize(
    ("dsn", "url"),
    [
        (
            "postgresql://postgres@/app?host=/run/pg&port=5432",
            "postgres://postgres@/app?host=/run/pg&port=5432&sslmode=disable",
        ),
        (
            "postgresql://u:p%40ss@db.example.org:5433/app",
            "postgres://u:p%40ss@db.example.org:5433/app?sslmode=prefer",
        ),
        (
            "postgres://u@127.0.0.1/app?sslmode=verify-full",
            "postgres://u@127.0.0.1/app?sslmode=verify-full",
        ),
        ("postgresql://u@localhost:5432/app", "postgres://u@localhost:5432/app?sslmode=disable"),
        ("postgresql://u@[::1]:5432/app", "postgres://u@[::1]:5432/app?sslmode=disable"),
        (
            "postgresql://u@h/app?search_path=public",
            "postgres://u@h/app?search_path=whatsmeow&sslmode=prefer",
        ),
    ],
)
def test_gos_driver_gets_the_same_database(dsn: str, url: str) -> None:
    store = session_store_url(dsn)
    assert store.startswith(url)
    assert "search_path=whatsmeow" in store
    assert store.endswith("idle_session_timeout=10000")


@pytest.mark.parametrize("dsn", ["", "mysql://secret@h/db", "whatsapp.db", "secret"])
def test_another_kind_of_store_is_refused_without_quoting_it(dsn: str) -> None:
    with pytest.raises(ValueError, match="postgresql://") as error:
        session_store_url(dsn)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("server returned error 463", ReachOutLimited),
        ("server returned error 475", ReachOutLimited),
        ("server returned error 400", SendRefused),
        ("server returned error 421", SendRefused),
        ("server returned error 479", SendRefused),
        ("server returned error 799", SendRefused),
        ("server returned error 429", SendPostponed),
        ("server returned error 503", SendPostponed),
        ("no LID found for 5511000000000@s.whatsapp.net from server", SendRefused),
        ("failed to send message node: websocket not connected", NotConnected),
        ("failed to send message node: frame socket is closed", NotConnected),
        ("failed to get device list: failed to send usync query: websocket not connected", NotConnected),
        (
            "failed to get user info for 5511999990000@s.whatsapp.net to fill LID cache: info query timed out",
            NotConnected,
        ),
        ("client is nil", NotConnected),
        ("the store doesn't contain a device JID", NotConnected),
        # Bare, these come after the message had been written once.
        ("websocket not connected", SendUnconfirmed),
        ("frame socket is closed", SendUnconfirmed),
        ("websocket disconnected before message send returned response", SendUnconfirmed),
        ("timed out waiting for message send response", SendUnconfirmed),
        ("failed to send message node: failed to write msg: broken pipe", SendUnconfirmed),
        ("something new", SendUnconfirmed),
    ],
)
def test_an_error_text_tells_what_became_of_the_send(text: str, kind: type[Exception]) -> None:
    error = outcome.of_send(text)
    assert type(error) is kind
    assert "5511" not in str(error)


def test_a_refusal_keeps_its_code() -> None:
    error = outcome.of_send("server returned error 463")
    assert isinstance(error, SendRefused)
    assert error.code == 463


def test_an_upload_never_leaves_a_doubt() -> None:
    assert isinstance(outcome.of_upload("websocket not connected"), NotConnected)
    assert isinstance(outcome.of_upload("upload failed with status code 413"), SendRefused)
    assert isinstance(outcome.of_upload("upload failed with status code 503"), NotConnected)
    assert isinstance(outcome.of_upload("failed to execute request: EOF"), NotConnected)


async def test_a_call_is_on_its_thread_before_anything_is_awaited() -> None:
    threads = DaemonThreads("test", 1)
    started = threading.Event()
    future = threads.call(started.set)
    assert started.wait(5), "the loop has not run meanwhile"
    await future
    threads.close()


async def test_calls_of_one_thread_keep_their_order_and_bring_errors_back() -> None:
    threads = DaemonThreads("test", 1)
    seen: list[int] = []
    futures = [threads.call(seen.append, number) for number in range(50)]
    failing = threads.call(int, "x")
    await asyncio.gather(*futures)
    assert seen == list(range(50))
    with pytest.raises(ValueError, match="invalid literal"):
        await failing
    threads.close()


async def test_closing_refuses_what_has_not_begun_and_lets_the_rest_finish() -> None:
    threads = DaemonThreads("test", 1)
    begun, go_on = threading.Event(), threading.Event()

    def work() -> str:
        begun.set()
        go_on.wait(5)
        return "done"

    running, waiting = threads.call(work), threads.call(work)
    begun.wait(5)
    threads.close()
    with pytest.raises(NotConnected):
        await waiting
    assert threads.outstanding == 1
    go_on.set()
    assert await running == "done"


def run_python(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_call_that_never_returns_does_not_keep_the_process() -> None:
    script = """
import asyncio, threading
from bot.transports.whatsapp.threads import DaemonThreads

async def main():
    DaemonThreads("test", 1).call(threading.Event().wait)

asyncio.run(main())
print("over")
"""
    done = run_python(script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "over\n", "")


def test_loading_neonize_changes_neither_logging_nor_output() -> None:
    script = """
import logging, warnings
warnings.simplefilter("error")
logging.getLogger().setLevel(logging.DEBUG)
from bot.transports.whatsapp import library
library.load()
assert logging.getLogger().handlers == []
assert logging.getLogger().level == logging.DEBUG
"""
    done = run_python(script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_the_library_complains_of_is_logged_without_numbers() -> None:
    script = """
import logging
from bot import logs
from bot.transports.whatsapp import library
logs.setup(format="json")
library.load()
logging.getLogger("whatsmeow.Client").error("Failed to decrypt from 5511888880001@s.whatsapp.net: no session")
"""
    done = run_python(script)
    assert "Failed to decrypt" in done.stderr
    assert "no session" in done.stderr
    assert "5511888880001" not in done.stderr


def test_what_the_library_complains_of_has_no_numbers_before_any_log_sees_it() -> None:
    library.load()
    with capture_logs() as logs:
        logging.getLogger("whatsmeow.Client").error("Failed to decrypt from 5511888880001@s.whatsapp.net")
    [complaint] = [str(entry["complaint"]) for entry in logs]
    assert complaint == "Failed to decrypt from …@s.whatsapp.net"


def test_neonize_is_only_loaded_when_asked_for() -> None:
    script = """
import sys
import bot.transports.whatsapp.client
assert not [name for name in sys.modules if name.partition(".")[0] in ("neonize", "magic")]
"""
    done = run_python(script)
    assert (done.returncode, done.stderr) == (0, "")


def test_it_loads_on_a_machine_without_libmagic() -> None:
    script = """
import sys
looked_for = []

class NoMagic:
    def find_spec(self, name, path=None, target=None):
        if name == "magic" and "pylibmagic" not in sys.modules:
            looked_for.append(name)
            raise ImportError("failed to find libmagic")

sys.meta_path.insert(0, NoMagic())
from bot.transports.whatsapp import library
library.load()
assert looked_for == ["magic"]
import magic
assert magic.from_buffer(b"%PDF-1.4", mime=True) == "application/pdf"
"""
    done = run_python(script)
    assert (done.returncode, done.stderr) == (0, "")


def test_where_go_returns_nothing_nothing_is_read_or_freed() -> None:
    """neonize takes what happens to stand in a register for the address of a text."""
    go = library.load().go
    for name in ("Stop", "StopAll", "Disconnect", "SetForceActiveDeliveryReceipts"):
        assert getattr(go, name).restype is None, name
        assert getattr(getattr(go, name), "errcheck", None) is None, name


async def test_a_second_loop_is_refused_while_the_first_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    events = library.load().async_events
    monkeypatch.setattr(events, "event_global_loop", None)
    first, mine = asyncio.new_event_loop(), asyncio.get_running_loop()
    library.bind_loop(first)
    with pytest.raises(TransportError, match="another event loop"):
        library.bind_loop(mine)
    first.close()
    library.bind_loop(mine)
    assert events.event_global_loop is mine


def test_gos_prints_do_not_reach_standard_output() -> None:
    script = """
import os
from bot.transports.whatsapp import library
library.silence_go_output()
os.write(1, b"SendMessage: Error sending message to 5511999990000")
print("result")
"""
    done = run_python(script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "result\n", "")


def test_numbers_and_length_are_cut_from_a_librarys_text() -> None:
    text = library.redacted("no session with 5511999990000:3@s.whatsapp.net " + "x" * 1000)
    assert "5511" not in text
    assert len(text) <= 300
