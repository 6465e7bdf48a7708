"""What a test may break on the server's side: acknowledgements held back, sends refused; it sends nothing itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from bot.lab.connection import Connection
from bot.lab.directory import Account
from bot.lab.nodes import Node


@dataclass(slots=True, eq=False, kw_only=True)
class Refusal:
    """Sends answered with an error code instead of being delivered; `to` None means all of them."""

    code: int
    to: Account | None
    refused: list[str] = field(default_factory=list)  # the ids of the messages


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


class Faults:
    def __init__(self) -> None:
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
