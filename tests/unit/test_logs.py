"""Log lines are behaviour: what stands in them, and what may never."""

from __future__ import annotations

import io
import json
import logging
import uuid
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from bot import logs
from bot.redaction import redact, redact_values


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Where the daemon's log goes; the process's own logging is put back afterwards."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    logs.setup(level="info", format="json", stream=stream)
    yield stream
    logging.captureWarnings(False)
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


def only(stream: io.StringIO) -> dict[str, Any]:
    [line] = stream.getvalue().splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


class TestLines:
    def test_an_event_is_one_line_of_json_with_its_keys(self, lines: io.StringIO) -> None:
        with structlog.contextvars.bound_contextvars(message_id=218374629384756234):
            structlog.get_logger("bot.outbox").info("reply_sent", chat_id=7, took_ms=1.5)
        event = only(lines)
        assert datetime.fromisoformat(event.pop("timestamp")).tzinfo is not None
        assert event == {
            "event": "reply_sent",
            "level": "info",
            "logger": "bot.outbox",
            "message_id": 218374629384756234,
            "chat_id": 7,
            "took_ms": 1.5,
        }

    def test_a_librarys_line_looks_the_same(self, lines: io.StringIO) -> None:
        logging.getLogger("some.library").warning("connected to %s", "postgresql://u:hunter2@db/shop")
        event = only(lines)
        assert (event["event"], event["logger"]) == (
            "connected to postgresql://[login]@db/shop",
            "some.library",
        )

    def test_a_warning_of_python_is_a_line_too(self, lines: io.StringIO) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("old", DeprecationWarning, stacklevel=1)
        assert only(lines)["logger"] == "py.warnings"

    def test_what_libraries_tell_of_every_request_is_left_out(self, lines: io.StringIO) -> None:
        for name in (
            "httpx2",
            "uvicorn.access",
            "apscheduler.executors.default",
            "whatsmeow.Client",
            "openai",
        ):
            logging.getLogger(name).info("busy")
        structlog.get_logger("bot").debug("detail")
        assert lines.getvalue() == ""

    def test_a_failure_has_its_frames_and_none_of_their_values(self, lines: io.StringIO) -> None:
        def fail(text: str) -> None:
            raise ValueError("no good")

        order = " ".join(["one", "secret", "cake"])
        try:
            fail(order)
        except ValueError:
            structlog.get_logger("bot").exception("flow_failed", chat_id=7)
        event = only(lines)
        assert "in fail" in event["exception"]
        assert event["exception"].endswith("ValueError: no good")
        assert order not in event["exception"]

    def test_a_log_that_nobody_reads_any_more_stops_nothing(self, lines: io.StringIO) -> None:
        lines.close()
        structlog.get_logger("bot").error("database_lost")

    def test_a_person_at_a_terminal_reads_plain_lines(self) -> None:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        terminal = Terminal()
        logs.setup(stream=terminal)
        try:
            structlog.get_logger("bot").warning("database_lost", attempt=2, phone="+5511999990000")
        finally:
            logging.getLogger().handlers.clear()
            logging.captureWarnings(False)
            structlog.reset_defaults()
        assert "database_lost" in terminal.getvalue()
        assert "99999" not in terminal.getvalue()
        with pytest.raises(ValueError, match="Expecting value"):
            json.loads(terminal.getvalue())


class TestRedaction:
    @pytest.mark.parametrize("key", ["text", "body", "raw", "caption", "prompt", "push_name", "qr"])
    def test_bodies_are_dropped_with_their_key(self, key: str) -> None:
        assert redact_values({"event": "x", key: "hello", "inner": {key: "hello"}}) == {
            "event": "x",
            "inner": {},
        }

    @pytest.mark.parametrize(
        "key", ["api_key", "anthropic_api_key", "token", "password", "Authorization", "client_secret", "dsn"]
    )
    def test_secrets_are_hidden_by_their_key(self, key: str) -> None:
        assert redact_values({key: "abc"}) == {key: "[key]"}

    @pytest.mark.parametrize("key", ["phone", "owner", "admins", "jid", "sender_jid", "lid", "number"])
    def test_numbers_are_hidden_by_their_key_even_as_integers(self, key: str) -> None:
        assert redact_values({key: 5511999990000}) == {key: "[number]"}

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("401 for sk-ant-api03-abcDEF_123456", "401 for [key]"),
            ("Authorization: Bearer abc.def", "Authorization: Bearer [key]"),
            ("postgresql://u:p@ss@h:5432/d?x=1", "postgresql://[login]@h:5432/d?x=1"),
            ("host=h password=hunter2 user=u", "host=h password=[key] user=u"),
            ("to 5511999990000@s.whatsapp.net", "to [jid]"),
            ("from 123456789012345:12@lid.", "from [jid]."),
            ("in 5511999990000-1420000000@g.us", "in [jid]"),
            ("call +55 (11) 99999-0000 now", "call [number] now"),
            ("call +5511999990000.", "call [number]."),
            ("https://wa.me/5511999990000", "https://wa.me/[number]"),
            ("'5511999990000'", "'[number]'"),
            ("2026-11-23T01:05:16.123456Z 5511999990000", "2026-11-23T01:05:16.123456Z [number]"),
            (
                "invalid input for query argument $3: 'my order' (expected str)\n\nDuring handling",
                "invalid input for query argument $3: [value]\n\nDuring handling",
            ),
            (
                "duplicate key\nDETAIL:  Key (text)=(my\norder) exists.\nHINT:  none",
                "duplicate key\nDETAIL:  [row]\nHINT:  none",
            ),
        ],
    )
    def test_what_may_not_be_shown_is_taken_out_of_any_text(self, text: str, shown: str) -> None:
        assert redact(text) == shown
        assert redact_values({"error": [text]}) == {"error": [shown]}

    @pytest.mark.parametrize(
        "text",
        [
            "3EB0C767D26A1B2C4D5E",
            "3A12345678901234567890",
            "line-12345678",
            "218374629384756234",
            str(uuid.UUID("12345678-1234-4567-8901-123456789012")),
            "2026-11-23T01:05:16.123456+00:00",
            str(datetime(2026, 11, 23, 1, 5, 16, 123456, tzinfo=UTC)),
            "0:00:12.345678901",
            "took 1234567 ns, 3.141592653589",
            "input_tokens=2048",
            "127.0.0.1:54321",
            "2026-11-23T01:05:16.123456Z",
        ],
    )
    def test_ids_and_times_stay(self, text: str) -> None:
        assert redact(text) == text

    def test_our_integers_and_the_platforms_ids_stay(self) -> None:
        kept = {
            "message_id": 218374629384756234,
            "chat_id": 12345678901,
            "external_id": "123456789012",
            "external_ids": ["123456789012"],
            "tokens": 20480000,
            "ok": True,
            "none": None,
        }
        assert redact_values(kept) == kept

    def test_an_address_in_an_ids_place_is_hidden_all_the_same(self) -> None:
        assert redact_values({"external_id": "5511999990000@s.whatsapp.net"}) == {"external_id": "[jid]"}
