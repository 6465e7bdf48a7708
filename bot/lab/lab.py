"""A WhatsApp on this machine for the real neonize: the stage on which tests and demos tell their stories."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Self

from bot.lab import trust
from bot.lab.directory import Addressing
from bot.lab.door import ClosedDoor, Deafness, Revolver, Silence
from bot.lab.faults import HeldAcks, Refusal
from bot.lab.files import FileServer
from bot.lab.groups import Group
from bot.lab.linked import LinkedDevice
from bot.lab.network import Pace
from bot.lab.nodes import Value
from bot.lab.people import Customer, Owner, Person
from bot.lab.proxy import Proxy
from bot.lab.server import Server, Stanza, stream_error
from bot.lab.timeline import Timeline

# LIDs tell nothing about numbers: they are simply given out one after the other.
_FIRST_LID = 200_000_000_000_001


class Lab:
    """Use as `async with Lab() as lab`, or `lab = await Lab.start()` and `await lab.stop()`."""

    def __init__(self) -> None:
        self._trust = trust.prepare()
        self._server = Server(self._trust)
        self._proxy = Proxy(self._trust.certificate, self._server.serve)
        self._next_lid = _FIRST_LID

    @classmethod
    async def start(cls) -> Self:
        return await cls().__aenter__()

    async def stop(self) -> None:
        """Cuts all clients. Raises what went wrong in the lab itself meanwhile."""
        self._server.stopped = True
        await self._proxy.stop()
        if self._proxy.failures:
            failures = self._proxy.failures
            raise BaseExceptionGroup("the lab has failed", failures)

    async def __aenter__(self) -> Self:
        await self._proxy.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def proxy_url(self) -> str:
        """For `whatsapp.proxy`, or neonize's ProxySettings."""
        return self._proxy.url

    @property
    def stanzas(self) -> Timeline[Stanza]:
        """Everything that linked devices have said."""
        return self._server.stanzas

    @property
    def files(self) -> FileServer:
        """The media server, and what may go wrong there."""
        return self._server.files

    @property
    def unanswered(self) -> list[str]:
        """Questions of clients that this lab cannot answer."""
        return [str(query) for query in self._server.queries.unknown]

    @property
    def refused(self) -> list[str]:
        """Hosts other than WhatsApp's that clients wanted to reach."""
        return self._proxy.refused

    def child_environment(self) -> dict[str, str]:
        """For `python -m bot.lab.host`: the whole environment of a process that takes this lab for WhatsApp."""
        return {
            **os.environ,
            trust.ROOT_VARIABLE: self._trust.noise_root.public.hex(),
            trust.CERTIFICATE_VARIABLE: str(self._trust.certificate.file),
            trust.PROXY_VARIABLE: self.proxy_url,
        }

    def owner(self, number: str, *, name: str = "Dona", shares_key: bool = True) -> Owner:
        """A number that a bot can be linked to. `shares_key`: whether linked devices can read its settings."""
        account = self._server.directory.register(number, self._lid(), name)
        self._server.owners.append(account)
        return Owner(self._server, account, shares_key=shares_key)

    def customer(self, number: str, *, name: str = "Ana") -> Customer:
        return Customer(self._server, self._server.directory.register(number, self._lid(), name))

    def group(self, subject: str, *people: Person, addressed: Addressing = "lid") -> Group:
        """A group of these people, made by the first of them; all their phones and bots are told of it."""
        accounts = [person.account for person in people]
        return self._server.groups.create(subject, addressed, accounts, self._server.post.announce)

    async def drop(self) -> None:
        """Resets every connection; clients may come back at once."""
        await self._proxy.cut()

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        """No connection, and no new one, until the end of the block."""
        await self._proxy.go_down()
        try:
            yield
        finally:
            self._proxy.come_back()

    @contextmanager
    def hold_acks(self) -> Iterator[HeldAcks]:
        """Messages of bots are delivered, but the bots are told only at the end of the block, if still connected."""
        with self._server.faults.hold() as held:
            yield held

    @contextmanager
    def duplicates(self) -> Iterator[None]:
        """What comes for linked devices is brought twice."""
        with self._server.faults.courier.twice():
            yield

    @contextmanager
    def reorders(self) -> Iterator[None]:
        """What comes for linked devices is brought at the end of the block, the last first."""
        with self._server.faults.courier.reversed():
            yield

    @contextmanager
    def loses_acks(self) -> Iterator[None]:
        """The server misses that clients have got something: it comes again at their next login."""
        with self._server.faults.courier.losing_acks():
            yield

    @contextmanager
    def refuse_sends(self, code: int, *, to: Person | None = None) -> Iterator[Refusal]:
        """Messages of bots, to one person or to all, are answered with an error and not delivered."""
        with self._server.faults.refuse(code, to.account if to else None) as refusal:
            yield refusal

    @contextmanager
    def refuse_codes(self, error: int) -> Iterator[None]:
        """Clients that ask for a pairing code get this error: 429 after too many, 400 for a number it rejects."""
        before, self._server.codes.refusal = self._server.codes.refusal, error
        try:
            yield
        finally:
            self._server.codes.refusal = before

    def offer_qr_codes(self, count: int) -> None:
        """How many QR codes a client that connects from now on may show; six unless told otherwise."""
        self._server.pairing.refs = count

    def expire_pairing(self) -> None:
        """The time of all QR codes and pairing codes that are shown now is over."""
        self._server.pairing.expire()

    def close_stream(
        self,
        device: LinkedDevice,
        *,
        code: str | None = None,
        conflict: str | None = None,
        closes: bool = True,
    ) -> None:
        """Ends one client's stream as the server does: code 503, or conflict "replaced" or "device_removed".

        A server that does not close leaves the client with a connection on which nothing is ever said again.
        """
        stream_error(device, code=code, conflict=conflict, closes=closes)

    @contextmanager
    def refuse_logins(
        self, reason: int, *, of: Person | None = None, **attrs: int | str
    ) -> Iterator[ClosedDoor]:
        """Logins, of one owner or of all, end with a failure: 401 logged out, 402 banned (code, expire), 405 …"""
        said: dict[str, Value] = {name: str(value) for name, value in {"reason": reason, **attrs}.items()}
        with self._server.door.refusing(said, of.account if of else None) as door:
            yield door

    @contextmanager
    def cut_after_login(self, *, times: int | None = None) -> Iterator[Revolver]:
        """Each login succeeds, and its connection is closed at once."""
        with self._server.door.revolving(times) as revolver:
            yield revolver

    @contextmanager
    def silence(self) -> Iterator[Silence]:
        """Every connection stays open, and nothing gets through: new ones are taken and never answered."""
        with self._server.door.silent() as silence:
            yield silence

    @contextmanager
    def ignore_questions(self, xmlns: str) -> Iterator[Deafness]:
        """Questions of one kind are never answered; "w:p" are the keepalives, "passive" and others in Queries."""
        with self._server.door.deaf(xmlns) as deafness:
            yield deafness

    def refuse_connections(self, times: int) -> None:
        """The next connections, so many of them, are reset before a word is said."""
        self._proxy.reset_next(times)

    @contextmanager
    def slow_network(self, *, latency: float = 0.0, bytes_per_second: float | None = None) -> Iterator[None]:
        """Connections that are made within the block are slow, both ways."""
        with self._proxy.slow(Pace(latency=latency, bytes_per_second=bytes_per_second)):
            yield

    def _lid(self) -> str:
        self._next_lid += 1
        return str(self._next_lid - 1)
