"""Known chats: which chat an address leads to, as far as it was heard of since the start; asks nobody.

A human who speaks stops the lane before anything is looked up. Where the address is not known here, the mark
alone keeps the bot from sending.
"""

from __future__ import annotations

from collections.abc import Sequence

from storage.models import ChatId, Jid, Merge

_MOST = 200_000


class KnownChats:
    """One account's chats by every address under which they were heard."""

    def __init__(self) -> None:
        self._chats: dict[Jid, ChatId] = {}

    def remember(self, jids: Sequence[Jid], chat_id: ChatId) -> None:
        """These addresses lead to this chat."""
        if len(self._chats) > _MOST:
            self._chats.clear()
        for jid in jids:
            self._chats[jid] = chat_id

    def behind(self, jids: Sequence[Jid]) -> set[ChatId]:
        """The chats of one party's addresses: two, where they are not known to be one."""
        return {self._chats[jid] for jid in jids if jid in self._chats}

    def merged(self, merge: Merge) -> None:
        """What led to the one leads to the other."""
        for jid, chat_id in self._chats.items():
            if chat_id == merge.gone:
                self._chats[jid] = merge.keep
