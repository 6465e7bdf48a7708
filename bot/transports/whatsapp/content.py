"""Reads what one WhatsApp message says: its type, its text, what it answers; knows neither chat nor sender."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from storage.models import ExternalId, MessageType

# PostgreSQL stores no NUL, UTF-8 has no lone surrogates.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

_READING_KEYS = frozenset({"senderKeyDistributionMessage", "fastRatchetKeySenderKeyDistributionMessage"})
_SECRET_EDITS = ("MESSAGE_EDIT", "POLL_EDIT", "EVENT_EDIT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """`reply_to` is the quoted message's id, or the target's of an edit, a revoke or a reaction.

    `quoted` is the key or context that names whose message that was, None where nothing is answered.
    """

    type: MessageType
    text: str | None = None
    reply_to: ExternalId | None = None
    quoted_sender: str | None = None
    quoted_from_me: bool | None = None
    mentions: tuple[str, ...] = ()


def clean(value: Any) -> str | None:
    """A text that can be stored; None if nothing is left. Protobuf gives bytes where it is not UTF-8."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")
    return _UNSTORABLE.sub("", text) or None


def read_content(message: Any) -> Said | None:
    """None if there is nothing for a reader in it: keys, or the device's housekeeping."""
    message = _unwrap(message)
    fields = {field.name: value for field, value in message.ListFields()}
    content = fields.keys() - {"messageContextInfo"}
    if content and content <= _READING_KEYS:
        # A group's sender comes with two events of one id: first only the key to read him, then the text.
        return None
    if "protocolMessage" in fields:
        return _protocol(fields["protocolMessage"])
    for name, read in _READERS.items():
        if name in fields:
            return read(fields[name])
    return Said(type=MessageType.UNKNOWN)


def _unwrap(message: Any) -> Any:
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


def _protocol(protocol: Any) -> Said | None:
    kind = protocol.Type.Name(protocol.type) if protocol.type in protocol.Type.values() else ""
    # REVOKE is the first value of the enumeration, so an unset type reads as one: only with a target it is.
    if kind == "REVOKE" and protocol.key.ID:
        return _about(MessageType.REVOKE, protocol.key)
    if kind == "MESSAGE_EDIT" or protocol.HasField("editedMessage"):
        edited = read_content(protocol.editedMessage)
        return _about(MessageType.EDIT, protocol.key, edited.text if edited else None)
    # Key shares, history notices and timers between devices: nobody has spoken.
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


def _secretly(content: Any) -> Said:
    kind = content.SecretEncType.Name(content.secretEncType)
    return _about(
        MessageType.EDIT if kind in _SECRET_EDITS else MessageType.UNKNOWN, content.targetMessageKey
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
    "locationMessage": _field(MessageType.LOCATION, "comment"),
    "liveLocationMessage": _field(MessageType.LOCATION, "caption"),
    "contactMessage": _field(MessageType.CONTACT, "displayName"),
    "contactsArrayMessage": _field(MessageType.CONTACT, "displayName"),
    "buttonsResponseMessage": _field(_TEXT, "selectedDisplayText"),
    "templateButtonReplyMessage": _field(_TEXT, "selectedDisplayText"),
    "listResponseMessage": _field(_TEXT, "title"),
    "interactiveResponseMessage": lambda content: _with_context(_TEXT, content, content.body.text),
    "pollCreationMessage": _field(_POLL, "name"),
    "pollCreationMessageV2": _field(_POLL, "name"),
    "pollCreationMessageV3": _field(_POLL, "name"),
    "pollCreationMessageV5": _field(_POLL, "name"),
    "pollCreationMessageV6": _field(_POLL, "name"),
    "pollUpdateMessage": lambda content: _about(_POLL, content.pollCreationMessageKey),
    "reactionMessage": lambda content: _about(MessageType.REACTION, content.key, clean(content.text)),
    "encReactionMessage": lambda content: _about(MessageType.REACTION, content.targetMessageKey),
    "secretEncryptedMessage": _secretly,
    "pinInChatMessage": lambda content: _about(MessageType.SYSTEM, content.key),
    "keepInChatMessage": lambda content: _about(MessageType.SYSTEM, content.key),
    # The heading of several pictures that follow as messages of their own.
    "albumMessage": _only(MessageType.SYSTEM),
    "callLogMesssage": lambda content: Said(type=MessageType.SYSTEM),
}
