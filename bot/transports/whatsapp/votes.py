"""Reads votes: remembers the options of the polls it has seen, and names those that a vote has chosen.

Votes are encrypted with a secret of their poll, which Go's session store keeps, and name options by their
hashes only. The options are remembered as long as the process lives.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bot.transports.whatsapp.content import POLLS, clean
from storage.models import ExternalId, InboundMessage, MessageType

_MOST_POLLS = 1000
_MOST_OPTIONS = 100
_IV_BYTES = 12


class Votes:
    def __init__(self) -> None:
        self._polls: OrderedDict[ExternalId, dict[bytes, str]] = OrderedDict()

    def remember(self, poll: InboundMessage, message: Any) -> None:
        """Takes note of a poll's options; any other message is none of its business."""
        if poll.type is not MessageType.POLL:
            return
        creation = next((getattr(message, name) for name in POLLS if message.HasField(name)), None)
        if creation is None:
            return
        names = [clean(option.optionName) for option in creation.options[:_MOST_OPTIONS]]
        self._polls[poll.external_id] = {_digest(name): name for name in names if name}
        if len(self._polls) > _MOST_POLLS:
            self._polls.popitem(last=False)

    def named(self, vote: InboundMessage, digests: Sequence[bytes]) -> InboundMessage:
        """The vote with what was chosen as its text, where its poll is remembered."""
        options = {} if vote.reply_to is None else self._polls.get(vote.reply_to, {})
        chosen = [options[digest] for digest in digests if digest in options]
        if len(chosen) < len(digests):
            return vote
        return replace(vote, text=", ".join(chosen) or None, metadata={**vote.metadata, "voted": chosen})


def is_vote(message: Any) -> bool:
    """Whether there is a vote that can be opened. Go would abort the process over an IV of another length."""
    update = message.pollUpdateMessage
    return (
        message.HasField("pollUpdateMessage")
        and len(update.vote.encIV) == _IV_BYTES
        and bool(update.pollCreationMessageKey.ID)
    )


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
