"""Messages as people's phones make them: one builder for each kind, and the envelopes around them; sends nothing."""

import datetime as dt
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bot.lab import protobuf
from bot.lab.errors import LabError
from bot.lab.keys import hkdf
from bot.lab.media import Attachment, MediaKind

_SECRET_BYTES = 32
_IV_BYTES = 12
_DEFAULT_TYPES: dict[MediaKind, str] = {
    "image": "image/png",
    "video": "video/mp4",
    "audio": "audio/ogg; codecs=opus",
    "document": "application/pdf",
    "sticker": "image/webp",
}
_MEDIA = {
    "image": protobuf.ImageMessage,
    "video": protobuf.VideoMessage,
    "audio": protobuf.AudioMessage,
    "document": protobuf.DocumentMessage,
    "sticker": protobuf.StickerMessage,
}
# What a stanza says of its content without opening it; all else is a "text".
_STANZA_TYPES = {
    **dict.fromkeys((f"{kind}Message" for kind in _MEDIA), "media"),
    "contactMessage": "media",
    "contactsArrayMessage": "media",
    "locationMessage": "media",
    "liveLocationMessage": "media",
    "buttonsResponseMessage": "media",
    "listResponseMessage": "media",
    "pollCreationMessage": "poll",
    "pollCreationMessageV3": "poll",
    "pollUpdateMessage": "poll",
    "reactionMessage": "reaction",
}
_MOST_ENVELOPES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """Somebody in an address book; `number` is +5511…."""

    name: str
    number: str

    @property
    def vcard(self) -> str:
        digits = self.number.lstrip("+")
        lines = ("BEGIN:VCARD", "VERSION:3.0", f"FN:{self.name}", f"TEL;waid={digits}:{self.number}")
        return "\n".join((*lines, "END:VCARD"))


def opened(message: Any) -> Any:
    """The message itself, out of its envelopes (disappearing, view-once, captioned document)."""
    for _ in range(_MOST_ENVELOPES):
        inner = [
            value.message
            for field, value in message.ListFields()
            if field.message_type is not None and field.message_type.name == "FutureProofMessage"
        ]
        if not inner:
            break
        message = inner[0]
    return message


def stanza_type(message: Any) -> str:
    names = (field.name for field, _ in opened(message).ListFields())
    return next((_STANZA_TYPES[name] for name in names if name in _STANZA_TYPES), "text")


def text(words: str) -> Any:
    return protobuf.Message(conversation=words)


def quoting(message: Any, *, quoted_id: str, author: str, quoted: Any) -> Any:
    """As an answer to `quoted`, which `author` (a JID) has written."""
    context = protobuf.ContextInfo(stanzaID=quoted_id, participant=author, quotedMessage=quoted)
    return _with_context(message, context)


def media(
    kind: MediaKind,
    attachment: Attachment,
    *,
    caption: str = "",
    mimetype: str | None = None,
    filename: str | None = None,
    **details: object,
) -> Any:
    """`details` are fields of that kind's protobuf, such as `seconds` or `isAnimated`.

    A document with a caption comes in an envelope of its own, as phones send it.
    """
    fields: dict[str, object] = {
        "mediaKey": attachment.key,
        "directPath": attachment.path,
        "URL": f"https://mmg.whatsapp.net{attachment.path}",
        "fileSHA256": attachment.plain_sha256,
        "fileEncSHA256": attachment.sealed_sha256,
        "fileLength": attachment.plain_bytes,
        "mimetype": mimetype or _DEFAULT_TYPES[kind],
        **details,
    }
    if caption and kind in ("image", "video", "document"):
        fields["caption"] = caption
    if filename and kind == "document":
        fields["fileName"] = filename
    message = protobuf.Message(**{f"{kind}Message": _MEDIA[kind](**fields)})
    if caption and kind == "document":
        return _within("documentWithCaptionMessage", message)
    return message


def location(latitude: float, longitude: float, *, name: str = "", address: str = "") -> Any:
    place = protobuf.LocationMessage(degreesLatitude=latitude, degreesLongitude=longitude)
    if name:
        place.name = name
    if address:
        place.address = address
    return protobuf.Message(locationMessage=place)


def live_location(latitude: float, longitude: float, *, caption: str = "") -> Any:
    place = protobuf.LiveLocationMessage(
        degreesLatitude=latitude, degreesLongitude=longitude, caption=caption, sequenceNumber=1
    )
    return protobuf.Message(liveLocationMessage=place)


def contacts(cards: Sequence[Card]) -> Any:
    if not cards:
        raise LabError("there is no contact to send")
    made = [protobuf.ContactMessage(displayName=card.name, vcard=card.vcard) for card in cards]
    if len(made) == 1:
        return protobuf.Message(contactMessage=made[0])
    several = protobuf.ContactsArrayMessage(displayName=f"{len(made)} contacts", contacts=made)
    return protobuf.Message(contactsArrayMessage=several)


def poll(question: str, options: Sequence[str], *, selectable: int = 1) -> Any:
    """Its secret is what votes are encrypted with."""
    creation = protobuf.PollCreationMessage(
        name=question,
        options=[protobuf.PollCreationMessage.Option(optionName=option) for option in options],
        selectableOptionsCount=selectable,
    )
    context = protobuf.MessageContextInfo(messageSecret=os.urandom(_SECRET_BYTES))
    # With one answer allowed phones use the third version of the field, else the first.
    name = "pollCreationMessageV3" if selectable == 1 else "pollCreationMessage"
    return protobuf.Message(**{name: creation, "messageContextInfo": context})


def vote(options: Sequence[str], *, key: Any, secret: bytes, creator: str, voter: str) -> Any:
    """`key` names the poll as the voter sees it; `creator` and `voter` are JIDs."""
    chosen = [hashlib.sha256(option.encode()).digest() for option in options]
    plain: bytes = protobuf.PollVoteMessage(selectedOptions=chosen).SerializeToString()
    info = f"{key.ID}{creator}{voter}Poll Vote".encode()
    iv = os.urandom(_IV_BYTES)
    sealed = AESGCM(hkdf(secret, 32, info=info)).encrypt(iv, plain, f"{key.ID}\0{voter}".encode())
    update = protobuf.PollUpdateMessage(
        pollCreationMessageKey=key, vote=protobuf.PollEncValue(encPayload=sealed, encIV=iv)
    )
    return protobuf.Message(pollUpdateMessage=update)


def button_reply(button: str, button_id: str) -> Any:
    reply = protobuf.ButtonsResponseMessage(selectedDisplayText=button, selectedButtonID=button_id)
    return protobuf.Message(buttonsResponseMessage=reply)


def list_reply(title: str, row_id: str) -> Any:
    chosen = protobuf.ListResponseMessage.SingleSelectReply(selectedRowID=row_id)
    return protobuf.Message(
        listResponseMessage=protobuf.ListResponseMessage(title=title, singleSelectReply=chosen)
    )


def view_once(message: Any, *, envelope: str = "viewOnceMessageV2") -> Any:
    """To be seen a single time. Older phones use the envelope `viewOnceMessage`, voice notes `…V2Extension`."""
    made = protobuf.Message.FromString(message.SerializeToString())
    for _, content in made.ListFields():
        if hasattr(content, "viewOnce"):
            content.viewOnce = True
    return _within(envelope, made)


def mentioning(message: Any, people: Sequence[str]) -> Any:
    """Each of these ids is called upon; the text names them as it likes."""
    return _with_context(message, protobuf.ContextInfo(mentionedJID=people))


def disappearing(message: Any, after: dt.timedelta) -> Any:
    """Gone from the phones after this time, counted from its arrival."""
    context = protobuf.ContextInfo(expiration=int(after.total_seconds()))
    return _within("ephemeralMessage", _with_context(message, context))


def timer(after: dt.timedelta | None) -> Any:
    """Turns disappearing messages on for a chat; None turns them off."""
    setting = protobuf.ProtocolMessage(
        type=protobuf.ProtocolMessage.EPHEMERAL_SETTING,
        ephemeralExpiration=int(after.total_seconds()) if after else 0,
    )
    return protobuf.Message(protocolMessage=setting)


def for_own_devices(message: Any, chat: str) -> Any:
    """The copy that one's other devices get, who are told in which chat it was."""
    sent = protobuf.DeviceSentMessage(destinationJID=chat, message=message)
    return _with_secret_of(message, protobuf.Message(deviceSentMessage=sent))


def _within(envelope: str, message: Any) -> Any:
    made = protobuf.Message(**{envelope: protobuf.FutureProofMessage(message=message)})
    return _with_secret_of(message, made)


def _with_secret_of(message: Any, outer: Any) -> Any:
    """Readers look for a message's secret on the outside."""
    if message.HasField("messageContextInfo"):
        outer.messageContextInfo.CopyFrom(message.messageContextInfo)
    return outer


def _with_context(message: Any, context: Any) -> Any:
    """A bare text has no place for a context, so it becomes the other kind of text."""
    made = protobuf.Message.FromString(message.SerializeToString())
    if made.HasField("conversation"):
        words = made.conversation
        made.ClearField("conversation")
        made.extendedTextMessage.text = words
    for _, content in opened(made).ListFields():
        if hasattr(content, "contextInfo"):
            content.contextInfo.MergeFrom(context)
    return made
