"""Handing a chat over to a person, whoever asks for it: the pause, what the customer is told, and what the owner is."""

from __future__ import annotations

from flows.contract import Pause, Tell, Turn
from storage.hours import with_opening
from storage.models import PauseReason
from storage.notify import NoticeKind


def promise(turn: Turn) -> str:
    """What the customer is told."""
    texts, closed = turn.texts, turn.closed
    return with_opening(texts.person_closed, closed, turn.tenant.zone) if closed else texts.person


def pause(turn: Turn, reason: PauseReason) -> Pause:
    """Silence until a person has answered, and been silent again; or until nobody has, for as long.

    Where nobody is there, their time to answer begins when it opens.
    """
    after, closed = turn.session.idle_after, turn.closed
    until = closed.until + after if closed and closed.until and after else None
    return Pause(chat_id=turn.chat.chat_id, reason=reason, until=until)


def notice(turn: Turn, text: str) -> Tell:
    """What the owner is told, once for the message that has asked; in a pause once since a person has written there."""
    session, asked = turn.session, turn.messages[-1].id
    since = max((at for at in (session.paused_at, session.last_human_at) if at), default=None)
    subject = f"{session.chat_id}:{since.isoformat()}" if session.is_paused and since else str(asked)
    return Tell(
        kind=NoticeKind.HANDOFF, subject=subject, text=text, chat_id=turn.chat.chat_id, message_id=asked
    )
