"""Gates: may the bot answer this message at all? Pure: it looks at what it is given and decides."""

from __future__ import annotations

from datetime import datetime

from bot.policy import Policy
from storage.models import Action, Message, MessageType, PauseReason, ResumeMode, Session
from storage.states import State, state_of

# What people say to be answered; a sticker mostly ends a conversation, and a poll or a vote asks others.
_ANSWERABLE = frozenset(
    {
        MessageType.TEXT, MessageType.IMAGE, MessageType.VIDEO, MessageType.AUDIO, MessageType.DOCUMENT,
        MessageType.LOCATION, MessageType.CONTACT,
    }
)  # fmt: skip

_SILENT = {
    State.EXCLUDED: Action.IGNORED_EXCLUDED,
    State.OPTED_OUT: Action.IGNORED_OPTED_OUT,
    State.GLOBAL_PAUSE: Action.IGNORED_GLOBAL_PAUSE,
    **dict.fromkeys((State(reason) for reason in PauseReason), Action.IGNORED_PAUSED),
}


def refusal(
    message: Message, session: Session, policy: Policy, now: datetime, started_at: datetime | None = None
) -> Action | None:
    """Why a customer's message is not to be answered, the most lasting reason first; None lets it through.

    `started_at`: since when the bot is there. In a chat that goes on from now what was written before is left.
    """
    if message.deleted_at is not None:
        return Action.SUPERSEDED
    if message.is_group and not (policy.groups and message.addressed):
        return Action.IGNORED_GROUP
    if (state := state_of(session)) is not State.ACTIVE:
        return _SILENT[state]
    if session.human_since(message):
        # It came late: a human has spoken since it was written, and has seen it on the phone.
        return Action.SUPERSEDED
    if now - message.sent_at > policy.max_age or _is_left(message, session, started_at):
        return Action.IGNORED_TOO_OLD
    if message.type not in _ANSWERABLE:
        return Action.IGNORED_UNSUPPORTED
    return None


def _is_left(message: Message, session: Session, started_at: datetime | None) -> bool:
    from_now = session.resume_mode is ResumeMode.FROM_NOW
    return from_now and started_at is not None and message.sent_at < started_at
