"""Tells what the library itself loses from every other loss; it looks into no store, and at no phone.

neonize opens and seals messages without one lock for both. What a person writes while an answer to the same person is
sealed can set their session back: the next answer is then sealed with a key that was used, the phone takes it for a
repeat, and shows nothing.
"""

from collections import defaultdict
from collections.abc import Mapping

from tests.lab.soak.ledger import Chat, Ledger

# Of the answers of a run this share may have met one, or a few; more than that is something else. How many do depends
# on how long the library takes to seal one: 1 of 6,900 on a machine with time, 8 of 6,200 on one with too much to do.
MOST_SHARE, A_FEW = 0.002, 5
# The answer whose key is used again reaches the phone, and what has met it is acknowledged, within this time.
_TOGETHER_SECONDS = 1.0


class Races:
    """`repeats`: what phones took for repeats, by phone and message, with the time at which the key was used before.

    `acknowledged`: when the daemon has acknowledged people's messages. Both by time.monotonic.
    """

    def __init__(
        self,
        repeats: Mapping[tuple[str, str], float | None],
        ledger: Ledger,
        acknowledged: Mapping[str, float],
    ) -> None:
        self._repeats = repeats
        self._arrived: dict[tuple[str, str], list[float]] = defaultdict(list)
        for said in ledger.said.values():
            if said.id in acknowledged:
                writer = said.chat.business if said.author == "human" else said.chat.customer
                self._arrived[said.chat.business, writer].append(acknowledged[said.id])

    def has_taken(self, message_id: str, chat: Chat) -> bool:
        """Whether it was refused as a repeat of one that went out while the chat's customer was writing."""
        used_at = self._repeats.get((chat.customer, message_id))
        return used_at is not None and any(
            abs(at - used_at) < _TOGETHER_SECONDS for at in self._arrived[chat.business, chat.customer]
        )
