"""What a test may break on the server's side: acknowledgements held back, sends refused; it sends nothing itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from bot.lab.connection import Connection
from bot.lab.directory import Account
from bot.lab.nodes import Node
from bot.lab.timeline import Timeline


@dataclass(slots=True, eq=False, kw_only=True)
class Refusal:
    """Sends answered with an error code instead of being delivered; `to` None means all of them."""

    code: int
    to: Account | None
    refused: Timeline[str] = field(default_factory=Timeline)  # the ids of the messages


@dataclass(slots=True, eq=False)
class HeldAcks:
    """Messages that were delivered while their sender has not been told so."""

    ids: list[str] = field(default_factory=list)
    _waiting: list[tuple[Connection, Node]] = field(default_factory=list)

    def hold(self, connection: Connection, ack: Node) -> None:
        self.ids.append(ack.text("id"))
        self._waiting.append((connection, ack))

    def release(self) -> None:
        """To whoever is still there: a client that has gone meanwhile will never know."""
        for connection, ack in self._waiting:
            connection.send(ack)
        self._waiting.clear()


class Courier:
    """Brings clients what lasts. On command twice, or what comes last first; or it loses the clients' thanks."""

    def __init__(self) -> None:
        self.copies = 1
        self.loses_acks = False
        self._kept: list[tuple[Connection, Node]] | None = None

    def bring(self, connection: Connection, stanza: Node) -> None:
        if self._kept is not None:
            self._kept.append((connection, stanza))
            return
        for _ in range(self.copies):
            connection.send(stanza)

    @contextmanager
    def twice(self) -> Iterator[None]:
        self.copies = 2
        try:
            yield
        finally:
            self.copies = 1

    @contextmanager
    def reversed(self) -> Iterator[None]:
        kept = self._kept = []
        try:
            yield
        finally:
            self._kept = None
            for connection, stanza in reversed(kept):
                self.bring(connection, stanza)

    @contextmanager
    def losing_acks(self) -> Iterator[None]:
        self.loses_acks = True
        try:
            yield
        finally:
            self.loses_acks = False


class Faults:
    def __init__(self) -> None:
        self.courier = Courier()
        self.held: HeldAcks | None = None
        self._refusals: list[Refusal] = []

    def refusal(self, account: Account | None) -> Refusal | None:
        return next((each for each in self._refusals if each.to is None or each.to is account), None)

    @contextmanager
    def hold(self) -> Iterator[HeldAcks]:
        held = self.held = HeldAcks()
        try:
            yield held
        finally:
            self.held = None
            held.release()

    @contextmanager
    def refuse(self, code: int, to: Account | None) -> Iterator[Refusal]:
        refusal = Refusal(code=code, to=to)
        self._refusals.append(refusal)
        try:
            yield refusal
        finally:
            self._refusals.remove(refusal)
