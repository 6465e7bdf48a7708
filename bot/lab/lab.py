"""A WhatsApp on this machine for the real neonize: the stage on which tests and demos tell their stories."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Self

from bot.lab import trust
from bot.lab.faults import HeldAcks, Refusal
from bot.lab.linked import LinkedDevice
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
            "SIDESTEP__WHATSAPP__PROXY": self.proxy_url,
        }

    def owner(self, number: str, *, name: str = "Dona") -> Owner:
        """A number that a bot can be linked to."""
        account = self._server.directory.register(number, self._lid(), name)
        self._server.owners.append(account)
        return Owner(self._server, account)

    def customer(self, number: str, *, name: str = "Ana") -> Customer:
        return Customer(self._server, self._server.directory.register(number, self._lid(), name))

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
    def refuse_sends(self, code: int, *, to: Person | None = None) -> Iterator[Refusal]:
        """Messages of bots, to one person or to all, are answered with an error and not delivered."""
        with self._server.faults.refuse(code, to.account if to else None) as refusal:
            yield refusal

    def close_stream(
        self, device: LinkedDevice, *, code: str | None = None, conflict: str | None = None
    ) -> None:
        """Ends one client's stream as the server does: code 503, or conflict "replaced" or "device_removed"."""
        stream_error(device, code=code, conflict=conflict)

    def _lid(self) -> str:
        self._next_lid += 1
        return str(self._next_lid - 1)
