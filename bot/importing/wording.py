"""What WhatsApp itself writes in an export, told by its words in many languages: omitted media, edits, deletions.

Where the place tells (between angle brackets, behind a mark of direction) a part of a word is enough; elsewhere
it takes a whole sentence, since a person may write anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from bot.importing.stamps import INVISIBLE
from bot.importing.vocabulary import words
from storage.models import MessageType

_FILE_NAME = r"[^\n<>:/\\|?*]{1,200}\.[A-Za-z0-9]{1,8}"
# Android: `IMG-20231231-WA0001.jpg (file attached)`, the caption on the lines below. iOS: `<attached: …>` after it.
_ATTACHED_ANDROID = re.compile(rf"({_FILE_NAME}) \(([^()\n]{{2,40}})\)")
_ATTACHED_IOS = re.compile(rf"<([^<>:\n]{{2,40}}): ?({_FILE_NAME})>$")
_NAMED_BY_WHATSAPP = re.compile(
    r"(?:(IMG|VID|AUD|PTT|STK|DOC)-\d{8}-WA\d+|\d{5,}-(PHOTO|VIDEO|AUDIO|GIF|STICKER|DOCUMENT|PTT)-)",
    re.IGNORECASE,
)
_KIND_BY_NAME = {
    "img": MessageType.IMAGE, "photo": MessageType.IMAGE, "vid": MessageType.VIDEO, "video": MessageType.VIDEO,
    "gif": MessageType.VIDEO, "aud": MessageType.AUDIO, "ptt": MessageType.AUDIO, "audio": MessageType.AUDIO,
    "stk": MessageType.STICKER, "sticker": MessageType.STICKER, "doc": MessageType.DOCUMENT,
    "document": MessageType.DOCUMENT,
}  # fmt: skip
_KIND_BY_ENDING = {
    **dict.fromkeys(("jpg", "jpeg", "png", "gif", "heic"), MessageType.IMAGE),
    **dict.fromkeys(("mp4", "mov", "3gp", "mkv", "avi"), MessageType.VIDEO),
    **dict.fromkeys(("opus", "m4a", "mp3", "ogg", "amr", "aac", "wav"), MessageType.AUDIO),
    "webp": MessageType.STICKER,
    "vcf": MessageType.CONTACT,
}

_ATTACHED = words("attached")
_MEDIA = words("media")
_EDITED = words("edited")
_OMITTED = words("omitted")
_KIND_WORDS = {
    word: kind
    for kind in (
        MessageType.IMAGE, MessageType.VIDEO, MessageType.AUDIO, MessageType.STICKER, MessageType.DOCUMENT,
        MessageType.CONTACT,
    )
    for word in words(kind)
}  # fmt: skip
_DELETED = words("deleted")
_LOCATION = re.compile(r"[^\n]{0,40}?:? ?https://(?:maps\.google\.com/\?q=|www\.google\.com/maps)\S+$")
_POLL = re.compile(r"[^\n:]{2,20}:\n[^\n]+(?:\n[^\n:]{2,20}: [^\n]+ \(\d+ [^()\n]+\))+")
# Without one of these nothing but people's words is there.
_MARKS = re.compile("[<(\u200e]|://")
_EDGES = " .。!"


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a message says. `file`: the name of what is attached; a medium without one was left out of the export.

    `by_whatsapp`: the words are WhatsApp's own, of a kind that is not known here.
    """

    text: str | None
    type: MessageType = MessageType.TEXT
    file: str | None = None
    edited: bool = False
    deleted: bool = False
    by_whatsapp: bool = False

    @property
    def metadata(self) -> dict[str, Any]:
        marks = {"edited": self.edited, "deleted": self.deleted}
        return {key: True for key, is_so in marks.items() if is_so}


def read_content(written: str, files: frozenset[str] = frozenset()) -> Content:
    """What a message's text says. `files`: what the archive holds, which tells an attachment in any language."""
    text, edited = _without_edit_mark(written.strip())
    plain = INVISIBLE.sub("", text).strip()
    if plain.casefold().strip(_EDGES) in _DELETED:
        return Content(text=None, type=MessageType.REVOKE, deleted=True)
    if _MARKS.search(text) is None:
        return Content(text=plain, edited=edited)
    content = _medium(text, plain, files)
    for kind, form in ((MessageType.LOCATION, _LOCATION), (MessageType.POLL, _POLL)):
        if content is None and form.fullmatch(plain):
            content = Content(text=plain, type=kind)
    if content is None:
        # iOS begins each mark of its own with one of direction; people's words begin with none.
        content = Content(text=plain, by_whatsapp=text.startswith("\u200e"))
    return replace(content, edited=edited)


def _without_edit_mark(text: str) -> tuple[str, bool]:
    head, opened, mark = text.rpartition("<")
    said = head.rstrip().removesuffix("\u200e").rstrip()
    if (
        opened
        and mark.endswith(">")
        and len(mark) < 60
        and ":" not in mark
        and _has(mark, _EDITED)
        and said
        and mark[0] == mark[0].upper()
    ):
        return said, True
    return text, False


def _medium(text: str, plain: str, files: frozenset[str]) -> Content | None:
    head, _, below = plain.partition("\n")
    if (found := _ATTACHED_ANDROID.fullmatch(head)) and (
        found[1] in files or _has(found[2], _ATTACHED) or _NAMED_BY_WHATSAPP.match(found[1])
    ):
        return _file(found[1], below)
    if (found := _ATTACHED_IOS.search(plain)) and (
        found[2] in files or _has(found[1], _ATTACHED) or _NAMED_BY_WHATSAPP.match(found[2])
    ):
        return _file(found[2], plain[: found.start()])
    if head.startswith("<") and head.endswith(">") and len(head) < 60 and _has(head, _MEDIA):
        return Content(text=below.strip() or None, type=MessageType.UNKNOWN)
    return _omitted_on_ios(text)


def _omitted_on_ios(text: str) -> Content | None:
    caption, marked, mark = text.rpartition("\u200e")
    said = " ".join(INVISIBLE.sub("", mark).casefold().strip(_EDGES).split())
    if not marked or not 0 < len(said) <= 50 or not _has(said, _OMITTED):
        return None
    kind = next((kind for word, kind in _KIND_WORDS.items() if word in said), MessageType.UNKNOWN)
    return Content(text=INVISIBLE.sub("", caption).strip() or None, type=kind)


def _file(name: str, caption: str) -> Content:
    found = _NAMED_BY_WHATSAPP.match(name)
    ending = name.rpartition(".")[2].casefold()
    kind = _KIND_BY_ENDING.get(ending, MessageType.DOCUMENT)
    if found:
        kind = _KIND_BY_NAME[(found[1] or found[2]).casefold()]
    elif kind is MessageType.STICKER:
        kind = MessageType.IMAGE
    return Content(text=caption.strip() or None, type=kind, file=name)


def _has(written: str, parts: Iterable[str]) -> bool:
    written = written.casefold()
    return any(part in written for part in parts)
