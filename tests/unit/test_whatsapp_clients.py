"""neonize's clients as we make them: none stops another, and none is freed while Go may still call it."""

import gc
import weakref
from typing import Any

from bot.transports.whatsapp import clients, library
from bot.transports.whatsapp.threads import GoCalls


def made() -> Any:
    neonize = library.load()
    calls = GoCalls(neonize.go, "test")
    return clients.new(
        neonize, "shop", "postgres:///nowhere", "5511999990000:1@s.whatsapp.net", "none", calls
    )


def test_no_two_clients_of_one_number_have_one_name() -> None:
    first, second = made(), made()
    assert first.uuid != second.uuid
    assert first.jid.User == second.jid.User == "5511999990000"
    for client in (first, second):
        client._stop_finalizer.detach()


def test_what_go_may_still_call_is_never_freed() -> None:
    client = made()
    client._stop_finalizer.detach()
    kept = weakref.ref(client)
    del client
    gc.collect()
    assert kept() is not None
