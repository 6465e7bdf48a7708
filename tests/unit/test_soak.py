"""What the soak lets pass, and what it does not."""

from collections import Counter

import pytest

from tests.lab.soak.gauges import Sample, Trend
from tests.lab.soak.ledger import Chat, Ledger
from tests.lab.soak.races import Races

_CHAT = Chat(business="+5511999990000", customer="+5511888880001")
_OTHER = Chat(business="+5511999990000", customer="+5511888880002")


def _sample(*, links: int = 12, unix: int = 50, tcp: int = 13, resident_mb: float = 130.0) -> Sample:
    return Sample(
        at=0.0,
        pid=1,
        resident_mb=resident_mb,
        threads=70,
        descriptors=unix + tcp,
        sessions=30,
        kinds=Counter(unix=unix, tcp=tcp),
        links=links,
    )


def _is_flat(last: Sample) -> bool:
    return Trend(seconds=600.0, first=_sample(), last=last).is_flat


def test_what_stopped_clients_leave_open_is_no_leak_of_ours() -> None:
    assert _is_flat(_sample(links=32, unix=90))


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_one_descriptor_left_by_each_reconnection_is_a_leak(kind: str) -> None:
    # Within ten minutes all twelve numbers lose their connection some twenty times; few of them need a new client.
    reconnections, links = 12 * 20, 20
    unix, tcp = 50 + 2 * links, 13
    leaking = _sample(
        links=12 + links,
        unix=unix + (reconnections if kind == "unix" else 0),
        tcp=tcp + (reconnections if kind == "tcp" else 0),
    )
    assert _is_flat(_sample(links=12 + links, unix=unix, tcp=tcp))
    assert not _is_flat(leaking)


def test_one_descriptor_more_left_by_each_client_is_a_leak() -> None:
    assert not _is_flat(_sample(links=32, unix=90 + 20))


def test_a_connection_to_whatsapp_left_by_each_client_is_a_leak() -> None:
    assert not _is_flat(_sample(links=32, unix=90, tcp=13 + 20))


def test_memory_that_grows_is_told() -> None:
    assert _is_flat(_sample(resident_mb=139.0))
    assert not _is_flat(_sample(resident_mb=160.0))


def _races(*, acknowledged_at: float, chat: Chat = _CHAT) -> Races:
    ledger = Ledger()
    ledger.note("question", chat, "customer", "text", at=99.0)
    return Races(
        {(_CHAT.customer, "answer"): 100.0, (_CHAT.customer, "old"): None},
        ledger,
        {"question": acknowledged_at},
    )


def test_a_repeat_of_what_met_a_message_is_the_librarys() -> None:
    assert _races(acknowledged_at=100.2).has_taken("answer", _CHAT)


def test_a_repeat_that_met_nothing_is_not_the_librarys() -> None:
    assert not _races(acknowledged_at=102.0).has_taken("answer", _CHAT)
    assert not _races(acknowledged_at=100.2, chat=_OTHER).has_taken("answer", _CHAT)


def test_what_the_phone_did_not_refuse_is_not_the_librarys() -> None:
    races = _races(acknowledged_at=100.2)
    assert not races.has_taken("another", _CHAT)
    assert not races.has_taken("answer", _OTHER)
    assert not races.has_taken("old", _CHAT)
