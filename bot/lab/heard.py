"""What phones show: a decrypted message, its kind, its text and its file. No network."""

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

from bot.lab import messages
from bot.lab.errors import LabError
from bot.lab.media import Attachment, MediaKind, MediaStore

_FILES: tuple[MediaKind, ...] = ("image", "video", "audio", "document", "sticker")
_KINDS = {
    "conversation": "text",
    "extendedTextMessage": "text",
    **{f"{kind}Message": kind for kind in _FILES},
    "locationMessage": "location",
    "liveLocationMessage": "live location",
    "contactMessage": "contact",
    "contactsArrayMessage": "contact",
    "pollCreationMessage": "poll",
    "pollCreationMessageV3": "poll",
    "pollUpdateMessage": "vote",
    "reactionMessage": "reaction",
}
_VIEW_ONCE = ("viewOnceMessage", "viewOnceMessageV2", "viewOnceMessageV2Extension")


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A message on a phone. `chat` and `sender` are numbers as +5511…; the chat of a group is its id.

    `proto` is the decrypted message.
    """

    id: str
    text: str
    chat: str
    sender: str
    from_me: bool
    at: dt.datetime
    proto: Any = field(repr=False)
    _store: MediaStore = field(repr=False)

    @property
    def content(self) -> Any:
        """The message out of its envelopes."""
        return messages.opened(self.proto)

    @property
    def kind(self) -> str | None:
        """Text, image, voice (an audio recorded in the chat), location, poll…; None for what phones do not show."""
        names = (name.name for name, _ in self.content.ListFields())
        kind = next((_KINDS[name] for name in names if name in _KINDS), None)
        return "voice" if kind == "audio" and self.content.audioMessage.PTT else kind

    @property
    def view_once(self) -> bool:
        return any(self.proto.HasField(name) for name in _VIEW_ONCE)

    @property
    def disappears_after(self) -> dt.timedelta | None:
        """None: it stays."""
        contexts = (
            content.contextInfo
            for _, content in self.content.ListFields()
            if hasattr(content, "contextInfo") and content.HasField("contextInfo")
        )
        seconds = next((context.expiration for context in contexts), 0)
        return dt.timedelta(seconds=seconds) if seconds else None

    def media(self) -> bytes:
        """The file, downloaded and decrypted. LabError if the message has none."""
        kind = next((kind for kind in _FILES if self.content.HasField(f"{kind}Message")), None)
        if kind is None:
            raise LabError("this message has no file")
        part = getattr(self.content, f"{kind}Message")
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
    message = messages.opened(message)
    if message.HasField("protocolMessage"):
        return text_of(message.protocolMessage.editedMessage)
    captioned = (message.imageMessage, message.videoMessage, message.documentMessage)
    texts = (message.conversation, message.extendedTextMessage.text, *(part.caption for part in captioned))
    return next((text for text in texts if text), "")
