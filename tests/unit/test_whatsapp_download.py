"""What was kept of a message either says all it takes to fetch its file, or is refused with a reason."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from bot.transports.base import MediaDamaged, MediaExpired, MediaTooLarge, NotConnected, TransportError
from bot.transports.whatsapp import library, outcome
from bot.transports.whatsapp.download import Ticket, ticket_of

KEY, HASH = "S" * 42 + "U=", "T" * 42 + "U="
IMAGE = {"directPath": "/v/x?ccb=1", "mediaKey": KEY, "fileSHA256": HASH, "fileEncSHA256": HASH}


def ticket(message: dict[str, Any], *, within: str = "Message", most_bytes: int = 100) -> Ticket:
    return ticket_of(library.load(), json.dumps({"Info": {}, within: message}), most_bytes)


@pytest.mark.parametrize("within", ["Message", "message"])
def test_live_events_and_the_phones_memory_are_both_understood(within: str) -> None:
    found = ticket({"imageMessage": {**IMAGE, "mimetype": "image/png"}}, within=within)
    assert found.message.imageMessage.directPath == "/v/x?ccb=1"
    assert len(found.message.imageMessage.mediaKey) == 32
    assert (found.mimetype, found.name) == ("image/png", None)


def test_a_round_video_is_asked_for_as_a_video() -> None:
    assert ticket({"ptvMessage": IMAGE}).message.HasField("videoMessage")


def test_files_are_found_in_envelopes() -> None:
    inner = {"documentMessage": {**IMAGE, "fileName": "a\x00b.pdf"}}
    found = ticket({"ephemeralMessage": {"message": {"documentWithCaptionMessage": {"message": inner}}}})
    assert (found.name, found.mimetype) == ("ab.pdf", "application/octet-stream")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda image: image.pop("mediaKey"),
        lambda image: image.update(mediaKey="AAAA"),
        lambda image: image.update(fileSHA256="AAAA"),
        lambda image: image.pop("fileEncSHA256"),
        lambda image: image.update(directPath=""),
        lambda image: image.update(directPath="https://example.org/x"),
        lambda image: image.update(directPath=7),
        lambda image: image.update(fileLength="many"),
        lambda image: image.update(fileLength=-1),
        lambda image: image.update(mediaKey="%%%"),
    ],
)
def test_what_cannot_be_fetched_is_refused_before_go_sees_it(spoil: Callable[[dict[str, Any]], Any]) -> None:
    image: dict[str, Any] = dict(IMAGE)
    spoil(image)
    with pytest.raises(MediaDamaged):
        ticket({"imageMessage": image})


@pytest.mark.parametrize(
    "raw", ["", "nonsense", "[]", "7", "null", "{}", '{"Message": []}', '{"Message": 7}']
)
def test_what_is_no_event_has_no_file(raw: str) -> None:
    with pytest.raises(MediaDamaged):
        ticket_of(library.load(), raw, 100)


def test_a_text_has_no_file_and_fields_of_a_newer_whatsapp_do_not_matter() -> None:
    with pytest.raises(MediaDamaged, match="no file"):
        ticket({"conversation": "oi"})
    assert ticket({"imageMessage": {**IMAGE, "ofTomorrow": {"x": 1}}}).message.HasField("imageMessage")


def test_the_claimed_size_counts() -> None:
    assert ticket({"imageMessage": {**IMAGE, "fileLength": "100"}})
    with pytest.raises(MediaTooLarge, match="101 bytes"):
        ticket({"imageMessage": {**IMAGE, "fileLength": "101"}})
    with pytest.raises(MediaTooLarge):
        ticket({"imageMessage": {**IMAGE, "fileLength": str(2**64 - 1)}})


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("download failed with status code 403", MediaExpired),
        ("download failed with status code 404", MediaExpired),
        ("failed to download media from last host: download failed with status code 410", MediaExpired),
        ("hash of media plaintext doesn't match", MediaDamaged),
        ("failed to download media from last host: invalid media hmac", MediaDamaged),
        ("failed to download media from last host: file too short", MediaDamaged),
        ("failed to download media from last host: download failed with status code 500", NotConnected),
        ("failed to refresh media connections: websocket not connected", NotConnected),
        ("something new", NotConnected),
    ],
)
def test_gos_words_become_errors(text: str, error: type[TransportError]) -> None:
    assert type(outcome.of_download(text)) is error
