"""The server's moods at its door: logins refused or thrown out, questions ignored, or nothing said at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from bot.lab.directory import Account
from bot.lab.nodes import Node, Value
from bot.lab.timeline import Timeline


@dataclass(slots=True, eq=False, kw_only=True)
class ClosedDoor:
    """Logins that are answered with `failure`, whose attributes these are; `of` None means everybody's."""

    attrs: dict[str, Value]
    of: Account | None
    refused: Timeline[Account] = field(default_factory=Timeline)


@dataclass(slots=True, eq=False, kw_only=True)
class Revolver:
    """Logins that succeed, and are cut at once: so many of them, or None for all."""

    left: int | None
    cut: Timeline[Account] = field(default_factory=Timeline)


@dataclass(slots=True, eq=False)
class Silence:
    """Connections stay open, and nothing that is said on them has any effect. `swallowed` is what clients said."""

    swallowed: Timeline[Node] = field(default_factory=Timeline)


@dataclass(slots=True, eq=False, kw_only=True)
class Deafness:
    """Questions of one kind (`xmlns`) that are never answered."""

    xmlns: str
    ignored: Timeline[Node] = field(default_factory=Timeline)


class Door:
    def __init__(self) -> None:
        self.silence: Silence | None = None
        self._closed: list[ClosedDoor] = []
        self._revolver: Revolver | None = None
        self._deaf: list[Deafness] = []

    def failure(self, account: Account) -> Node | None:
        """What is said instead of `success`."""
        door = next((each for each in self._closed if each.of in (None, account)), None)
        if door is None:
            return None
        door.refused.note(account)
        return Node("failure", dict(door.attrs))

    def throws_out(self, account: Account) -> bool:
        """Whether this login, which has just succeeded, is to be cut."""
        if (revolver := self._revolver) is None or revolver.left == 0:
            return False
        if revolver.left is not None:
            revolver.left -= 1
        revolver.cut.note(account)
        return True

    def ignores(self, question: Node) -> bool:
        deaf = next((each for each in self._deaf if each.xmlns == question.text("xmlns", "")), None)
        if deaf is not None:
            deaf.ignored.note(question)
        return deaf is not None

    @contextmanager
    def refusing(self, attrs: dict[str, Value], of: Account | None) -> Iterator[ClosedDoor]:
        door = ClosedDoor(attrs=attrs, of=of)
        self._closed.append(door)
        try:
            yield door
        finally:
            self._closed.remove(door)

    @contextmanager
    def revolving(self, times: int | None) -> Iterator[Revolver]:
        revolver = self._revolver = Revolver(left=times)
        try:
            yield revolver
        finally:
            self._revolver = None

    @contextmanager
    def silent(self) -> Iterator[Silence]:
        silence = self.silence = Silence()
        try:
            yield silence
        finally:
            self.silence = None

    @contextmanager
    def deaf(self, xmlns: str) -> Iterator[Deafness]:
        deaf = Deafness(xmlns=xmlns)
        self._deaf.append(deaf)
        try:
            yield deaf
        finally:
            self._deaf.remove(deaf)
