"""What phones show: a decrypted message, its text and its file; and how such messages are made. No network."""

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

from bot.lab import protobuf
from bot.lab.errors import LabError
from bot.lab.media import Attachment, MediaKind, MediaStore

_KINDS: tuple[MediaKind, ...] = ("image", "video", "audio", "document", "sticker")
_DEFAULT_TYPES: dict[MediaKind, str] = {
    "image": "image/png",
    "video": "video/mp4",
    "audio": "audio/ogg; codecs=opus",
    "document": "application/pdf",
    "sticker": "image/webp",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A message on a phone. `chat` and `sender` are numbers as +5511…; `proto` is the decrypted message."""

    id: str
    text: str
    chat: str
    sender: str
    from_me: bool
    at: dt.datetime
    proto: Any = field(repr=False)
    _store: MediaStore = field(repr=False)

    @property
    def kind(self) -> MediaKind | None:
        return next((kind for kind in _KINDS if self.proto.HasField(f"{kind}Message")), None)

    def media(self) -> bytes:
        """The file, downloaded and decrypted. LabError if the message has none."""
        if (kind := self.kind) is None:
            raise LabError("this message has no file")
        part = getattr(self.proto, f"{kind}Message")
        attachment = Attachment(
            key=part.mediaKey,
            path=part.directPath,
            plain_sha256=part.fileSHA256,
            sealed_sha256=part.fileEncSHA256,
            plain_bytes=part.fileLength,
        )
        return self._store.download(kind, attachment)


def text_of(message: Any) -> str:
    """What a person reads: the text, or a file's caption, or the new text of an edit."""
    if message.HasField("protocolMessage"):
        return text_of(message.protocolMessage.editedMessage)
    captioned = (message.imageMessage, message.videoMessage, message.documentMessage)
    texts = (message.conversation, message.extendedTextMessage.text, *(part.caption for part in captioned))
    return next((text for text in texts if text), "")


def text_message(text: str, *, quoted: Heard | None, quoted_sender: str) -> Any:
    if quoted is None:
        return protobuf.Message(conversation=text)
    context = protobuf.ContextInfo(stanzaID=quoted.id, participant=quoted_sender, quotedMessage=quoted.proto)
    return protobuf.Message(extendedTextMessage=protobuf.ExtendedTextMessage(text=text, contextInfo=context))


def media_message(
    kind: MediaKind, attachment: Attachment, *, caption: str, mimetype: str | None, filename: str | None
) -> Any:
    fields: dict[str, object] = {
        "mediaKey": attachment.key,
        "directPath": attachment.path,
        "URL": f"https://mmg.whatsapp.net{attachment.path}",
        "fileSHA256": attachment.plain_sha256,
        "fileEncSHA256": attachment.sealed_sha256,
        "fileLength": attachment.plain_bytes,
        "mimetype": mimetype or _DEFAULT_TYPES[kind],
    }
    if caption and kind in ("image", "video", "document"):
        fields["caption"] = caption
    if filename and kind == "document":
        fields["fileName"] = filename
    make = {
        "image": protobuf.ImageMessage,
        "video": protobuf.VideoMessage,
        "audio": protobuf.AudioMessage,
        "document": protobuf.DocumentMessage,
        "sticker": protobuf.StickerMessage,
    }[kind]
    return protobuf.Message(**{f"{kind}Message": make(**fields)})
