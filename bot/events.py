"""What the daemon tells about itself while it works: to the log, the metrics and the terminal; nothing comes back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from storage.models import Action, ChatId, Due, ExternalId, Jid, MessageId, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """Occurs when a decision about an event has been committed."""

    chat_id: ChatId
    message_id: MessageId
    external_id: ExternalId | None
    jid: Jid
    action: Action
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """Occurs when the platform has taken a message of ours."""

    due: Due
    external_id: ExternalId


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenBack:
    """Occurs when the platform has taken the revoke of a command, `external_id`, that a customer was not to see."""

    due: Due
    external_id: ExternalId


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusMoved:
    """Occurs when a status of a message of ours has been committed."""

    chat_id: ChatId
    id: MessageId
    external_id: ExternalId | None
    status: Status


Event = Decided | Said | TakenBack | StatusMoved
Listener = Callable[[Event], None]


class Events:
    """Passes each event to every listener, in order and at once."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def tell(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)
