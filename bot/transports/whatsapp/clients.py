"""Makes neonize's clients as we need them: each with a name and threads of its own; connects none."""

import asyncio
import ctypes
import uuid
from collections.abc import Callable
from typing import Any, Literal

from google.protobuf.message import DecodeError

from bot.transports.base import TransportError
from bot.transports.whatsapp.ids import device_to_proto
from bot.transports.whatsapp.library import Neonize
from bot.transports.whatsapp.threads import GoCalls

# neonize's numbers for these events.
_ME, MESSAGE = 0, 17
_VARINT, _FIXED_64, _LENGTH_DELIMITED = 0, 1, 2

_FULL_HISTORY_DAYS = 365
# Go may log through a client's callbacks long after its stop; collected, they would be a call into freed memory.
_kept: list[object] = []

HistoryDepth = Literal["none", "recent", "full"]
"""How much of the past is taken from the phone: nothing, what it sends each linked device, or a year."""


def new(
    neonize: Neonize, name: str, store_url: str, device: str | None, history: HistoryDepth, calls: GoCalls
) -> Any:
    """`device` None pairs another one."""
    client = neonize.client.NewAClient(
        store_url,
        # Unique: it names the client in Go, and a collected client stops whatever has its name.
        uuid=f"{name}-{uuid.uuid4().hex}",
        new_device=device is None,
        props=_shown_as(neonize, history),
    )
    # Set afterwards, because the constructor would make the JID's user the client's name.
    client.jid = None if device is None else device_to_proto(neonize.protocol, device)
    _replace_calls(client, calls)
    _kept.append(client)
    return client


def _shown_as(neonize: Neonize, history: HistoryDepth) -> Any:
    """How the owner's phone names us in its list of linked devices, and how much of the past it sends us.

    Go keeps them for the whole process and merges them into what it has: each is said, also where it is the default.
    """
    properties = neonize.properties.DeviceProps
    wanted = properties.HistorySyncConfig(fullSyncDaysLimit=_FULL_HISTORY_DAYS)
    return properties(
        os="Sidestep",
        platformType=properties.DESKTOP,
        requireFullSync=history == "full",
        historySyncConfig=wanted,
    )


def hear_login_status(
    client: Any, calls: GoCalls, loop: asyncio.AbstractEventLoop, on_status: Callable[[str], None]
) -> None:
    """Neonize drops it, yet it is all that tells of a connection lost, or refused, while a QR is shown."""

    def from_go(_uuid: int, status: int) -> None:
        told = ctypes.string_at(status).decode(errors="replace")
        loop.call_soon_threadsafe(on_status, told)
        calls.after_qr(is_linked=told == "success")

    client._NewAClient__onLoginStatus = from_go


def hear_first_word(client: Any, calls: GoCalls) -> None:
    """Go tells who the client is once it has looked it up, before all events."""
    execute = client.event.execute

    def from_go(uuid: int, binary: int, size: int, code: int) -> None:
        execute(uuid, binary, size, code)
        if code == _ME:
            calls.started()

    client.event.execute = from_go


def hear_unreadable(
    neonize: Neonize,
    client: Any,
    loop: asyncio.AbstractEventLoop,
    on_unreadable: Callable[[str, Any], None],
) -> None:
    """Python's protobuf refuses what is nested 100 deep, such as 34 quotes of quotes, and neonize loses such events.

    `on_unreadable` gets the event's name and, of a message, all but its content.
    """
    execute, kinds = client.event.execute, neonize.async_events.INT_TO_EVENT

    def guarded(uuid: int, binary: int, size: int, code: int) -> None:
        try:
            execute(uuid, binary, size, code)
        except DecodeError:
            kind = kinds[code]
            told = _without_content(kind, ctypes.string_at(binary, size)) if code == MESSAGE else None
            loop.call_soon_threadsafe(on_unreadable, kind.__name__, told)

    client.event.execute = guarded


def _without_content(kind: Any, data: bytes) -> Any:
    """The event of a message, with a placeholder for what it says."""
    kept, content = (
        kind(),
        {field.number for field in kind.DESCRIPTOR.fields if field.name in ("Message", "Raw")},
    )
    at = 0
    while at < len(data):
        start = at
        tag, at = _varint(data, at)
        if (wire := tag & 7) == _LENGTH_DELIMITED:
            length, at = _varint(data, at)
            at += length
        elif wire == _VARINT:
            _, at = _varint(data, at)
        else:
            at += 8 if wire == _FIXED_64 else 4
        if tag >> 3 not in content:
            kept.MergeFromString(data[start:at])
    kept.Message.placeholderMessage.SetInParent()
    return kept


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value, at, shift = value | (byte & 0x7F) << shift, at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _replace_calls(client: Any, calls: GoCalls) -> None:
    if not hasattr(client, "_NewAClient__client") or not hasattr(client, "_stop_finalizer"):
        raise TransportError("this version of neonize is built differently: its threads cannot be replaced")
    client._NewAClient__client = calls
