"""What people have said, as they know it themselves: what the store and the phones are held against afterwards."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Author = Literal["customer", "human"]
Kind = Literal[
    "text", "burst", "picture", "place", "card", "edit", "revoke", "reaction", "command", "group", "takeover"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """A business's number, as +5511…, and a customer's, or a group's id."""

    business: str
    customer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """`at` is of time.monotonic. `in_order`: nothing was done to it that may change its place in the chat."""

    id: str
    chat: Chat
    author: Author
    kind: Kind
    at: float
    in_order: bool = True


@dataclass(slots=True)
class Ledger:
    said: dict[str, Said] = field(default_factory=dict)
    reads: set[str] = field(default_factory=set)  # ids of the bot's messages that a customer has read

    def note(
        self,
        message_id: str,
        chat: Chat,
        author: Author,
        kind: Kind,
        *,
        in_order: bool = True,
        at: float | None = None,
    ) -> None:
        """Before it is sent, or with the time `at` which that was done."""
        self.said[message_id] = Said(
            id=message_id,
            chat=chat,
            author=author,
            kind=kind,
            at=time.monotonic() if at is None else at,
            in_order=in_order,
        )

    def of(self, author: Author, *kinds: Kind) -> Iterator[Said]:
        return (s for s in self.said.values() if s.author == author and (not kinds or s.kind in kinds))
