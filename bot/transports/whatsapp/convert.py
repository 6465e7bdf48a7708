"""Translates neonize's events into our nouns; pure, but that it remembers which LID belongs to which number."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from bot.transports.whatsapp.content import Said, clean, read_content
from bot.transports.whatsapp.ids import STATUS_BROADCAST, People, is_person, parse_jid, server_of, to_jid
from bot.transports.whatsapp.raw import raw_json
from storage.models import (
    GROUP_SERVER,
    Address,
    ExternalId,
    InboundMessage,
    Jid,
    MessageType,
    Receipt,
    Status,
    Typing,
    Unopened,
)

# Before WhatsApp existed nobody wrote on it.
_EARLIEST = datetime(2009, 1, 1, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CLOCKS_DIFFER = timedelta(days=1)
# WhatsApp's own announcements come from it.
_WHATSAPP = Jid("0@s.whatsapp.net")
_STATUS = {"DELIVERED": Status.DELIVERED, "READ": Status.READ, "PLAYED": Status.READ}


class Reason(StrEnum):
    """Why an event is no message of a chat."""

    STATUS_UPDATE = "status_update"
    NOT_A_CHAT = "not_a_chat"
    NO_ADDRESS = "no_address"
    BETWEEN_OWN_DEVICES = "between_own_devices"
    NO_CONTENT = "no_content"
    NOT_ABOUT_THE_CUSTOMER = "not_about_the_customer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """The event is not for us, and why."""

    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an event happened and by whom."""

    chat: Address
    sender: Address
    is_group: bool


def moment(value: float, *, per_second: int, now: datetime) -> datetime:
    """A protocol's timestamp in UTC; what cannot be is moved to the nearest time that can.

    A message's is in milliseconds, a receipt's in seconds.
    """
    since_epoch = min(max(int(value) / per_second, 0.0), 1e11)
    latest = now + _CLOCKS_DIFFER
    if since_epoch >= (latest - _EPOCH).total_seconds():
        return now
    return max(_EPOCH + timedelta(seconds=since_epoch), _EARLIEST)


def to_message(event: Any, people: People, now: datetime) -> InboundMessage | Drop:
    info = event.Info
    # Own phone and this device tell each other keys and history; it looks like the owner writing to himself.
    if info.Category == "peer":
        return Drop(reason=Reason.BETWEEN_OWN_DEVICES)
    place = _place(info, people)
    if isinstance(place, Drop):
        return place
    said = read_content(event.Message)
    if said is not None and event.IsViewOnce:
        said = replace(said, metadata={**said.metadata, "view_once": True})
    return _message(event, place, said, people, now)


def to_unopened(event: Any, people: People, now: datetime, *, kept: bool) -> InboundMessage | Unopened | Drop:
    """For what this device could not open, or WhatsApp has `kept` from it, as most of what is to be seen once.

    What the owner writes takes a chat over, whatever it says.
    """
    place = _place(event.Info, people)
    if isinstance(place, Drop):
        return place
    metadata = {"unavailable": True} if kept else {}
    said = Said(type=MessageType.UNDECRYPTABLE, metadata=metadata) if _is_speech(event) else None
    message = _message(event, place, said, people, now)
    if isinstance(message, Drop) or message.from_me:
        return message
    return Unopened(message=replace(message, is_history=True))


def _is_speech(event: Any) -> bool:
    """What could not be opened and is none, such as an edit or a vote, says so outside."""
    info = event.Info
    is_hidden = event.DecryptFailMode == event.DECRYPT_FAIL_HIDE
    return info.Category != "peer" and not info.Edit and info.Type != "reaction" and not is_hidden


def _message(
    event: Any, place: Place, said: Said | None, people: People, now: datetime
) -> InboundMessage | Drop:
    info = event.Info
    external_id = clean(info.ID)
    if said is None or external_id is None:
        return Drop(reason=Reason.NO_CONTENT)
    from_me = info.MessageSource.IsFromMe
    return InboundMessage(
        external_id=ExternalId(external_id),
        chat=place.chat,
        sender=place.sender,
        sent_at=moment(info.Timestamp, per_second=1000, now=now),
        from_me=from_me,
        to_self=not place.is_group and people.is_mine(place.chat),
        is_group=place.is_group,
        sender_device=info.MessageSource.Sender.Device,
        # The owner's own name must never become the name of the customer he writes to.
        push_name=None if from_me else clean(info.Pushname),
        type=said.type,
        text=said.text,
        reply_to=said.reply_to,
        reply_to_me=answers_me(said, place, people, from_me=from_me),
        reply_to_sender=target_sender(said, place),
        mentions_me=any(people.is_me(parse_jid(mention)) for mention in said.mentions),
        metadata=said.metadata,
        raw=raw_json(event),
    )


def to_receipt(event: Any, people: People, now: datetime) -> Receipt | Drop:
    # Types that neonize does not know are left unset, and an unset one would read as DELIVERED.
    status = _STATUS.get(event.ReceiptType.Name(event.Type)) if event.HasField("Type") else None
    source = event.MessageSource
    chat = _chat(source, people)
    if isinstance(chat, Drop):
        return chat
    # READ_SELF and the receipts of own devices tell what the owner did, except in the chat with himself.
    if status is None or (source.IsFromMe and not people.is_me(chat.jid)):
        return Drop(reason=Reason.NOT_ABOUT_THE_CUSTOMER)
    ids = tuple(ExternalId(text) for text in map(clean, event.MessageIDs) if text)
    if not ids:
        return Drop(reason=Reason.NO_CONTENT)
    return Receipt(
        chat=chat, external_ids=ids, status=status, at=moment(event.Timestamp, per_second=1, now=now)
    )


def to_typing(event: Any, people: People) -> Typing | Drop:
    source = event.MessageSource
    chat = _chat(source, people)
    if isinstance(chat, Drop):
        return chat
    if source.IsFromMe or not event.HasField("State"):
        return Drop(reason=Reason.NOT_ABOUT_THE_CUSTOMER)
    return Typing(chat=chat, typing=event.State == event.COMPOSING)


def _place(info: Any, people: People) -> Place | Drop:
    source = info.MessageSource
    chat = _chat(source, people, destination=info.DeviceSentMeta.DestinationJID)
    if isinstance(chat, Drop):
        return chat
    sender = to_jid(source.Sender)
    if sender is None:
        return Drop(reason=Reason.NO_ADDRESS)
    return Place(
        chat=chat,
        sender=people.address(sender, to_jid(source.SenderAlt)),
        is_group=server_of(chat.jid) == GROUP_SERVER,
    )


def _chat(source: Any, people: People, destination: str = "") -> Address | Drop:
    """The chat with both its forms. The same customer writes now from his LID, now from his number."""
    jid, alt = to_jid(source.Chat), to_jid(source.SenderAlt)
    if source.IsFromMe:
        alt = to_jid(source.RecipientAlt)
        sent_to = parse_jid(destination)
        if sent_to is not None and people.is_me(jid) and not people.is_me(sent_to):
            jid = sent_to
    if jid is not None and server_of(jid) == "broadcast" and jid != STATUS_BROADCAST and not source.IsFromMe:
        # What a customer sends to his broadcast list belongs into the chat with him.
        jid = to_jid(source.Sender)
    if jid is None:
        return Drop(reason=Reason.NO_ADDRESS)
    if jid == STATUS_BROADCAST:
        return Drop(reason=Reason.STATUS_UPDATE)
    if server_of(jid) == GROUP_SERVER:
        return Address(jid=jid)
    if not is_person(jid) or jid == _WHATSAPP:
        return Drop(reason=Reason.NOT_A_CHAT)
    return people.address(jid, None if people.is_me(jid) else alt)


def answers_me(said: Said, place: Place, people: People, *, from_me: bool) -> bool:
    """Whether the message that is answered, or changed, was one of the account's."""
    if said.reply_to is None:
        return False
    quoted = parse_jid(said.quoted_sender or "")
    if quoted is not None:
        return people.is_me(quoted)
    # A key without participant says "mine" as its writer sees it; in a private chat the rest is the other's.
    if said.quoted_from_me is None:
        return False
    return from_me if said.quoted_from_me else not from_me and not place.is_group


def target_sender(said: Said, place: Place) -> Jid | None:
    """Who wrote the message that is answered, or changed, where the key or the quote tells."""
    if (quoted := parse_jid(said.quoted_sender or "")) is not None:
        return quoted
    return place.sender.jid if said.quoted_from_me else None
