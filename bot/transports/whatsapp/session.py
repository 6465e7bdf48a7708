"""Where WhatsApp's sessions are kept: in our PostgreSQL, in a schema of their own, written by Go's driver only."""

import threading
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from bot.transports.base import TransportError
from bot.transports.whatsapp.ids import parse_jid
from bot.transports.whatsapp.library import Neonize, load, redacted
from bot.transports.whatsapp.threads import DaemonThreads
from storage.models import Jid

SCHEMA = "whatsmeow"
# Go never closes the connections of a client that was stopped, about two for each: without this every
# expired QR and every resume would keep them for ever. Its pool replaces a closed one unnoticed. Twelve numbers
# that come back leave 36 behind, and a server has a hundred: they must be gone before the next time.
_IDLE_SESSION_SECONDS = 10
_LOOPBACK = ("", "localhost", "127.0.0.1", "::1")
_BETWEEN_DEVICES = "|\u0001|"
# Two clients that create the store's tables at once fail.
_one_at_a_time = threading.Lock()
# Go's store logs through them for as long as it lives, which is as long as the process.
_kept: list[object] = []


def session_store_url(dsn: str) -> str:
    """Go's form of a database URL. Raises ValueError, which never quotes the URL: it holds a password.

    `sslmode` is kept if given. Otherwise: "disable" over a socket or to this machine, where Go's default would
    insist on TLS which such servers rarely speak; "prefer" elsewhere, which is what asyncpg does with the same URL.
    """
    scheme, _, rest = dsn.strip().partition("://")
    if scheme not in ("postgres", "postgresql") or not rest:
        raise ValueError("the session store needs a postgresql:// URL")
    parts = urlsplit(dsn.strip())
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    host = options.get("host", parts.netloc.rpartition("@")[2])
    options.setdefault("sslmode", "disable" if _is_local(host) else "prefer")
    options["search_path"] = SCHEMA
    options.setdefault("idle_session_timeout", str(_IDLE_SESSION_SECONDS * 1000))
    query = urlencode(options, quote_via=quote, safe="/")
    return urlunsplit(("postgres", parts.netloc, parts.path, query, ""))


def _is_local(host: str) -> bool:
    if host.startswith("/"):
        return True
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return name in _LOOPBACK


def stored_devices(neonize: Neonize, store_url: str) -> list[str]:
    """The device JIDs (`user:device@server`) that have a session. Blocks; brings the store's tables up to date.

    Our own reading: neonize's splits at every comma, also at one within a push name.
    """
    silent = neonize.binder.func_callback_bytes2(lambda _data, _size: None)
    _kept.append(silent)
    with _one_at_a_time:
        answer = neonize.go.GetAllDevices(store_url.encode(), silent).decode(errors="replace")
    if answer.startswith("error: "):
        raise TransportError(f"the session store cannot be read: {redacted(answer.removeprefix('error: '))}")
    return [device.partition(",")[0] for device in answer.split(_BETWEEN_DEVICES) if device]


async def make_tables(dsn: str) -> None:
    """Brings the library's own tables up to its version. Raises TransportError."""
    threads = DaemonThreads("whatsapp-tables", 1)
    await threads.call(lambda: stored_devices(load(), session_store_url(dsn)))
    threads.finish()


def device_of(devices: list[str], jid: Jid) -> str | None:
    return next((device for device in devices if parse_jid(device) == jid), None)
