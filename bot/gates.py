"""Gates: may the bot answer this message at all? Pure: it looks at what it is given and decides."""

from __future__ import annotations

from datetime import datetime

from bot.policy import Policy
from storage.models import Action, Message, MessageType, Session

_ANSWERABLE = frozenset(
    {MessageType.TEXT, MessageType.IMAGE, MessageType.VIDEO, MessageType.AUDIO, MessageType.DOCUMENT}
)


def refusal(message: Message, session: Session, policy: Policy, now: datetime) -> Action | None:
    """Why a customer's message is not to be answered, the most lasting reason first; None lets it through."""
    if message.is_group and not (policy.groups and message.addressed):
        return Action.IGNORED_GROUP
    if session.is_excluded:
        return Action.IGNORED_EXCLUDED
    if session.opted_out_at is not None:
        return Action.IGNORED_OPTED_OUT
    if session.global_pause:
        return Action.IGNORED_GLOBAL_PAUSE
    if session.is_paused:
        return Action.IGNORED_PAUSED
    if session.last_human_at is not None and message.sent_at < session.last_human_at:
        # It came late: a human has spoken since it was written, and has seen it on the phone.
        return Action.SUPERSEDED
    if now - message.sent_at > policy.max_age:
        return Action.IGNORED_TOO_OLD
    if message.type not in _ANSWERABLE:
        return Action.IGNORED_UNSUPPORTED
    return None
