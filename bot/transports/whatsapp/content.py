"""Reads what one WhatsApp message says: its type, its text, what it answers; knows neither chat nor sender."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from google.protobuf.unknown_fields import UnknownFieldSet

from storage.models import ExternalId, MessageType

# PostgreSQL stores no NUL, UTF-8 has no lone surrogates.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

_READING_KEYS = frozenset({"senderKeyDistributionMessage", "fastRatchetKeySenderKeyDistributionMessage"})
_SECRET_EDITS = ("MESSAGE_EDIT", "POLL_EDIT", "EVENT_EDIT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """`reply_to` is the quoted message's id, or the target's of an edit, a revoke or a reaction.

    `quoted` is the key or context that names whose message that was, None where nothing is answered.
    `metadata` as in InboundMessage.
    """

    type: MessageType
    text: str | None = None
    reply_to: ExternalId | None = None
    quoted_sender: str | None = None
    quoted_from_me: bool | None = None
    mentions: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


def clean(value: Any) -> str | None:
    """A text that can be stored; None if nothing is left. Protobuf gives bytes where it is not UTF-8."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")
    return _UNSTORABLE.sub("", text) or None


def read_content(message: Any) -> Said | None:
    """None if there is nothing for a reader in it: keys, or the device's housekeeping."""
    message = unwrapped(message)
    fields = {field.name: value for field, value in message.ListFields()}
    content = fields.keys() - {"messageContextInfo"}
    if content and content <= _READING_KEYS:
        # A group's sender comes with two events of one id: first only the key to read him, then the text.
        return None
    if "protocolMessage" in fields:
        return _protocol(fields["protocolMessage"])
    for name, read in _READERS.items():
        if name in fields:
            return _marked(read(fields[name]), fields[name])
    # What a newer WhatsApp has added is somebody's word until we know better; nothing at all is nobody's.
    is_empty = not content and not len(UnknownFieldSet(message))
    return Said(type=MessageType.SYSTEM if is_empty else MessageType.UNKNOWN)


def unwrapped(message: Any) -> Any:
    """Down to the message itself: device-sent, ephemeral, view-once and captioned messages are envelopes."""
    for _ in range(8):
        inner = next((value.message for _, value in message.ListFields() if _is_envelope(value)), None)
        if inner is None:
            break
        message = inner
    return message


def _is_envelope(value: Any) -> bool:
    descriptor = getattr(value, "DESCRIPTOR", None)
    return (
        descriptor is not None
        and descriptor.name in ("FutureProofMessage", "DeviceSentMessage")
        and value.HasField("message")
    )


def _marked(said: Said, content: Any) -> Said:
    marks: dict[str, Any] = {}
    if getattr(content, "PTT", False):
        marks["voice"] = True
    if getattr(content, "viewOnce", False):
        marks["view_once"] = True
    context = getattr(content, "contextInfo", None)
    if context is not None and context.expiration:
        marks["expires_in"] = context.expiration
    return replace(said, metadata={**said.metadata, **marks}) if marks else said


def _protocol(protocol: Any) -> Said | None:
    kind = protocol.Type.Name(protocol.type) if protocol.type in protocol.Type.values() else ""
    # REVOKE is the first value of the enumeration, so an unset type reads as one: only with a target it is.
    if kind == "REVOKE" and protocol.key.ID:
        return _about(MessageType.REVOKE, protocol.key)
    if kind == "MESSAGE_EDIT" or protocol.HasField("editedMessage"):
        edited = read_content(protocol.editedMessage)
        # A caption may be edited away; of what cannot be read we must not say so.
        is_readable = edited is not None and edited.type not in (MessageType.UNKNOWN, MessageType.SYSTEM)
        return _about(MessageType.EDIT, protocol.key, (edited.text or "") if edited and is_readable else None)
    if kind == "EPHEMERAL_SETTING":
        return Said(type=MessageType.SYSTEM, metadata={"expires_in": protocol.ephemeralExpiration})
    # Key shares and history notices between devices: nobody has spoken.
    return None


def _about(kind: MessageType, key: Any, text: str | None = None) -> Said:
    target = clean(key.ID)
    return Said(
        type=kind,
        text=text,
        reply_to=ExternalId(target) if target else None,
        quoted_sender=clean(key.participant),
        quoted_from_me=key.fromMe,
    )


def _with_context(kind: MessageType, content: Any, text: Any) -> Said:
    context = content.contextInfo
    target = clean(context.stanzaID)
    return Said(
        type=kind,
        text=clean(text),
        reply_to=ExternalId(target) if target else None,
        quoted_sender=clean(context.participant),
        mentions=tuple(mention for mention in map(clean, context.mentionedJID) if mention),
    )


def _field(kind: MessageType, name: str) -> Callable[[Any], Said]:
    return lambda content: _with_context(kind, content, getattr(content, name))


def _only(kind: MessageType) -> Callable[[Any], Said]:
    return lambda content: _with_context(kind, content, None)


def _location(content: Any) -> Said:
    """What people call the place, else where it is."""
    words = _lines((content.name, content.address, content.comment))
    return _with_context(MessageType.LOCATION, content, words or _coordinates(content))


def _live_location(content: Any) -> Said:
    return _with_context(MessageType.LOCATION, content, content.caption or _coordinates(content))


def _coordinates(content: Any) -> str | None:
    latitude, longitude = content.degreesLatitude, content.degreesLongitude
    return f"{latitude:.6f}, {longitude:.6f}" if latitude or longitude else None


def _contacts(content: Any) -> Said:
    """The names of all; the heading, which only counts them, where there are none."""
    names = ", ".join(filter(None, (clean(contact.displayName) for contact in content.contacts)))
    return _with_context(MessageType.CONTACT, content, names or content.displayName)


def _poll(content: Any) -> Said:
    options = (f"- {name}" for option in content.options if (name := clean(option.optionName)))
    return _with_context(MessageType.POLL, content, _lines((content.name, *options)))


def _vote(content: Any) -> Said:
    """What was chosen is sealed: it is read elsewhere, if at all."""
    return replace(_about(MessageType.POLL, content.pollCreationMessageKey), metadata={"voted": None})


def _lines(texts: Iterable[Any]) -> str:
    return "\n".join(line for line in map(clean, texts) if line)


def _secretly(content: Any) -> Said:
    kind = content.SecretEncType.Name(content.secretEncType)
    return _about(MessageType.EDIT if kind in _SECRET_EDITS else MessageType.SYSTEM, content.targetMessageKey)


POLLS = (
    "pollCreationMessage",
    "pollCreationMessageV2",
    "pollCreationMessageV3",
    "pollCreationMessageV5",
    "pollCreationMessageV6",
)
# What a thumb or a device does to something that is there already: nobody has spoken. Whatever else has no reader
# below, such as an order or an invitation to a group, is somebody's word.
_WORDLESS = (
    "acp2SettingMessage",
    "botPlatformRegistrationSuccessMessage",
    "cancelPaymentRequestMessage",
    "declinePaymentRequestMessage",
    "encEventResponseMessage",
    "groupRootKeyShare",
    "limitSharingMessage",
    "messageHistoryBundle",
    "messageHistoryNotice",
    "pollAddOptionMessage",
    "rootSecretDistributeMessage",
    "scheduledCallEditMessage",
    "splitPaymentUpdateMessage",
    "statusNotificationMessage",
    "statusStickerInteractionMessage",
    "stickerSyncRmrMessage",
)
_TEXT, _POLL = MessageType.TEXT, MessageType.POLL
# The first that is there decides: some messages carry a second one for old phones.
_READERS: Mapping[str, Callable[[Any], Said]] = {
    "conversation": lambda text: Said(type=_TEXT, text=clean(text)),
    "extendedTextMessage": _field(_TEXT, "text"),
    "imageMessage": _field(MessageType.IMAGE, "caption"),
    "videoMessage": _field(MessageType.VIDEO, "caption"),
    "ptvMessage": _field(MessageType.VIDEO, "caption"),
    "audioMessage": _only(MessageType.AUDIO),
    "documentMessage": _field(MessageType.DOCUMENT, "caption"),
    "stickerMessage": _only(MessageType.STICKER),
    "stickerPackMessage": _field(MessageType.STICKER, "caption"),
    "locationMessage": _location,
    "liveLocationMessage": _live_location,
    "contactMessage": _field(MessageType.CONTACT, "displayName"),
    "contactsArrayMessage": _contacts,
    "buttonsResponseMessage": _field(_TEXT, "selectedDisplayText"),
    "templateButtonReplyMessage": _field(_TEXT, "selectedDisplayText"),
    "listResponseMessage": _field(_TEXT, "title"),
    "interactiveResponseMessage": lambda content: _with_context(_TEXT, content, content.body.text),
    **dict.fromkeys(POLLS, _poll),
    "pollUpdateMessage": _vote,
    # An empty one takes an earlier one back; an encrypted one may be anything.
    "reactionMessage": lambda content: _about(MessageType.REACTION, content.key, clean(content.text) or ""),
    "encReactionMessage": lambda content: _about(MessageType.REACTION, content.targetMessageKey),
    "secretEncryptedMessage": _secretly,
    "pinInChatMessage": lambda content: _about(MessageType.SYSTEM, content.key),
    "keepInChatMessage": lambda content: _about(MessageType.SYSTEM, content.key),
    # The heading of several pictures that follow as messages of their own.
    "albumMessage": _only(MessageType.SYSTEM),
    "callLogMesssage": lambda content: Said(type=MessageType.SYSTEM),
    "call": lambda content: Said(type=MessageType.SYSTEM),
    **dict.fromkeys(_WORDLESS, lambda content: Said(type=MessageType.SYSTEM)),
    # In the place of what its sender keeps from linked devices.
    "placeholderMessage": lambda content: Said(type=MessageType.UNDECRYPTABLE),
}
