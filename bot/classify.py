"""Classifying: who speaks in an event, whether it is a command, whether it takes the chat over; all at sight."""

from __future__ import annotations

from bot.policy import Policy
from bot.roles import Roles
from flows.registry import Recognised, mistyped, recognise
from storage.models import CHANGES, Action, Arrival, Author, InboundMessage, MessageType, Role
from storage.rows import addressed

# What a human says to a customer; a reaction, an edit or a protocol message is not speech, nor is a vote in a poll.
_SPEECH = frozenset(
    {
        MessageType.TEXT, MessageType.IMAGE, MessageType.VIDEO, MessageType.AUDIO, MessageType.DOCUMENT,
        MessageType.STICKER, MessageType.LOCATION, MessageType.CONTACT, MessageType.POLL,
        # What is to be seen once is kept from linked devices, and for an order or an invitation we have no words:
        # said it was.
        MessageType.UNDECRYPTABLE, MessageType.UNKNOWN,
    }
)  # fmt: skip


def classify(event: InboundMessage, roles: Roles, policy: Policy) -> Arrival:
    """The message with all that can be known of it at sight."""
    command = _command(event, roles)
    name = command.name if command else None
    if not event.from_me:
        action = _foregone(event, command, policy)
        return Arrival(event=event, author=Author.CUSTOMER, command=name, action=action)
    if command is not None:
        return Arrival(event=event, author=Author.HUMAN, command=name)
    takes_over = (
        event.type in _SPEECH
        and not event.is_vote
        and not event.to_self
        and not event.is_history
        and (not event.is_group or policy.takeover_in_groups)
    )
    action = Action.IMPORTED if event.is_history else Action.HUMAN_SPOKE
    slip = mistyped(event.text or "") if takes_over and event.type is MessageType.TEXT else None
    return Arrival(
        event=event,
        author=Author.HUMAN,
        takes_over=takes_over,
        action=None if takes_over else action,
        slip=slip,
    )


def _foregone(event: InboundMessage, command: Recognised | None, policy: Policy) -> Action | None:
    """The decision about a customer's message that depends on nothing in the store."""
    if event.is_history:
        return Action.IMPORTED
    if command is None and event.is_group and not (policy.groups and addressed(event)):
        # Not to the lane: what people say to each other must not hold up an answer to one of them.
        return Action.IGNORED_GROUP
    if event.type in CHANGES:
        # Nor this: it is applied as it is recorded, and what it changes is answered as it reads then.
        return Action.IGNORED_UNSUPPORTED
    return None


def _command(event: InboundMessage, roles: Roles) -> Recognised | None:
    if event.type is not MessageType.TEXT or event.is_history or not event.text:
        return None
    role = roles.of(event.sender.jids, from_me=event.from_me)
    own_chat = event.to_self or (role is Role.ADMIN and not event.is_group)
    return recognise(event.text, role, own_chat=own_chat, is_reply=event.reply_to is not None)
